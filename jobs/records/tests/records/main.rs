//! Records in every database that they may be in: what is true of one is true of all.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod jobs;
mod keys;
mod opening;
mod place;
