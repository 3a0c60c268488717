#![doc = include_str!("../README.md")]

mod context;
mod dispatch;
mod handler;
mod isolation;
mod local;
mod scratch;
mod serve;
mod worker;

pub use context::{Context, InputFile};
pub use worker::Worker;
