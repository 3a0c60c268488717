//! What became of every message, and whether that is what was promised.

use std::{collections::BTreeMap, fmt};

use fourmi_model::{JobId, SmsState, State};
use serde::Serialize;

/// A text message, as all sides know it at the end.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SmsStory {
    pub(super) job: JobId,
    pub(super) state: State,
    pub(super) code: Option<String>,
    /// How often the provider has taken it.
    pub(super) taken: usize,
    pub(super) intent: Option<SmsState>,
    /// What it costs, in thousandths of a credit.
    pub(super) credits: u64,
}

/// A push notification to the devices of one job.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PushStory {
    pub(super) job: JobId,
    pub(super) state: State,
    pub(super) code: Option<String>,
    /// Of each device: how often FCM has taken it.
    pub(super) taken: Vec<u32>,
    /// Devices that the result names as sent to.
    pub(super) sent: usize,
    /// Runs that a kill ended.
    pub(super) lost_runs: usize,
    /// Runs after which nobody knew whether a message was taken.
    pub(super) doubtful_runs: usize,
    /// Of a broadcast, what its result says.
    pub(super) counters: Option<Counters>,
}

/// The result of a broadcast.
#[derive(Debug, Clone, Copy, Default, Serialize, serde::Deserialize)]
pub(super) struct Counters {
    pub(super) targeted: u64,
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) invalid: u64,
    pub(super) skipped: u64,
    pub(super) repeated: u64,
}

/// What was gathered when nothing went wrong any more.
#[derive(Debug, Default, Serialize)]
pub(super) struct Evidence {
    pub(super) sms: Vec<SmsStory>,
    /// Text messages that the provider has taken of nobody who is known.
    pub(super) foreign_sms: usize,
    pub(super) pushes: Vec<PushStory>,
    /// Push notifications that FCM has taken for devices that nobody wrote to.
    pub(super) foreign_pushes: usize,
    /// What is noted as spent, in thousandths of a credit.
    pub(super) spent: i64,
    /// Jobs that ask for receipts, by how they are.
    pub(super) receipts: BTreeMap<String, usize>,
    /// Why the jobs did not come to rest, if they did not.
    pub(super) stuck: Option<String>,
}

/// What was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Promise {
    /// Every intent comes to an end.
    NothingLost,
    /// No text message is taken twice.
    SmsOnce,
    /// A job, its intent and the provider say the same.
    OneState,
    /// A push notification comes twice only if it was on its way when something was hit.
    RepeatsExplained,
    /// Broadcasts count every device once, and no fewer repeats than there were.
    CountersHold,
    /// What is noted as spent is what the messages cost.
    SpendingHolds,
}

/// A broken promise.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Violation {
    pub(super) promise: Promise,
    pub(super) job: Option<JobId>,
    pub(super) what: String,
}

/// The result in figures.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    sms: usize,
    sms_sent: usize,
    sms_given_up: usize,
    sms_doubled: usize,
    pushes: usize,
    pushes_sent: usize,
    pushes_given_up: usize,
    /// Messages that FCM has taken again for a device that had them.
    pushes_repeated: u64,
    /// Of those, in broadcasts; and how many those said there may be.
    broadcasts_repeated: u64,
    broadcasts_said: u64,
    /// Runs of `push.send` that a kill ended, or after which nobody knew.
    sends_lost: usize,
    sends_doubtful: usize,
    lost: usize,
}

/// Judges all of it.
pub(super) fn judge(evidence: &Evidence) -> (Tally, Vec<Violation>) {
    let mut judge = Judge::default();
    if let Some(stuck) = &evidence.stuck {
        judge.broken(Promise::NothingLost, None, stuck.clone());
    }
    evidence.sms.iter().for_each(|story| judge.sms(story));
    evidence.pushes.iter().for_each(|story| judge.push(story));
    for (count, what) in [(evidence.foreign_sms, "text messages"), (evidence.foreign_pushes, "push notifications")] {
        if count > 0 {
            judge.broken(Promise::OneState, None, format!("{count} {what} were taken of which no job knows"));
        }
    }
    let cost: i64 = evidence.sms.iter().map(|story| i64::try_from(story.credits).unwrap()).sum();
    if cost != evidence.spent {
        let what =
            format!("{} thousandths of a credit are noted as spent, and the messages cost {cost}", evidence.spent);
        judge.broken(Promise::SpendingHolds, None, what);
    }
    (judge.tally, judge.violations)
}

#[derive(Default)]
struct Judge {
    tally: Tally,
    violations: Vec<Violation>,
}

impl Judge {
    fn broken(&mut self, promise: Promise, job: Option<&JobId>, what: String) {
        self.violations.push(Violation { promise, job: job.cloned(), what });
    }

    fn sms(&mut self, story: &SmsStory) {
        use SmsState::{Accepted, Delivered, Refused, Undelivered, Unsent};
        self.tally.sms += 1;
        if story.taken > 1 {
            self.tally.sms_doubled += 1;
            self.broken(Promise::SmsOnce, Some(&story.job), format!("the provider has it {} times", story.taken));
        }
        let (is_sent, is_right) = match story.state {
            State::Succeeded => {
                (true, story.taken == 1 && matches!(story.intent, Some(Accepted | Delivered | Undelivered)))
            }
            State::Failed => (false, story.taken == 0 && matches!(story.intent, None | Some(Unsent | Refused))),
            state => {
                self.tally.lost += 1;
                self.broken(Promise::NothingLost, Some(&story.job), format!("it is {state}"));
                return;
            }
        };
        self.tally.sms_sent += usize::from(is_sent);
        self.tally.sms_given_up += usize::from(!is_sent);
        if !is_right {
            let what = format!(
                "the job has {} ({}), the intent is {:?}, and the provider has it {} times",
                story.state,
                story.code.as_deref().unwrap_or("no error"),
                story.intent,
                story.taken
            );
            self.broken(Promise::OneState, Some(&story.job), what);
        }
    }

    fn push(&mut self, story: &PushStory) {
        let arrived = story.taken.iter().filter(|times| **times > 0).count();
        let repeated: u64 = story.taken.iter().map(|times| u64::from(times.saturating_sub(1))).sum();
        self.tally.pushes += story.taken.len();
        self.tally.pushes_repeated += repeated;
        match (story.state, story.counters) {
            (State::Succeeded, Some(counters)) => self.broadcast(story, counters, arrived, repeated),
            (State::Succeeded, None) => {
                self.tally.pushes_sent += story.sent;
                if arrived < story.sent {
                    let what = format!("{} devices are said to have it, and FCM knows of {arrived}", story.sent);
                    self.broken(Promise::OneState, Some(&story.job), what);
                }
            }
            // What was given up may have arrived: FCM cannot be asked.
            (State::Failed, None) => self.tally.pushes_given_up += story.taken.len(),
            (state, _) => {
                self.tally.lost += story.taken.len();
                let code = story.code.as_deref().unwrap_or("no error");
                self.broken(Promise::NothingLost, Some(&story.job), format!("it is {state} ({code})"));
            }
        }
        if story.counters.is_none() {
            self.tally.sends_lost += story.lost_runs;
            self.tally.sends_doubtful += story.doubtful_runs;
            let most = ((story.lost_runs + story.doubtful_runs) * story.taken.len()) as u64;
            if repeated > most {
                let what = format!(
                    "it came {repeated} times again, after {} lost runs and {} doubtful ones",
                    story.lost_runs, story.doubtful_runs
                );
                self.broken(Promise::RepeatsExplained, Some(&story.job), what);
            }
        }
    }

    fn broadcast(&mut self, story: &PushStory, counters: Counters, arrived: usize, repeated: u64) {
        let Counters { targeted, sent, failed, invalid, skipped, repeated: said } = counters;
        self.tally.pushes_sent += usize::try_from(sent).unwrap();
        self.tally.pushes_given_up += usize::try_from(failed).unwrap();
        self.tally.broadcasts_repeated += repeated;
        self.tally.broadcasts_said += said;
        let (devices, arrived) = (story.taken.len() as u64, arrived as u64);
        // Who got nothing as far as is known may have got it: its last answer was cut off.
        let is_counted = targeted == devices && sent + failed + invalid + skipped == targeted;
        if !is_counted || !(sent..=sent + failed).contains(&arrived) {
            let what = format!("of {devices} devices FCM has reached {arrived}, and the result is {counters:?}");
            self.broken(Promise::CountersHold, Some(&story.job), what);
        }
        if repeated > said {
            let what = format!("{repeated} messages came again, and {said} were said to at most");
            self.broken(Promise::RepeatsExplained, Some(&story.job), what);
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: u64| writeln!(f, "  {name:<48}{value:>10}");
        row("text messages", self.sms as u64)?;
        row("sent", self.sms_sent as u64)?;
        row("given up, and not sent", self.sms_given_up as u64)?;
        row("doubled", self.sms_doubled as u64)?;
        row("push notifications", self.pushes as u64)?;
        row("sent", self.pushes_sent as u64)?;
        row("given up", self.pushes_given_up as u64)?;
        row("came again", self.pushes_repeated)?;
        row("  of broadcasts", self.broadcasts_repeated)?;
        row("  which said there may be", self.broadcasts_said)?;
        row("  runs of push.send on their way at kills", self.sends_lost as u64)?;
        row("  runs of push.send without a good answer", self.sends_doubtful as u64)?;
        row("lost", self.lost as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u128) -> JobId {
        JobId::from_parts("messaging".parse().unwrap(), uuid::Uuid::from_u128(number))
    }

    fn sms(state: State, taken: usize, intent: Option<SmsState>) -> SmsStory {
        SmsStory { job: job(1), state, code: None, taken, intent, credits: 0 }
    }

    fn push(taken: &[u32], lost_runs: usize) -> PushStory {
        let taken = taken.to_vec();
        let sent = taken.iter().filter(|times| **times > 0).count();
        let (job, state) = (job(2), State::Succeeded);
        PushStory { job, state, code: None, taken, sent, lost_runs, doubtful_runs: 0, counters: None }
    }

    fn broken(evidence: &Evidence) -> Vec<Promise> {
        judge(evidence).1.into_iter().map(|violation| violation.promise).collect()
    }

    #[test]
    fn a_text_message_is_in_one_state_on_all_sides() {
        use SmsState::{Accepted, Delivered, Refused, Sending, Unsent};
        for (story, expected) in [
            (sms(State::Succeeded, 1, Some(Delivered)), vec![]),
            (sms(State::Succeeded, 1, Some(Accepted)), vec![]),
            (sms(State::Failed, 0, Some(Refused)), vec![]),
            (sms(State::Failed, 0, None), vec![]),
            (sms(State::Succeeded, 2, Some(Delivered)), vec![Promise::SmsOnce, Promise::OneState]),
            (sms(State::Succeeded, 0, Some(Accepted)), vec![Promise::OneState]),
            (sms(State::Succeeded, 1, Some(Sending)), vec![Promise::OneState]),
            (sms(State::Failed, 1, Some(Unsent)), vec![Promise::OneState]),
            (sms(State::Failed, 0, Some(Sending)), vec![Promise::OneState]),
            (sms(State::Parked, 1, Some(Sending)), vec![Promise::NothingLost]),
        ] {
            let told = format!("{story:?}");
            assert_eq!(broken(&Evidence { sms: vec![story], ..Evidence::default() }), expected, "{told}");
        }
        let paid = SmsStory { credits: 1_500, ..sms(State::Succeeded, 1, Some(Delivered)) };
        let evidence = Evidence { sms: vec![paid], spent: 1_000, foreign_sms: 1, ..Evidence::default() };
        assert_eq!(broken(&evidence), [Promise::OneState, Promise::SpendingHolds]);
    }

    #[test]
    fn a_push_notification_comes_again_for_a_reason_only() {
        let of = |story: PushStory| broken(&Evidence { pushes: vec![story], ..Evidence::default() });
        assert_eq!(of(push(&[1, 1], 0)), []);
        assert_eq!(of(push(&[2, 1], 1)), []);
        assert_eq!(of(push(&[2, 1], 0)), [Promise::RepeatsExplained]);
        assert_eq!(of(PushStory { sent: 2, ..push(&[1, 0], 0) }), [Promise::OneState]);
        assert_eq!(of(PushStory { state: State::Failed, ..push(&[0], 0) }), []);
        assert_eq!(of(PushStory { state: State::Retrying, ..push(&[0], 0) }), [Promise::NothingLost]);

        let counters = Counters { targeted: 3, sent: 2, failed: 1, repeated: 1, ..Counters::default() };
        let broadcast = |taken: &[u32], counters| of(PushStory { counters: Some(counters), ..push(taken, 0) });
        assert_eq!(broadcast(&[2, 1, 0], counters), []);
        assert_eq!(broadcast(&[1, 1, 1], counters), []);
        assert_eq!(broadcast(&[3, 1, 0], counters), [Promise::RepeatsExplained]);
        assert_eq!(broadcast(&[1, 0, 0], counters), [Promise::CountersHold]);
        assert_eq!(broadcast(&[1, 1], counters), [Promise::CountersHold]);
        let failed = PushStory { state: State::Failed, counters: Some(counters), ..push(&[1, 1, 1], 0) };
        assert_eq!(of(failed), [Promise::NothingLost]);
    }
}
