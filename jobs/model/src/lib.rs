#![doc = include_str!("../README.md")]

mod access;
mod artifact;
mod audit;
mod device;
mod envelope;
mod failure;
mod flow;
mod id;
mod job;
mod key;
mod log;
mod person;
mod policy;
mod progress;
mod provider;
mod scale;
mod schedule;
mod state;
mod stats;
mod steering;
mod suppression;
mod tenant;
mod webhook;
mod why;
mod worker;

pub use access::{Scope, Scopes};
pub use artifact::{Artifact, BlobId};
pub use audit::{AuditEvent, Outcome};
pub use device::{DeviceId, DeviceInfo};
pub use envelope::{Envelope, KEY_LIFE, KEY_LIVES, MAX_PAYLOAD_BYTES, MAX_TAGS, Submission};
pub use failure::{ErrorClass, ErrorReport, Failure, NextStep};
pub use flow::{BATCH_KIND, MAX_BATCH, MAX_PARENTS, Parent, ParentOutcome, Tie};
pub use id::{InvalidName, JobId, KindName, QueueName};
pub use job::{Job, JobRecord, RunReport};
pub use key::{KeyInfo, NewSecret};
pub use log::{LogEntry, LogLine, LogPage, MAX_LOG_LINE_CHARS, MAX_LOG_LINES};
pub use person::{Language, LinkPurpose, Profile, Role, SessionInfo, UserId, UserInfo};
pub use policy::{Backoff, History, Isolation, Policy, PolicyOverrides, Retention};
pub use progress::Progress;
pub use provider::{ProviderCheck, ProviderInfo, ProviderList, SpendingInfo};
pub use scale::{BusyProcess, MAX_PROCESSES, ScaleBounds, ScaleProcesses, ScaleSignal, ScaleSlots};
pub use schedule::{Rule, ScheduleFire, ScheduleId, ScheduleInfo, ScheduledJob};
pub use state::{
    Channel, DevicePlatform, FireOutcome, HealthStatus, LogLevel, Missed, Overlap, ParentFailure, ParkReason, Priority,
    RetentionClass, SmsState, StatDimension, StatStep, State, SuppressionReason, TokenKind, UnknownWord,
};
pub use stats::{JobFigures, JobPoint, JobSeries, JobStats, Percentiles};
pub use steering::{Limit, LimitName, LimitState, MAX_LIMITS, MAX_UNIQUE, Rate, TenantName, Unique, UniqueUntil};
pub use suppression::{SuppressionInfo, is_mail_address};
pub use tenant::TenantInfo;
pub use webhook::{WebhookEvent, WebhookId, WebhookInfo, WebhookTarget};
pub use why::{Awaited, Block, Busy, EstimatedStart, Knowledge, NoEstimate, Why};
pub use worker::{MAX_WORKER_JOBS, WorkerInfo};
