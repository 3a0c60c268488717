#![doc = include_str!("../README.md")]

mod configured;
mod context;
mod dispatch;
mod enqueue;
mod handler;
mod isolation;
mod local;
mod metrics;
mod program;
mod rooms;
mod scratch;
mod serve;
mod watch;
mod worker;

pub use context::{Context, GrowingFile, InputFile};
pub use enqueue::ChildJob;
pub use program::{Program, RunningProgram};
pub use rooms::{Kept, write_whole};
pub use worker::Worker;
