#![doc = include_str!("../README.md")]

mod archiver;
mod auth;
mod body;
mod caller;
mod checksum;
mod content;
mod disposition;
mod docs_page;
mod door;
mod headers;
mod health;
mod keys;
mod links;
mod openapi;
mod operation;
mod playlist;
mod problem;
mod query;
mod range;
mod redis;
pub mod routes;
mod server;
mod service;
mod sse;
mod trace;

pub use door::Doorkeeper;
pub use health::Checkup;
pub use keys::Keys;
pub use links::Links;
pub use operation::Group;
pub use problem::{Code, FieldError, Problem};
pub use server::{Server, Settings};
pub use service::service;
pub use sse::Streams;
