//! Logs: to standard error, one form for every program.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{LogFormat, Logging};

/// Sends the log of this process to standard error, in colour only if a person reads it and `NO_COLOR` is not set.
///
/// A process that has a log already keeps it: in tests several programs' parts share one process.
pub fn init(logging: &Logging) {
    let registry = tracing_subscriber::registry().with(EnvFilter::new(&logging.filter));
    let _already_set = match logging.format {
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_writer(io::stderr);
            registry.with(lines).try_init()
        }
        LogFormat::Text => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
            let lines = fmt::layer().with_ansi(colours).with_writer(io::stderr);
            registry.with(lines).try_init()
        }
    };
}

/// Whether these are directives that a filter understands.
pub(crate) fn is_filter(text: &str) -> bool {
    EnvFilter::try_new(text).is_ok()
}
