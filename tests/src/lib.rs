//! What the tests share: real servers and real programs, started on private sockets and free ports, and stopped with
//! the test that started them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on fails"
)]

pub mod bench;
mod cast;
pub mod chaos;
mod event_reader;
mod fcm_server;
pub mod kinds;
pub mod media_server;
mod otlp_receiver;
mod platform;
mod postgres_server;
mod program;
mod prometheus_server;
mod rabbit_server;
mod receiver;
mod record_writer;
mod recording;
mod redis_server;
mod sms_server;
mod smtp_server;
mod topology;

pub use cast::{GOOD_PASSWORD, Person};
pub use event_reader::{Block, EventReader};
pub use fcm_server::{Act, FcmServer};
pub use otlp_receiver::OtlpReceiver;
pub use platform::{OtherApi, Platform, processes_in};
pub use postgres_server::PostgresServer;
pub use program::{Program, descriptors, eventually, eventually_async};
pub use prometheus_server::{PrometheusServer, promtool};
pub use rabbit_server::RabbitServer;
pub use receiver::{Received, Receiver, Reply};
pub use record_writer::{BATCH, RecordWriter, SHARED_KEY, shared_key};
pub use recording::{Recording, long_recording};
pub use redis_server::RedisServer;
pub use sms_server::{SmsFault, SmsServer, TakenSms};
pub use smtp_server::{SmtpMode, SmtpServer};
pub use topology::{PASSWORD, Topology};
