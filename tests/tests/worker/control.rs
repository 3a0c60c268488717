//! Worker processes that are steered while they run: slots, cap, pause, drain; and one that dies.

use fourmi_model::WorkerInfo;

use super::*;

impl Yard {
    async fn workers(&self) -> Vec<WorkerInfo> {
        self.queues.workers(&queue()).await.unwrap()
    }

    /// Waits until the live processes look so.
    async fn until_workers(&self, what: &str, there: impl Fn(&[WorkerInfo]) -> bool) -> Vec<WorkerInfo> {
        eventually_async(what, async || Some(self.workers().await).filter(|workers| there(workers))).await
    }

    /// Waits until so many jobs run.
    async fn until_running(&self, jobs: u64) {
        let running = async || self.queues.counts(&queue()).await.unwrap().0[&State::Running];
        eventually_async("so many run", async || (running().await == jobs).then_some(())).await;
    }
}

/// The process of a worker among those that are listed.
fn of<'a>(worker: &Program, workers: &'a [WorkerInfo]) -> &'a WorkerInfo {
    workers.iter().find(|it| it.pid == worker.pid()).unwrap()
}

#[tokio::test]
async fn the_slots_of_a_queue_are_shared_out_live_between_processes() {
    let yard = Yard::new().await;
    yard.queues.set_slots(&queue(), Some(3)).await.unwrap();
    let _workers = [yard.worker_with(&[("FOURMI_SLOTS", "9")]), yard.worker_with(&[("FOURMI_SLOTS", "9")])];
    let has = |workers: &[WorkerInfo], slots: [u32; 2]| {
        let mut all: Vec<_> = workers.iter().map(|worker| worker.slots).collect();
        all.sort_unstable();
        all == slots
    };
    yard.until_workers("each has its share", |workers| has(workers, [1, 2])).await;
    for _ in 0..20 {
        yard.push(&yard.hold(true)).await;
    }
    yard.until_running(3).await;
    yard.queues.set_slots(&queue(), Some(8)).await.unwrap();
    yard.until_running(8).await;
    let busy = yard.until_workers("all are busy", |workers| workers.iter().all(|worker| worker.busy == 4)).await;
    assert!(has(&busy, [4, 4]) && busy.iter().all(|worker| worker.jobs.len() == 4), "{busy:?}");
    // Fewer take nothing away from what runs; none at all start nothing more.
    yard.queues.set_slots(&queue(), Some(0)).await.unwrap();
    yard.until_workers("none has slots", |workers| has(workers, [0, 0])).await;
    yard.open_gate();
    yard.until_running(0).await;
    assert_eq!(yard.queues.counts(&queue()).await.unwrap().0[&State::Waiting], 12);
    yard.queues.set_slots(&queue(), None).await.unwrap();
    eventually_async("all are done", async || {
        (yard.queues.counts(&queue()).await.unwrap().0[&State::Succeeded] == 20).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cap_and_a_pause_bind_processes_that_wait_for_jobs() {
    let yard = Yard::new().await;
    let _workers = [yard.worker_with(&[("FOURMI_SLOTS", "4")]), yard.worker_with(&[("FOURMI_SLOTS", "4")])];
    yard.queues.set_cap(&queue(), Some(2)).await.unwrap();
    yard.queues.pause(&queue()).await.unwrap();
    for _ in 0..6 {
        yard.push(&yard.hold(true)).await;
    }
    yard.queues.resume(&queue()).await.unwrap();
    yard.until_running(2).await;
    yard.queues.set_cap(&queue(), Some(5)).await.unwrap();
    yard.until_running(5).await;
    assert_eq!(yard.queues.counts(&queue()).await.unwrap().0[&State::Waiting], 1);
    yard.queues.set_cap(&queue(), None).await.unwrap();
    yard.until_running(6).await;
}

#[tokio::test]
async fn one_process_is_drained_while_the_other_goes_on() {
    let yard = Yard::new().await;
    let (mut first, second) = (yard.worker_with(&[("FOURMI_SLOTS", "1")]), yard.worker_with(&[("FOURMI_SLOTS", "1")]));
    let ids = [yard.push(&yard.hold(true)).await, yard.push(&yard.hold(true)).await];
    yard.until_running(2).await;
    let workers = yard.workers().await;
    let known = &of(&first, &workers).kinds;
    assert_eq!((known[&"test.hold".parse().unwrap()], known[&"test.greet".parse().unwrap()]), (1, 2));
    assert!(yard.queues.drain(&queue(), &of(&first, &workers).name).await.unwrap());
    first.wait_for_line("draining");
    yard.until_workers("it says so", |workers| of(&first, workers).draining).await;
    let third = yard.push(&yard.hold(true)).await;
    yard.open_gate();
    assert!(first.wait().success());
    for id in ids.iter().chain([&third]) {
        let job = yard.end(id).await;
        assert_eq!((job.state, job.run), (State::Succeeded, 1));
    }
    let left = yard.workers().await;
    assert_eq!(left.iter().map(|worker| worker.pid).collect::<Vec<_>>(), [second.pid()]);
    assert!(!left[0].draining);
}

#[tokio::test]
async fn who_stops_a_process_that_drains_takes_nothing_from_its_runs() {
    let yard = Yard::new().await;
    let mut worker = yard.worker();
    let id = yard.push(&yard.hold(true)).await;
    yard.until_running(1).await;
    assert!(yard.queues.drain(&queue(), &yard.workers().await[0].name).await.unwrap());
    worker.wait_for_line("draining");
    worker.signal(Signal::SIGTERM);
    worker.wait_for_line("it ends already");
    yard.open_gate();
    assert!(worker.wait().success());
    let job = yard.end(&id).await;
    assert_eq!((job.state, job.run), (State::Succeeded, 1));
    assert!(yard.workers().await.is_empty());
}

#[tokio::test]
async fn a_worker_that_is_stopped_while_it_starts_keeps_no_job() {
    let yard = Yard::new().await;
    for round in 0..12 {
        let id = yard.push(&Echo { value: json!(round) }).await;
        let mut worker = yard.starting(&[("FOURMI_LEASE_MS", "60000")]);
        yard.until_workers("it is known", |workers| workers.iter().any(|it| it.pid == worker.pid())).await;
        worker.signal(Signal::SIGTERM);
        assert!(worker.wait().success());
        let job = yard.queues.get(&id).await.unwrap().unwrap();
        assert!(matches!(job.state, State::Waiting | State::Succeeded), "round {round}: {:?}", job.state);
    }
}

#[tokio::test]
async fn a_dead_process_disappears_and_its_jobs_come_back() {
    let yard = Yard::new().await;
    let mut first = yard.worker();
    let id = yard.push(&yard.hold(true)).await;
    yard.until_running(1).await;
    let dead = yard.workers().await.remove(0);
    first.kill();
    let second = yard.worker();
    yard.open_gate();
    let job = yard.end(&id).await;
    assert_eq!((job.state, job.run), (State::Succeeded, 2));
    // It is silent for a quarter of a minute.
    let long_ago = jiff::Timestamp::now().as_millisecond() - 16_000;
    let mut redis = yard.redis.connection();
    let () = redis::cmd("ZADD").arg("{test}:workers").arg(long_ago).arg(&dead.name).query(&mut redis).unwrap();
    let left = yard.until_workers("it is gone", |workers| workers.len() == 1).await;
    assert_eq!(left[0].pid, second.pid());
    eventually("nothing is known of it", || {
        !redis::cmd("EXISTS").arg(format!("{{test}}:wk:{}", dead.name)).query::<bool>(&mut redis).unwrap()
    });
}
