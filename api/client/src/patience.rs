//! How long to go on asking an API that is away.

use std::time::{Duration, Instant};

use crate::ClientError;

/// How long an API may be away before what lasts gives up.
const LIMIT: Duration = Duration::from_secs(120);
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);

/// Counts failures in a row and says how long to wait after each.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    since: Option<Instant>,
    failures: u32,
}

impl Patience {
    /// The API answered.
    pub(crate) fn restore(&mut self) {
        *self = Self::default();
    }

    /// How long to wait before asking again, or the error if asking again is of no use.
    pub(crate) fn wait_after(&mut self, error: ClientError) -> Result<Duration, ClientError> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if !error.is_temporary() || since.elapsed() > LIMIT {
            return Err(error);
        }
        let backoff = SHORTEST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        let asked = error.problem().and_then(|problem| problem.retry_after);
        Ok(asked.map_or(backoff, |asked| asked.clamp(backoff, LONGEST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_a_limit_and_starts_anew_after_an_answer() {
        let lost = || ClientError::Unreachable { url: String::new(), reason: String::new() };
        let mut patience = Patience::default();
        let waits: Vec<_> = (0..7).map(|_| patience.wait_after(lost()).unwrap().as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        patience.restore();
        assert_eq!(patience.wait_after(lost()).unwrap(), SHORTEST);
        assert!(patience.wait_after(ClientError::Protocol(String::new())).is_err());
    }
}
