#![doc = include_str!("../README.md")]

mod audio;
mod catalogue;
mod mail_send;
mod maintenance;
mod media;
mod media_probe;
mod webhook_deliver;

pub use audio::{
    AudioCodec, AudioDerive, AudioExtract, AudioExtracted, AudioFormat, AudioLive, AudioRecorded, ChapterOptions,
    ChapterRange, EbuR128, Gap, Hls, LiveEnd, LoudnessMode, LoudnessReport, NormalizationType, Normalize, PictureSizes,
    Points, SilenceTrim, Source, SourceInfo, TagOptions, Thumbnails, Trim, Waveform,
};
pub use catalogue::{Audience, Catalogue, InvalidPayload, JobKind, KindInfo, catalogue};
pub use mail_send::{MailSend, MailSent, Notice};
pub use maintenance::{
    HealthProbe, HealthReport, HostMetrics, HostReport, MaintenanceRetention, PartHealth, RetentionOutcome,
    RetentionReport, RollupReport, StatsRollup, Temperature,
};
pub use media::{Chapter, MediaNote};
pub use media_probe::{MediaInfo, MediaProbe, MediaStream, StreamType};
pub use webhook_deliver::{WEBHOOK_DELAYS, WebhookDeliver, WebhookDelivered};
