#![doc = include_str!("../README.md")]

mod address;
mod client;
mod direct;
mod guard;
mod proxy;

pub use address::is_global;
pub use client::{Client, FetchError};
pub use direct::{Direct, DirectError};
pub use guard::{EgressError, Guard, InvalidRule};
pub use proxy::Proxy;
