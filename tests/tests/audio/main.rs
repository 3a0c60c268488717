//! Sound from addresses, through the whole platform: what sources answer and do, what must not be reached, what is killed
//! under a run, what is used again, what is on the air.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod answers;
mod derive;
mod egress;
mod interrupted;
mod live;
mod resume;
mod reuse;
mod sources;
mod stage;
