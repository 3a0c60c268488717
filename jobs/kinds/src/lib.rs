#![doc = include_str!("../README.md")]

mod audio;
mod catalogue;
mod chat_alert;
mod dataset;
mod mail_notice;
mod mail_send;
mod maintenance;
mod media;
mod media_probe;
mod push;
mod sms;
mod webhook_deliver;

pub use audio::{
    AudioCodec, AudioDerive, AudioExtract, AudioExtracted, AudioFormat, AudioLive, AudioRecorded, ChapterOptions,
    ChapterRange, EbuR128, Gap, Hls, LiveEnd, LoudnessMode, LoudnessReport, NormalizationType, Normalize, PictureSizes,
    Points, SilenceTrim, Source, SourceInfo, TagOptions, Thumbnails, Trim, Waveform,
};
pub use catalogue::{Audience, Catalogue, InvalidPayload, JobKind, KindInfo, catalogue};
pub use chat_alert::{ChatAlert, ChatAlerted, Severity};
pub use dataset::{
    AgglomerativeOptions, Algorithm, AlgorithmList, AnalysisStep, Anomalies, AnomalousRow, AnomalyReport, Bilingual,
    ClusterOn, ClusterProfile, ClusterSelection, Clustering, ClusteringReport, ColumnInfo, ColumnType, ColumnUse,
    Comparison, DatasetAnalyze, DatasetAnalyzed, DatasetInfo, DatasetNote, DatasetProbe, DbscanOptions, Encode,
    Encoding, Fill, FilterValue, HdbscanOptions, IsolationForestOptions, KMeansOptions, Linkage, Metric, Missing,
    Nothing, NumberStatistics, OptionGroup, Parameter, ParameterType, PcaOptions, Reduction, ReductionReport,
    RowFilter, Scale, Scaling, Selection, TableFormat, TriedClusters, TsneOptions, UmapOptions, algorithms,
};
pub use mail_notice::{MailNotice, MailNoticed, Notice};
pub use mail_send::{MailAttachment, MailRefusal, MailSend, MailSent};
pub use maintenance::{
    HealthProbe, HealthReport, HostMetrics, HostReport, MaintenanceRetention, PartHealth, RetentionOutcome,
    RetentionReport, RollupReport, StatsRollup, Temperature,
};
pub use media::{Chapter, MediaNote};
pub use media_probe::{MediaInfo, MediaProbe, MediaStream, StreamType};
pub use push::{
    PushAudience, PushContent, PushFannedOut, PushFanout, PushOutcome, PushPriority, PushSend, PushSent, PushState,
    PushTarget,
};
pub use sms::{
    MAX_SEGMENTS, SMS_ATTEMPTS, SMS_CREDITS_PER_SEGMENT, SMS_RECEIPT_DELAYS, SmsEncoding, SmsPurpose, SmsReceipt,
    SmsReceived, SmsSend, SmsSent, SmsSize, mobile_number, sms_tag, transliterate,
};
pub use webhook_deliver::{WEBHOOK_DELAYS, WebhookDeliver, WebhookDelivered};
