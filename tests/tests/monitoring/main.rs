//! What the platform says of itself: its figures, its logs and its traces.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod logs;
mod metrics;
mod traces;
mod yard;
