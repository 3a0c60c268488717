//! What may happen to a queue, chosen at random. Jobs and runs are named by how new they are (0: the newest), so that
//! every operation makes sense in every sequence and a failing one shrinks.

use fourmi_model::{History, ParkReason};
use proptest::{collection::vec, option::weighted, prelude::*};

/// All times are in hours of the test's clock.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Push(NewJob),
    PushMany(Vec<NewJob>),
    Fetch {
        worker: u8,
        want: usize,
        lease: i64,
        idle: bool,
    },
    Renew {
        runs: Vec<usize>,
        lease: i64,
    },
    Settle(Vec<(usize, End)>),
    Progress {
        run: usize,
    },
    Log {
        run: usize,
        lines: usize,
    },
    Cancel {
        job: usize,
    },
    Retry {
        job: usize,
    },
    /// These failed jobs, or all of them, are run again or forgotten.
    Dead {
        jobs: Option<Vec<usize>>,
        purge: bool,
    },
    Unpark {
        reason: ParkReason,
    },
    Promote {
        limit: u64,
    },
    Reclaim {
        limit: u64,
    },
    Expire {
        limit: u64,
    },
    Trim {
        limit: u64,
        done: u64,
        dead: u64,
    },
    /// Somebody takes finished jobs out of the outbox.
    Record {
        limit: u64,
    },
    /// An hour passes and a process keeps house.
    Tick,
    /// Hours pass in which nobody looks.
    Away {
        hours: i64,
    },
    Pause(bool),
    Cap(Option<usize>),
    Limit(Option<usize>),
    /// What may run at the same time under a limit of [`LIMITS`], and how many may start at once and then every hour.
    Bound {
        limit: usize,
        concurrency: Option<usize>,
        burst: Option<i64>,
    },
}

/// The limits that are set. The last is about the whole queue.
pub(super) const LIMITS: [&str; 6] = ["host/a", "host/b", "host/*", "tenant/t0", "kind/test.echo", "queue"];

/// What jobs name.
pub(super) const KEYS: [&str; 2] = ["host/a", "host/b"];

#[derive(Debug, Clone)]
pub(super) struct NewJob {
    /// The id of a known job instead of a new one.
    pub(super) again: Option<usize>,
    pub(super) priority: usize,
    pub(super) delay: Option<i64>,
    /// It is parked from the start.
    pub(super) parked: Option<ParkReason>,
    pub(super) deadline: Option<i64>,
    pub(super) isolated: bool,
    pub(super) endless: bool,
    /// Name, payload, life.
    pub(super) key: Option<(u8, u8, i64)>,
    pub(super) history: History,
    /// How long it is kept after a success or cancellation and after a failure, if its kind says so.
    pub(super) keep: Option<(i64, i64)>,
    pub(super) tenant: Option<u8>,
    /// Which of [`KEYS`].
    pub(super) limits: Vec<usize>,
    pub(super) unique: Option<Until>,
}

/// How long a job excludes its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Started,
    Finished,
    Hours(i64),
}

#[derive(Debug, Clone)]
pub(super) enum End {
    Succeeded { result: bool, keep: i64 },
    Failed { keep: i64 },
    Cancelled { keep: i64 },
    Retrying { delay: i64, keep: i64 },
    Parked { reason: ParkReason, keep: i64 },
    Crashed { delay: i64, keep: i64 },
    Released { delay: i64 },
    Misdirected { delay: i64 },
}

/// Mostly one of the newest.
fn pick() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..4_usize, 1 => 0..40_usize]
}

fn reason() -> impl Strategy<Value = ParkReason> {
    proptest::sample::select(ParkReason::ALL)
}

fn limit() -> impl Strategy<Value = u64> {
    prop_oneof![1 => 1..4_u64, 2 => Just(100)]
}

prop_compose! {
    fn new_job()(
        again in weighted(0.1, pick()),
        priority in prop_oneof![3 => Just(2), 1 => 0..4_usize],
        delay in weighted(0.2, 0..4_i64),
        parked in weighted(0.1, reason()),
        deadline in weighted(0.2, -1..6_i64),
        isolated in any::<bool>(),
        endless in any::<bool>(),
        key in weighted(0.2, (0..3_u8, 0..2_u8, 1..30_i64)),
        history in prop_oneof![2 => Just(History::All), 1 => Just(History::Failures), 1 => Just(History::None)],
        keep in weighted(0.2, (0..5_i64, 0..5_i64)),
        tenant in weighted(0.2, 0..2_u8),
        limits in prop_oneof![3 => Just(Vec::new()), 1 => proptest::sample::subsequence(vec![0, 1], 0..=2)],
        unique in weighted(0.1, prop_oneof![
            Just(Until::Started), Just(Until::Finished), (1..5_i64).prop_map(Until::Hours),
        ]),
    ) -> NewJob {
        NewJob {
            again, priority, delay, parked, deadline, isolated, endless, key, history, keep, tenant, limits, unique,
        }
    }
}

fn end() -> impl Strategy<Value = End> {
    let keep = || 0..5_i64;
    prop_oneof![
        3 => (any::<bool>(), keep()).prop_map(|(result, keep)| End::Succeeded { result, keep }),
        2 => keep().prop_map(|keep| End::Failed { keep }),
        1 => keep().prop_map(|keep| End::Cancelled { keep }),
        2 => (0..3_i64, keep()).prop_map(|(delay, keep)| End::Retrying { delay, keep }),
        2 => (reason(), keep()).prop_map(|(reason, keep)| End::Parked { reason, keep }),
        2 => (0..3_i64, keep()).prop_map(|(delay, keep)| End::Crashed { delay, keep }),
        2 => (0..3_i64).prop_map(|delay| End::Released { delay }),
        1 => (0..3_i64).prop_map(|delay| End::Misdirected { delay }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => new_job().prop_map(Operation::Push),
        3 => vec(new_job(), 1..6).prop_map(Operation::PushMany),
        14 => (0..3_u8, 1..6_usize, 1..4_i64, any::<bool>())
            .prop_map(|(worker, want, lease, idle)| Operation::Fetch { worker, want, lease, idle }),
        3 => (vec(pick(), 1..4), 1..4_i64).prop_map(|(runs, lease)| Operation::Renew { runs, lease }),
        12 => vec((pick(), end()), 1..4).prop_map(Operation::Settle),
        3 => pick().prop_map(|run| Operation::Progress { run }),
        3 => (pick(), 1..4_usize).prop_map(|(run, lines)| Operation::Log { run, lines }),
        6 => pick().prop_map(|job| Operation::Cancel { job }),
        6 => pick().prop_map(|job| Operation::Retry { job }),
        3 => reason().prop_map(|reason| Operation::Unpark { reason }),
        3 => (weighted(0.7, vec(pick(), 1..4)), any::<bool>()).prop_map(|(jobs, purge)| Operation::Dead { jobs, purge }),
        2 => limit().prop_map(|limit| Operation::Promote { limit }),
        3 => limit().prop_map(|limit| Operation::Reclaim { limit }),
        2 => limit().prop_map(|limit| Operation::Expire { limit }),
        2 => (limit(), 0..8_u64, 0..8_u64).prop_map(|(limit, done, dead)| Operation::Trim { limit, done, dead }),
        3 => limit().prop_map(|limit| Operation::Record { limit }),
        14 => Just(Operation::Tick),
        1 => (2..30_i64).prop_map(|hours| Operation::Away { hours }),
        1 => any::<bool>().prop_map(Operation::Pause),
        1 => weighted(0.5, 0..6_usize).prop_map(Operation::Cap),
        1 => weighted(0.5, 0..6_usize).prop_map(Operation::Limit),
        2 => (0..LIMITS.len(), weighted(0.5, 1..4_usize), weighted(0.3, 1..4_i64))
            .prop_map(|(limit, concurrency, burst)| Operation::Bound { limit, concurrency, burst }),
    ]
}

pub(super) fn sequences() -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), 1..60)
}
