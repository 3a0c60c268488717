//! Many jobs are steered by filter; jobs that are over are deleted.

use std::time::Duration;

use fourmi_model::{JobId, State, Submission};
use fourmi_queue::{ActionStep, Deleted, JobAction, JobFilter, Outcome};

use crate::bench::{Bench, HOUR, KEEP, error, retrying, submission, succeeded};

/// A walk through the jobs that a filter wants.
struct Walk<'a> {
    bench: &'a Bench,
    action: JobAction,
    filter: JobFilter,
    count_only: bool,
    steps: usize,
    total: ActionStep,
}

impl<'a> Walk<'a> {
    fn new(bench: &'a Bench, action: JobAction, filter: JobFilter, count_only: bool) -> Self {
        Self { bench, action, filter, count_only, steps: 0, total: ActionStep::default() }
    }

    /// Takes the next step; whether there is another.
    async fn step(&mut self) -> bool {
        let (cursor, Self { bench, action, filter, count_only, .. }) = (self.total.next.take(), &*self);
        let step = bench.queues.act(&bench.name, *action, filter, *count_only, cursor.as_deref()).await.unwrap();
        self.steps += 1;
        self.total.matched += step.matched;
        self.total.done += step.done;
        self.total.deleted.extend(step.deleted);
        self.total.next = step.next;
        self.total.next.is_some()
    }
}

async fn push_many(bench: &Bench, count: usize, job: &Submission) -> Vec<JobId> {
    let jobs: Vec<_> = (0..count).map(|_| (bench.new_id(), job.clone())).collect();
    bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    jobs.into_iter().map(|(id, _)| id).collect()
}

fn tagged(tag: &str) -> JobFilter {
    JobFilter { tag: Some(tag.into()), ..JobFilter::default() }
}

async fn no_job_is_passed_over_while_workers_take_others_and_new_ones_come(bench: Bench) {
    let mut old = submission();
    old.envelope.tags = vec!["old".into()];
    push_many(&bench, 2_500, &old).await;
    old.tenant = Some("acme".parse().unwrap());
    push_many(&bench, 600, &old).await;
    tokio::time::sleep(Duration::from_millis(2)).await; // What comes in this very millisecond would count.
    let filter = JobFilter { states: vec![State::Waiting], ..tagged("old") };
    let mut count = Walk::new(&bench, JobAction::Cancel, filter.clone(), true);
    while count.step().await {}
    assert_eq!((count.total.matched, count.total.done), (3_100, 0));
    assert!(count.steps >= 4, "a step looks at a thousand");
    let mut started = 0;
    let mut walk = Walk::new(&bench, JobAction::Cancel, filter, false);
    while walk.step().await {
        started += bench.fetch(70).await.len() as u64;
        push_many(&bench, 300, &old).await;
    }
    let total = walk.total;
    let new = bench.count(State::Waiting).await;
    assert_eq!((bench.count(State::Cancelled).await, new > 0), (total.done, true));
    // Those that were started meanwhile were old ones, or new.
    assert!(total.done + started >= 3_100, "{} cancelled, {started} started", total.done);
    assert!(total.matched <= 3_100, "what came later was not met");
}

async fn a_job_that_has_changed_since_it_was_read_is_left_alone(bench: Bench) {
    let ids = push_many(&bench, 3, &submission()).await;
    let stale = |id: &JobId| (id.clone(), JobFilter { states: vec![State::Waiting], ..JobFilter::default() });
    bench.fetch(1).await;
    let (id, filter) = stale(&ids[0]);
    let step = bench.queues.act_on_ids(&bench.name, JobAction::Cancel, &filter, false, &[id]).await.unwrap();
    assert_eq!((step.matched, step.done), (0, 0), "it runs");
    let all = JobFilter::default();
    let step = bench.queues.act_on_ids(&bench.name, JobAction::Cancel, &all, false, &ids).await.unwrap();
    assert_eq!((step.matched, step.done), (3, 3));
    let again = bench.queues.act_on_ids(&bench.name, JobAction::Cancel, &all, false, &ids).await.unwrap();
    assert_eq!((again.matched, again.done), (0, 0), "two are cancelled, one was asked to stop");
}

async fn what_is_let_run_and_comes_back_is_not_let_run_again(bench: Bench) {
    push_many(&bench, 1_300, &submission()).await;
    while let runs = bench.fetch(1_000).await
        && !runs.is_empty()
    {
        for (_, run) in runs {
            bench.settle(run, retrying(HOUR)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    let mut walk = Walk::new(&bench, JobAction::Retry, JobFilter::default(), false);
    assert!(walk.step().await);
    tokio::time::sleep(Duration::from_millis(2)).await;
    for (_, run) in bench.fetch(100).await {
        bench.settle(run, Outcome::Failed { error: error(), keep: KEEP }).await;
    }
    while walk.step().await {}
    assert_eq!((walk.total.matched, walk.total.done), (1_300, 1_300));
    assert_eq!(bench.count(State::Failed).await, 100);
}

async fn a_deleted_job_leaves_no_key(bench: Bench) {
    let ids = push_many(&bench, 3, &submission()).await;
    assert_eq!(bench.queues.delete(&ids[0]).await.unwrap(), Deleted::NotOver(State::Waiting));
    assert_eq!(bench.queues.delete(&bench.new_id()).await.unwrap(), Deleted::Unknown);
    for outcome in [succeeded(), Outcome::Failed { error: error(), keep: KEEP }] {
        let (_, run) = bench.fetch_one().await;
        bench.settle(run, outcome).await;
    }
    bench.queues.cancel(&ids[2]).await.unwrap();
    assert_eq!(bench.queues.delete(&ids[0]).await.unwrap(), Deleted::Now);
    assert_eq!(bench.queues.delete(&ids[0]).await.unwrap(), Deleted::Unknown);
    let mut walk = Walk::new(&bench, JobAction::Delete, JobFilter::default(), false);
    assert!(!walk.step().await);
    assert_eq!((walk.total.matched, walk.total.done, walk.total.deleted.len()), (2, 2, 2));

    let of_them = |key: &String| ids.iter().any(|id| key.contains(&id.uuid().to_string()));
    let left: Vec<String> = bench.keys().into_iter().filter(of_them).collect();
    assert_eq!(left, Vec::<String>::new());
    let counts = bench.queues.counts(&bench.name).await.unwrap();
    assert!(counts.0.values().all(|count| *count == 0), "{counts:?}");
    // The entry of a cancelled job is still in its lane, and skipped.
    bench.push_plain().await;
    assert_eq!(bench.fetch(10).await.len(), 1);
}

promises! {
    no_job_is_passed_over_while_workers_take_others_and_new_ones_come,
    a_job_that_has_changed_since_it_was_read_is_left_alone,
    what_is_let_run_and_comes_back_is_not_let_run_again,
    a_deleted_job_leaves_no_key,
}
