//! The API under load: jobs submitted and read by HTTP.

pub mod bare;
mod load;
mod requests;

use crate::bench::Report;

/// Measures the API.
pub async fn run(mut report: Report) -> Report {
    requests::run(&mut report).await;
    report
}
