//! Slows down who guesses passwords, without telling whether there is such an account, and without letting a stranger lock
//! its owner out.
//!
//! Failed tries are counted by the name that was typed and by the address. Somebody who was logged in from an address in the
//! last 90 days is counted there apart from all others: so whoever guesses from elsewhere makes only others from elsewhere
//! wait (after OWASP's device cookies, by address).

use std::time::Duration;

use fourmi_model::UserId;
use fourmi_records::RecordsError;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{People, REMEMBER};
use crate::{
    door::Origin,
    problem::{Code, Problem},
};

/// Tries of one account that may fail before the next must wait.
const FREE_OF_ACCOUNT: u32 = 4;

/// Tries from one address that may fail before the next must wait: many people may share it.
const FREE_OF_ADDRESS: u32 = 29;

/// How long the first that is not free makes the next one wait.
const FIRST: Duration = Duration::from_secs(5);

/// The longest that one must wait: an account is locked for this time.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// After how long without a try everything is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Where the failures of somebody who tries to log in are counted.
pub(crate) struct Tries {
    account: String,
    address: String,
}

impl Tries {
    /// As the one who is known by `login`, if there is such a person, from there.
    ///
    /// # Errors
    /// If the records do not answer.
    pub(crate) async fn of(
        people: &People,
        login: &str,
        user: Option<&UserId>,
        origin: &Origin,
    ) -> Result<Self, RecordsError> {
        let near = origin.neighbourhood().to_string();
        // Asked for everybody, so that strangers take as long as friends.
        let nobody = UserId::random();
        let since = Timestamp::now() - REMEMBER;
        let is_known = people.records.has_logged_in_from(user.unwrap_or(&nobody), &near, since).await?;
        let account = match user {
            Some(user) if is_known => format!("place:{user}:{near}"),
            // By whichever of its names.
            Some(user) => format!("account:{user}"),
            // What was typed may be a password.
            None => format!("account:{}", hex::encode(&Sha256::digest(login.to_lowercase())[..16])),
        };
        Ok(Self { account, address: format!("address:{near}") })
    }

    /// Lets a try pass unless it has to wait.
    ///
    /// # Errors
    /// If it has to wait, or the records do not answer.
    pub(crate) async fn admit(&self, people: &People) -> Result<(), Problem> {
        let now = Timestamp::now();
        let attempts = people.records.attempts(&[&self.account, &self.address]).await?;
        let until = attempts.iter().filter_map(|attempts| attempts.until).max();
        match until.map(|until| until.duration_since(now)) {
            Some(left) if left.is_positive() => {
                let problem = Problem::new(Code::LoginDelayed, "Tries failed before this one, so the next must wait.");
                Err(problem.retry_after(left.unsigned_abs()))
            }
            _ => Ok(()),
        }
    }

    /// Counts a failure.
    ///
    /// # Errors
    /// If the records do not answer.
    pub(crate) async fn failed(&self, people: &People) -> Result<(), RecordsError> {
        let now = Timestamp::now();
        for (subject, free) in [(&self.account, FREE_OF_ACCOUNT), (&self.address, FREE_OF_ADDRESS)] {
            people.records.note_failure(subject, now, FORGET_AFTER, move |failures| wait(failures, free)).await?;
        }
        Ok(())
    }

    /// Forgets the failures of the account. Those of the address stay: its owner may be guessing those of others.
    ///
    /// # Errors
    /// If the records do not answer.
    pub(crate) async fn succeeded(&self, people: &People) -> Result<(), RecordsError> {
        people.records.forget_attempts(&[&self.account]).await
    }
}

/// How long the next try must wait after so many failures: twice as long after each that is not free as after the one before.
fn wait(failures: u32, free: u32) -> Duration {
    match failures.saturating_sub(free) {
        0 => Duration::ZERO,
        more => (FIRST * (1 << (more - 1).min(10))).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<_> = (0..9).map(|failures| wait(failures, 4).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 5, 10, 20, 40]);
        assert_eq!((wait(12, 4), wait(13, 4), wait(u32::MAX, 4)), (Duration::from_secs(640), LONGEST, LONGEST));
    }
}
