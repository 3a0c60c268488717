//! What goes wrong with messages, and when: workers are killed, and providers misbehave by turns.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Serialize;

use super::super::random::Random;
use crate::{Act, FcmServer, SmsFault, SmsServer};

/// How long a message is kept from those who ask for its tag, if it is delayed.
const TAG_DELAY: Duration = Duration::from_secs(1);

/// Nobody asks for so long.
const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// How a provider is for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sky {
    Clear,
    /// Some messages are too many.
    Crowded,
    /// Some get an error instead of an answer, whether they were taken or not.
    Failing,
    /// Some get no answer, and tags are known late.
    Silent,
    /// Some connections are cut, before or after a message was taken.
    Cutting,
    /// Some have no good answer, and their tags are never known: a person must look.
    Blind,
    /// All get an error, and none is taken.
    Down,
}

impl Sky {
    const OF_SMS: [Self; 6] = [Self::Crowded, Self::Failing, Self::Silent, Self::Cutting, Self::Blind, Self::Down];

    /// There are no tags to be late.
    const OF_PUSH: [Self; 5] = [Self::Crowded, Self::Failing, Self::Silent, Self::Cutting, Self::Down];
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Trouble {
    /// `kill -9`; another takes the place at once.
    KillWorker(usize),
    /// The provider of text messages is so from now on.
    Sms(Sky),
    /// The provider of push notifications is so from now on.
    Push(Sky),
}

/// Something that goes wrong so many milliseconds after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Planned {
    pub(super) at: u64,
    pub(super) trouble: Trouble,
}

/// What follows from a seed: each provider is in every way at least once, and for longer than the others in none.
pub(super) fn plan(seed: u64, seconds: u64, workers: usize) -> Vec<Planned> {
    let end = seconds * 1_000;
    let mut plan = Vec::new();
    let mut random = Random::new(seed, 101);
    let mut at = random.between(500, 2_000);
    while at < end {
        plan.push(Planned { at, trouble: Trouble::KillWorker(random.index(workers)) });
        at += random.between(1_500, 6_000);
    }
    plan.extend(skies(seed, 102, end, &Sky::OF_SMS).map(|(at, sky)| Planned { at, trouble: Trouble::Sms(sky) }));
    plan.extend(skies(seed, 103, end, &Sky::OF_PUSH).map(|(at, sky)| Planned { at, trouble: Trouble::Push(sky) }));
    plan.sort_by_key(|planned| planned.at);
    plan
}

/// Turns of some seconds, between which the sky is clear for a moment.
fn skies(seed: u64, stream: u64, end: u64, all: &[Sky]) -> impl Iterator<Item = (u64, Sky)> {
    let mut random = Random::new(seed, stream);
    let most = (end / all.len() as u64).clamp(500, 6_000);
    let (mut at, mut turns) = (0, Vec::new());
    while at < end {
        let mut order = all.to_vec();
        random.shuffle(&mut order);
        for sky in order {
            turns.push((at, sky));
            // An outage is met by everybody at once, and lasts on by the breakers of the workers.
            let lasts = if sky == Sky::Down { most / 2 } else { most * 3 / 4 };
            turns.push((at + lasts, Sky::Clear));
            at += most;
        }
    }
    turns.into_iter().filter(move |(at, _)| *at < end)
}

/// Has the provider of text messages be so from now on.
pub(super) fn set_sms(server: &SmsServer, sky: Sky, random: &Arc<Mutex<Random>>) {
    server.be_down((sky == Sky::Down).then_some(503));
    server.delay_tags(match sky {
        Sky::Silent => TAG_DELAY,
        Sky::Blind => NEVER,
        _ => Duration::ZERO,
    });
    let random = random.clone();
    server.misbehave_by(Some(move || sms_fault(sky, &mut random.lock().unwrap())));
}

fn sms_fault(sky: Sky, random: &mut Random) -> Option<SmsFault> {
    let drawn = random.below(100);
    Some(match (sky, drawn) {
        (Sky::Crowded, 0..20) => SmsFault::TooMany(1),
        (Sky::Failing, 0..10) => SmsFault::TakenWith(500),
        (Sky::Failing, 10..20) => SmsFault::Outage(502),
        (Sky::Silent, 0..2) => SmsFault::TakenAndSilent,
        (Sky::Silent, 2..4) => SmsFault::Silent,
        (Sky::Cutting, 0..10) => SmsFault::TakenAndCut,
        (Sky::Cutting, 10..20) => SmsFault::Cut,
        (Sky::Blind, 0..3) => SmsFault::TakenWith(503),
        (Sky::Blind, 3..6) => SmsFault::Cut,
        _ => return None,
    })
}

/// Has the provider of push notifications be so from now on.
pub(super) fn set_push(server: &FcmServer, sky: Sky, random: &Arc<Mutex<Random>>) {
    server.always((sky == Sky::Down).then(|| Act::error(503, "UNAVAILABLE")));
    let random = random.clone();
    server.act_by(Some(move || push_act(sky, &mut random.lock().unwrap())));
}

/// In ten thousandths: many messages share a connection, and a batch is as slow as the slowest of it.
fn push_act(sky: Sky, random: &mut Random) -> Option<Act> {
    let drawn = random.below(10_000);
    Some(match (sky, drawn) {
        (Sky::Crowded, 0..200) => {
            Act::Error { status: 429, code: Some("QUOTA_EXCEEDED"), field: None, after_s: Some(1) }
        }
        (Sky::Failing, 0..200) => Act::error(503, "UNAVAILABLE"),
        (Sky::Failing, 200..400) => Act::error(500, "INTERNAL"),
        (Sky::Silent, 0..10) => Act::Hang,
        (Sky::Cutting, 0..20) => Act::CutBefore,
        (Sky::Cutting, 20..40) => Act::CutAfter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_a_plan_in_which_everything_goes_wrong() {
        for seconds in [20, 90] {
            let plan = plan(7, seconds, 3);
            assert_eq!(plan, super::plan(7, seconds, 3));
            assert_ne!(plan, super::plan(8, seconds, 3));
            assert!(plan.is_sorted_by_key(|planned| planned.at));
            for sky in Sky::OF_SMS {
                assert!(plan.iter().any(|planned| planned.trouble == Trouble::Sms(sky)), "{sky:?}");
            }
            for sky in Sky::OF_PUSH {
                assert!(plan.iter().any(|planned| planned.trouble == Trouble::Push(sky)), "{sky:?}");
            }
            let kills = plan.iter().filter(|planned| matches!(planned.trouble, Trouble::KillWorker(_))).count();
            assert!(kills as u64 >= seconds / 6, "{kills}");
        }
    }
}
