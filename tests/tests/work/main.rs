//! Workers of other systems: kinds that are registered, and jobs that are leased by HTTP.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod example;
mod kinds;
mod lost;
mod outcomes;
mod stage;
mod tenants;
