//! What the tests share: real servers and real programs, started on private sockets and free ports, and stopped with
//! the test that started them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on fails"
)]

pub mod bench;
pub mod chaos;
mod event_reader;
pub mod kinds;
pub mod media_server;
mod platform;
mod postgres_server;
mod program;
mod record_writer;
mod recording;
mod redis_server;
mod topology;

pub use event_reader::{Block, EventReader};
pub use platform::{OtherApi, Platform, processes_in};
pub use postgres_server::PostgresServer;
pub use program::{Program, descriptors, eventually, eventually_async};
pub use record_writer::{BATCH, RecordWriter, SHARED_KEY, shared_key};
pub use recording::{Recording, long_recording};
pub use redis_server::RedisServer;
pub use topology::{PASSWORD, Topology};
