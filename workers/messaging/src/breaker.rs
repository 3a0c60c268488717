//! A circuit breaker for each account: while its provider is down, jobs are parked instead of burning their attempts, and
//! when it is back they are let go by and by.
//!
//! ```text
//! closed --five outages in a row--> open --half a minute--> trial --it answers--> closed
//!                                     ^------------------------- it does not --'
//! ```
//!
//! Each process judges for itself. Parked jobs are of no process: whoever finds its breakers closed lets some go each second,
//! twice as many as before while none of them meets an outage. Nobody knows whose a parked job is before it runs. So while
//! some breakers are open and others are not, a few are let go: those of a provider that is down are parked again, behind
//! the others. Michael T. Nygard, Release It!, describes the pattern.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use fourmi_model::{Failure, ParkReason, QueueName};
use fourmi_queue::Queues;
use fourmi_records::Met;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

/// Outages in a row that open a breaker.
const OUTAGES: u32 = 5;

/// How long it stays open before somebody may try again.
const OPEN: Duration = Duration::from_secs(30);

/// How often parked jobs are let go.
const PACE: Duration = Duration::from_secs(1);

/// Jobs that are let go at once, at most.
const MOST: u64 = 200;

/// Jobs that are let go at once while some providers are down and others are not.
const FEW: u64 = 20;

/// The breakers of a process, by account.
#[derive(Default)]
pub(crate) struct Breakers {
    by_account: Mutex<HashMap<String, Breaker>>,
    met: Mutex<HashMap<String, Met>>,
    /// Since when the providers are down that are.
    down_since: Mutex<HashMap<String, Timestamp>>,
}

/// How a provider was lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaker {
    Closed {
        /// Outages in a row.
        outages: u32,
    },
    Open {
        since: Instant,
    },
    /// Somebody is trying.
    Trial {
        since: Instant,
    },
}

impl Breakers {
    /// Whether a provider may be asked now. Whoever asks says afterwards how it was.
    ///
    /// # Errors
    /// The job is parked while the provider is down.
    pub(crate) fn admit(&self, account: &str) -> Result<(), Failure> {
        self.admit_at(account, Instant::now())
    }

    fn admit_at(&self, account: &str, now: Instant) -> Result<(), Failure> {
        let mut breakers = self.by_account.lock().unwrap_or_else(PoisonError::into_inner);
        let breaker = breakers.entry(account.to_owned()).or_insert(Breaker::Closed { outages: 0 });
        match *breaker {
            Breaker::Closed { .. } => Ok(()),
            // Of a trial that never ends nothing is heard.
            Breaker::Open { since } | Breaker::Trial { since } if now.duration_since(since) >= OPEN => {
                *breaker = Breaker::Trial { since: now };
                Ok(())
            }
            Breaker::Open { .. } | Breaker::Trial { .. } => {
                let message = format!("the provider of {account} is down: the job waits until it is back");
                Err(Failure::park(ParkReason::ProviderDown, message))
            }
        }
    }

    /// The provider has answered: whatever it said, it is there.
    pub(crate) fn answered(&self, account: &str) {
        self.note(account, |met| {
            met.answers += 1;
            met.answered_at = Some(Timestamp::now());
        });
        self.down_since.lock().unwrap_or_else(PoisonError::into_inner).remove(account);
        let mut breakers = self.by_account.lock().unwrap_or_else(PoisonError::into_inner);
        let before = breakers.insert(account.to_owned(), Breaker::Closed { outages: 0 });
        if matches!(before, Some(Breaker::Open { .. } | Breaker::Trial { .. })) {
            tracing::info!(provider.account = account, "the provider is back");
        }
    }

    /// The provider did not answer, or said that it cannot.
    pub(crate) fn failed(&self, account: &str) {
        self.failed_at(account, Instant::now());
    }

    /// How long an answer of a provider took, and its code.
    pub(crate) fn took(&self, account: &str, lasted: Duration, code: &str) {
        let ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        self.note(account, |met| {
            // Of many, the newer ones weigh more.
            met.latency_ms = Some(met.latency_ms.map_or(ms, |before| (before * 7 + ms) / 8));
            met.last_code = Some(code.to_owned());
        });
    }

    /// The credits that are left with a provider, in thousandths.
    pub(crate) fn credits(&self, account: &str, credits: i64) {
        self.note(account, |met| met.credits = Some(credits));
    }

    fn note(&self, account: &str, note: impl FnOnce(&mut Met)) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        note(met.entry(account.to_owned()).or_default());
    }

    /// What was met of the providers since the last call; those that are down are among them as long as they are.
    pub(crate) fn take_met(&self) -> HashMap<String, Met> {
        let mut met = std::mem::take(&mut *self.met.lock().unwrap_or_else(PoisonError::into_inner));
        for (account, since) in &*self.down_since.lock().unwrap_or_else(PoisonError::into_inner) {
            met.entry(account.clone()).or_default().down_since = Some(*since);
        }
        met
    }

    fn failed_at(&self, account: &str, now: Instant) {
        self.note(account, |met| {
            met.outages += 1;
            met.failed_at = Some(Timestamp::now());
        });
        let mut breakers = self.by_account.lock().unwrap_or_else(PoisonError::into_inner);
        let breaker = breakers.entry(account.to_owned()).or_insert(Breaker::Closed { outages: 0 });
        *breaker = match *breaker {
            Breaker::Closed { outages } if outages + 1 < OUTAGES => Breaker::Closed { outages: outages + 1 },
            Breaker::Closed { .. } => {
                tracing::warn!(
                    provider.account = account,
                    "the provider is down: its jobs are parked until it is back"
                );
                let mut down_since = self.down_since.lock().unwrap_or_else(PoisonError::into_inner);
                down_since.insert(account.to_owned(), Timestamp::now());
                Breaker::Open { since: now }
            }
            // Those that were under way when it was opened, and trials.
            Breaker::Open { since } => Breaker::Open { since },
            Breaker::Trial { .. } => Breaker::Open { since: now },
        };
    }

    /// The accounts whose provider is down.
    pub(crate) fn down(&self) -> Vec<String> {
        let breakers = self.by_account.lock().unwrap_or_else(PoisonError::into_inner);
        let down = breakers.iter().filter(|(_, breaker)| !matches!(breaker, Breaker::Closed { .. }));
        down.map(|(account, _)| account.clone()).collect()
    }

    /// How many parked jobs may be let go now, after so many a moment ago.
    fn pace(&self, before: u64, now: Instant) -> u64 {
        let breakers = self.by_account.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut is_down, mut is_up, mut is_trial_due) = (false, false, false);
        for breaker in breakers.values() {
            match breaker {
                Breaker::Closed { .. } => is_up = true,
                Breaker::Open { since } | Breaker::Trial { since } => {
                    is_down = true;
                    is_trial_due |= now.duration_since(*since) >= OPEN;
                }
            }
        }
        match (is_down, is_up) {
            (false, _) => (before * 2).clamp(1, MOST),
            (true, true) => FEW,
            (true, false) => u64::from(is_trial_due),
        }
    }
}

/// Lets jobs go that are parked because a provider was down; for ever.
pub(crate) async fn release(breakers: &Breakers, queues: &Queues, queue: &QueueName) {
    let mut turns = interval(PACE);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = 1;
    loop {
        turns.tick().await;
        pace = breakers.pace(pace, Instant::now());
        if pace == 0 {
            continue;
        }
        if let Err(error) = queues.unpark_some(queue, ParkReason::ProviderDown, pace).await {
            tracing::debug!(%error, "jobs whose provider is back cannot be released now");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_is_down_is_asked_by_one_at_a_time() {
        let (breakers, start) = (Breakers::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 1..OUTAGES {
            breakers.failed_at("sms", start);
        }
        assert!(breakers.admit_at("sms", start).is_ok());
        breakers.failed_at("sms", start);
        assert!(breakers.admit_at("sms", at(29)).is_err() && breakers.admit_at("push", at(29)).is_ok());
        assert_eq!(breakers.down(), ["sms"]);
        let is_noted_as_down = || breakers.take_met().get("sms").is_some_and(|met| met.down_since.is_some());
        assert!(is_noted_as_down() && is_noted_as_down(), "as long as it is");
        assert!(breakers.admit_at("sms", at(30)).is_ok());
        assert!(breakers.admit_at("sms", at(31)).is_err(), "somebody is trying");
        breakers.failed_at("sms", at(31));
        assert!(breakers.admit_at("sms", at(60)).is_err(), "the wait begins anew");
        assert!(breakers.admit_at("sms", at(61)).is_ok());
        breakers.answered("sms");
        assert!(breakers.down().is_empty() && breakers.admit_at("sms", at(62)).is_ok() && !is_noted_as_down());
        breakers.failed_at("sms", at(62));
        assert!(breakers.admit_at("sms", at(62)).is_ok(), "one outage is none");
    }

    #[test]
    fn parked_jobs_are_let_go_by_and_by_and_those_of_others_while_one_is_down() {
        let (breakers, start) = (Breakers::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!([1, 2, 100, 150, 0].map(|before| breakers.pace(before, start)), [2, 4, 200, 200, 1]);
        for _ in 0..OUTAGES {
            breakers.failed_at("sms", start);
        }
        assert_eq!((breakers.pace(200, at(29)), breakers.pace(0, at(30))), (0, 1), "one of them tries");
        breakers.admit_at("fcm", at(29)).unwrap();
        assert_eq!(breakers.pace(200, at(29)), FEW);
        breakers.answered("sms");
        assert_eq!(breakers.pace(FEW, at(31)), 2 * FEW);
    }
}
