//! Figures in the text format of Prometheus.

mod listener;
mod snapshot;

pub use listener::Listener;
pub use snapshot::{Labels, Snapshot};

/// The media type of a page.
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// Bounds (seconds) of histograms of what is answered at once.
pub const ANSWER_SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Bounds (seconds) of histograms of what takes milliseconds or hours: how long jobs wait and run.
pub const WORK_SECONDS: [f64; 13] =
    [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0];
