//! Everything that can go wrong goes wrong at once, for a while; then the promises of the queue are checked against what
//! all sides have written down. `scripts/chaos` starts it; docs/chaos.md says what is thrown at the queue.
//!
//! Workers, submitters and Redis are processes of their own. Each worker and submitter reaches Redis through a line of its
//! own (`proxy`). What happens to whom follows from the seed (`faults`, `house`); what came of it is gathered in `history`
//! and judged in `verdict`.

mod faults;
mod history;
mod house;
mod journal;
pub mod messages;
mod proxy;
mod random;
mod scorecard;
mod submitter;
mod transitions;
mod verdict;
mod work;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::builder::TypedValueParser;
use fourmi_model::{Limit, State};
use fourmi_queue::{Queues, Transitions};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use uuid::Uuid;

use history::{End, History};
use house::House;
use journal::{Journal, now};
use scorecard::Scorecard;
pub use submitter::Task;
use submitter::{LIMIT, MOST_AT_ONCE};

/// How long nothing may happen while jobs are unfinished and nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Broken promises of one sort that are printed; the scorecard in the folder has all.
const MOST_PRINTED: usize = 3;

/// What to do, for how long.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// For how long things go wrong.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// What goes wrong and when; drawn if it is not given.
    #[arg(long, default_value_t = draw())]
    seed: u64,
    /// Worker processes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64).map(usize::from))]
    workers: usize,
    /// Submitter processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64).map(usize::from))]
    submitters: usize,
    /// The lease of a run.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(500..=60_000))]
    lease_ms: u64,
    /// The folder that keeps the history; without it, one beside the programs.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn draw() -> u64 {
    u64::from(Uuid::new_v4().as_fields().0)
}

/// The worker of this test, until it is told to stop; or one job, as its child.
pub fn worker() -> ExitCode {
    work::worker()
}

/// Submits jobs until it is told to stop.
pub async fn submitter(task: Task) {
    submitter::run(task).await;
}

/// Lets things go wrong, and says whether the promises held. Interrupted, it ends what it has started.
pub async fn run(options: Options) -> bool {
    let mut asked_to_end = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        held = let_it_happen(options) => held,
        _ = tokio::signal::ctrl_c() => false,
        _ = asked_to_end.recv() => false,
    }
}

async fn let_it_happen(options: Options) -> bool {
    let folder = open_folder(&options);
    let skewed_clocks = house::faketime().is_some();
    println!("Chaos for {} s, seed {}.", options.seconds, options.seed);
    if !skewed_clocks {
        println!("All clocks are right, because libfaketime is missing (scripts/setup installs it).");
    }

    let (workers, submitters) = (options.workers, options.submitters);
    let plan = faults::plan(options.seed, options.seconds, workers, submitters, options.lease_ms);
    let kept = Journal::open(&folder.join("plan.jsonl"));
    plan.iter().for_each(|planned| kept.write(planned));

    let house = House::open(&options, &folder).await;
    let queues = house.queues().await;
    let limit = Limit { concurrency: Some(MOST_AT_ONCE.try_into().unwrap()), rate: None };
    assert!(queues.set_limit(&submitter::queue(), &LIMIT.parse().unwrap(), Some(limit)).await.unwrap());
    let stalls = house.watch_for_stalls(queues.clone(), Duration::from_millis(options.lease_ms / 3));
    house.suffer(&plan).await;
    println!("Nothing goes wrong any more; waiting for the queue to come to rest …");
    house.end_submitters().await;
    let stuck = rest(&house, &queues).await;
    house.end_workers().await;
    stalls.abort();

    let mut history = gather(&options, &folder, &house, &queues).await;
    history.stuck = stuck;
    history.keys = forget_all(&house, &queues).await;
    drop(house);
    let verdict = verdict::judge(&history);
    let scorecard = Scorecard::of(&options, skewed_clocks, &history, verdict);
    std::fs::write(folder.join("scorecard.json"), serde_json::to_vec_pretty(&scorecard).unwrap()).unwrap();
    print(&scorecard, &folder);
    scorecard.violations.is_empty()
}

fn print(scorecard: &Scorecard, folder: &Path) {
    println!("\n{scorecard}");
    let mut printed: BTreeMap<_, usize> = BTreeMap::new();
    for violation in &scorecard.violations {
        let of_promise = printed.entry(violation.promise).or_default();
        *of_promise += 1;
        if *of_promise > MOST_PRINTED {
            continue;
        }
        let job = violation.job.map(|job| format!(" job {job}")).unwrap_or_default();
        let run = violation.run.map(|run| format!(" run {run}")).unwrap_or_default();
        println!("BROKEN {:?}:{job}{run}: {}", violation.promise, violation.what);
        violation.around.iter().for_each(|line| println!("    {line}"));
    }
    let verdict = if scorecard.violations.is_empty() { "All promises held." } else { "Promises were broken." };
    println!("{verdict} The whole history is in {}", folder.display());
}

/// An empty folder for the history.
fn open_folder(options: &Options) -> PathBuf {
    let beside_programs = || {
        let program = std::env::current_exe().unwrap();
        program.ancestors().nth(2).unwrap().join("chaos").join(options.seed.to_string())
    };
    let folder = options.keep.clone().unwrap_or_else(beside_programs);
    // Only what an earlier run has left is replaced.
    if folder.join("plan.jsonl").exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(folder.join("data")).unwrap();
    std::path::absolute(folder).unwrap()
}

/// Waits until no job is unfinished and nobody waits for news, for as long as something happens; says what is left if
/// nothing does.
async fn rest(house: &House, queues: &Queues) -> Option<String> {
    let mut last: (Instant, BTreeMap<State, u64>) = (Instant::now(), BTreeMap::new());
    loop {
        if let Some(counts) = submitter::unfinished(queues).await {
            let left: BTreeMap<_, _> = counts.iter().filter(|(state, jobs)| !state.is_final() && **jobs > 0).collect();
            let untold = house.untold();
            if left.is_empty() && untold == 0 {
                return None;
            }
            if last.0.elapsed() > PATIENCE {
                let left = format!("{left:?}; of the end of {untold} jobs somebody has not heard");
                return Some(format!("nothing happens any more, and these jobs are left: {left}"));
            }
            if counts != last.1 {
                last = (Instant::now(), counts);
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn gather(options: &Options, folder: &Path, house: &House, queues: &Queues) -> History {
    let clock = jiff::Timestamp::now().as_millisecond() - now();
    let lease_ms = options.lease_ms.try_into().unwrap();
    let mut history = History { clock, lease_ms, ..History::default() };
    for number in 0..options.submitters {
        history.add_submitter(&folder.join(format!("submitter-{number}.jsonl")));
    }
    history.add_effects(journal::read(&folder.join("effects.jsonl")));
    history.troubles = journal::read(&folder.join("troubles.jsonl"));
    let of_redis = house.redis_folder();
    let log = transitions::read(&of_redis, work::QUEUE);
    (history.transitions, history.most_under_a_limit) = (log.transitions, log.most_under_a_limit);

    let (steps, ends) = (Journal::open(&folder.join("transitions.jsonl")), Journal::open(&folder.join("ends.jsonl")));
    let mut jobs: Vec<Uuid> = history.transitions.keys().chain(history.accepted.values()).copied().collect();
    jobs.sort_unstable();
    jobs.dedup();
    for id in jobs {
        steps.write(&(id, history.transitions.get(&id)));
        if let Some(job) = queues.get(&submitter::job_id(id)).await.unwrap() {
            let end = End::of(&job, queues.runs(&job.id).await.unwrap());
            ends.write(&end);
            history.ends.insert(id, end);
        }
    }
    history
}

/// Purges all finished jobs; gives the keys that are left, but for the one that every queue has and those that end by
/// themselves.
async fn forget_all(house: &House, queues: &Queues) -> Vec<String> {
    let transitions = Transitions::of(queues, submitter::queue()).await.unwrap();
    while transitions.trim(1_000, (0, 0)).await.unwrap() > 0 {}
    // What belongs to the queue, and what processes have said of themselves before they were killed.
    let of_queue = |key: &str| {
        let name = key.rsplit_once("}:").map_or(key, |(_, name)| name);
        matches!(name, "m" | "limits" | "workers" | "draining") || name.starts_with("wk:")
    };
    house.keys_that_stay().into_iter().filter(|key| !of_queue(key)).collect()
}
