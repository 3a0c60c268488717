//! One file per group of commands.

pub(crate) mod config;
pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod extract;
pub(crate) mod files;
pub(crate) mod flows;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod kinds;
pub(crate) mod limits;
pub(crate) mod live;
pub(crate) mod log;
pub(crate) mod many;
pub(crate) mod parked;
pub(crate) mod queues;
pub(crate) mod sample;
pub(crate) mod scale;
pub(crate) mod submit;
pub(crate) mod submit_many;
pub(crate) mod waiting;
pub(crate) mod watch;
pub(crate) mod workers;
