//! The queue on real Redises, through its public surface.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod batches;
mod bench;
mod conformance;
mod control;
mod flows;
mod flows_http;
mod flows_work;
mod guards;
mod history;
mod lanes;
mod limits;
mod model;
mod outages;
mod registry;
mod topologies;
mod unique;
mod why;
