//! The API on the real platform.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod forms;
mod uploads;
