//! Batches: one job that stands for many.

use fourmi_model::{BATCH_KIND, JobId, State, Submission};
use fourmi_queue::{Cancelled, Retried, Update, Watcher};
use fourmi_tests::eventually_async;

use crate::{
    bench::{payload, submission, succeeded},
    flows::{Flows, after, failed},
};

fn handle() -> Submission {
    Submission::new(BATCH_KIND.parse().unwrap(), payload(r#"{"jobs":1}"#))
}

impl Flows {
    /// Members in turn in both queues, and the handle of their batch.
    async fn batch(&self, members: usize) -> (JobId, Vec<JobId>) {
        let batch = self.one.new_id();
        let mut ids = Vec::new();
        for n in 0..members {
            let bench = if n % 2 == 0 { &self.one } else { &self.two };
            let mut member = submission();
            member.envelope.batch = Some(batch.clone());
            ids.push(bench.push(member).await);
        }
        let pushed = self.one.queues.push_batch(batch.clone(), handle(), &ids).await.unwrap().unwrap();
        assert_eq!((&pushed.id, pushed.existing()), (&batch, false));
        (batch, ids)
    }
}

#[tokio::test]
async fn a_batch_has_one_progress_one_end_and_a_job_that_follows() {
    let flows = Flows::new().await;
    let (batch, members) = flows.batch(4).await;
    let then = flows.two.push(after(&[&batch])).await;
    let watcher = Watcher::start(flows.one.queues.clone(), vec![flows.one.name.clone()]);
    let (job, mut watch) = watcher.watch(&batch).await.unwrap().unwrap();
    assert_eq!((job.state, job.kind.as_str()), (State::Blocked, BATCH_KIND));
    assert_eq!(flows.one.queues.retry(&batch).await.unwrap(), Retried::NotPossible(State::Blocked));
    assert_eq!(flows.one.fetch(0).await.len(), 0);

    flows.end(&flows.one, succeeded()).await;
    flows.relay().await;
    let Some(Update::Progress { progress, .. }) = watch.next().await else { panic!("progress comes first") };
    assert!((progress.percent - 25.0).abs() < 0.01, "{progress:?}");
    assert_eq!((progress.counters["total"], progress.counters["succeeded"]), (4.0, 1.0));
    let shown = flows.one.job(&batch).await.progress.unwrap();
    assert_eq!(shown, progress);

    flows.end(&flows.one, succeeded()).await;
    flows.end(&flows.two, succeeded()).await;
    flows.relay().await;
    assert_eq!(flows.two.state(&then).await, State::Blocked);
    flows.end(&flows.two, succeeded()).await;
    flows.relay().await;
    let job = flows.one.job(&batch).await;
    let counts = serde_json::json!({"total": 4, "succeeded": 4, "failed": 0, "cancelled": 0});
    assert_eq!((job.state, job.result), (State::Succeeded, Some(counts)));
    assert_eq!(flows.two.state(&then).await, State::Waiting);
    let last = eventually_async("the watch ends", async || match watch.next().await {
        Some(Update::State(job)) => Some(job.state),
        _ => None,
    });
    assert_eq!(last.await, State::Succeeded);

    let flow = flows.one.queues.flow(&members[..1]).await.unwrap();
    assert_eq!((flow.jobs.len(), flow.edges.len()), (6, 5), "{flow:?}");
    assert_eq!(flows.one.queues.retry(&batch).await.unwrap(), Retried::NotPossible(State::Succeeded));
}

#[tokio::test]
async fn a_batch_fails_with_its_members_and_names_them() {
    let flows = Flows::new().await;
    let (batch, members) = flows.batch(4).await;
    let then = flows.two.push(after(&[&batch])).await;
    flows.end(&flows.one, succeeded()).await;
    flows.end(&flows.one, failed()).await;
    flows.end(&flows.two, succeeded()).await;
    assert_eq!(flows.two.queues.cancel(&members[3]).await.unwrap(), Cancelled::Now);
    flows.relay().await;
    let job = flows.one.job(&batch).await;
    let error = job.error.unwrap();
    assert_eq!((job.state, error.code.as_str()), (State::Failed, "members_failed"));
    assert_eq!(error.message, "2 of 4 jobs did not succeed");
    let cause: serde_json::Value = serde_json::from_str(&error.cause.unwrap()).unwrap();
    assert_eq!((&cause["succeeded"], &cause["failed"], &cause["cancelled"]), (&2.into(), &1.into(), &1.into()));
    let named: Vec<JobId> = serde_json::from_value(cause["jobs"].clone()).unwrap();
    assert!(named.len() == 2 && named.contains(&members[2]) && named.contains(&members[3]), "{named:?}");
    assert_eq!(flows.two.state(&then).await, State::Cancelled);
    // A batch is not run again: its members are.
    assert_eq!(flows.one.queues.retry(&batch).await.unwrap(), Retried::NotPossible(State::Failed));
}

#[tokio::test]
async fn the_cancel_of_a_batch_cancels_its_open_members_and_can_be_repeated() {
    const MEMBERS: usize = 2_500;
    let flows = Flows::new().await;
    let jobs: Vec<_> = (0..MEMBERS).map(|_| (flows.two.new_id(), submission())).collect();
    flows.two.queues.push_many(&flows.two.name, &jobs).await.unwrap();
    let members: Vec<JobId> = jobs.into_iter().map(|(id, _)| id).collect();
    let batch = flows.one.new_id();
    flows.one.queues.push_batch(batch.clone(), handle(), &members).await.unwrap().unwrap();
    let again = flows.one.queues.push_batch(batch.clone(), handle(), &members).await.unwrap().unwrap();
    assert!(again.existing());
    let done = flows.end(&flows.two, succeeded()).await;
    flows.relay().await;

    assert!(!flows.one.queues.cancel_members(&batch).await.unwrap(), "not before the batch is");
    assert_eq!(flows.two.count(State::Cancelled).await, 0);
    assert_eq!(flows.one.queues.cancel(&batch).await.unwrap(), Cancelled::Now);
    assert!(flows.one.queues.cancel_members(&batch).await.unwrap());
    assert_eq!(flows.two.count(State::Cancelled).await, 1_000);
    // Whoever did it dies, and somebody cancels the batch again.
    assert_eq!(flows.one.queues.cancel(&batch).await.unwrap(), Cancelled::AlreadyOver(State::Cancelled));
    while flows.one.queues.cancel_members(&batch).await.unwrap() {}
    assert_eq!(flows.two.count(State::Cancelled).await, MEMBERS as u64 - 1);
    assert_eq!((flows.two.state(&done).await, flows.one.state(&batch).await), (State::Succeeded, State::Cancelled));
    flows.relay().await;
    assert_eq!(flows.one.state(&batch).await, State::Cancelled);
}

#[tokio::test]
async fn a_batch_whose_members_never_heard_of_it_is_tied_by_the_sweep() {
    let flows = Flows::new().await;
    let (batch, members) = flows.batch(3).await;
    for member in &members {
        let bench = if member.queue() == &flows.one.name { &flows.one } else { &flows.two };
        let () = bench.redis.ask(redis::cmd("DEL").arg(bench.key(&format!("kids:{}", member.uuid()))));
    }
    flows.end(&flows.one, succeeded()).await;
    flows.end(&flows.one, succeeded()).await;
    flows.end(&flows.two, succeeded()).await;
    flows.relay().await;
    assert_eq!(flows.one.state(&batch).await, State::Blocked);
    flows.later(&flows.one);
    flows.sweep().await;
    assert_eq!(flows.one.state(&batch).await, State::Succeeded);
}
