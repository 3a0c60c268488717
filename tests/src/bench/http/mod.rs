//! The API under load: jobs submitted, read and followed by HTTP.

pub mod bare;
mod requests;
mod streams;

use crate::bench::Report;

/// Measures the API.
pub async fn run(mut report: Report) -> Report {
    requests::run(&mut report).await;
    streams::run(&mut report).await;
    report
}
