//! Redis must not keep a caller waiting.

use std::time::Duration;

use fourmi_queue::QueueError;

use crate::problem::Problem;

/// The longest that a caller waits for Redis: after it, it is told that the jobs cannot be reached.
const LONGEST: Duration = Duration::from_millis(1_900);

/// The answer of a call to the queues, if it comes in time.
///
/// # Errors
/// As the call, or that Redis does not answer.
pub(crate) async fn in_time<T>(call: impl Future<Output = Result<T, QueueError>>) -> Result<T, Problem> {
    match tokio::time::timeout(LONGEST, call).await {
        Ok(answer) => answer.map_err(Problem::from),
        Err(_) => Err(Problem::redis_unavailable(format!("no answer within {} ms", LONGEST.as_millis()))),
    }
}
