//! What finished jobs leave for others.

use std::time::Duration;

use fourmi_model::{History, JobRecord, Priority, State};
use fourmi_queue::{Batch, Consumer, Outbox, OutboxConfig, Outcome, QueueEvent, Settlement};

use crate::bench::{Bench, KEEP, error, retrying, submission, succeeded};

/// Takes what is in an outbox, and acknowledges it.
async fn records(outbox: &Outbox) -> Vec<JobRecord> {
    let batch = outbox.take(1_000).await.unwrap();
    assert!(batch.unreadable.is_empty(), "{:?}", batch.unreadable);
    outbox.acknowledge(&batch).await.unwrap();
    batch.records
}

async fn the_outbox_holds_all_that_is_known_of_a_finished_job(bench: Bench) {
    let outbox = bench.outbox(OutboxConfig::default()).await;
    let mut wanted = submission();
    wanted.envelope.tags = vec!["one".into(), "two words".into()];
    wanted.priority = Priority::High;
    let id = bench.push(wanted).await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, retrying(Duration::ZERO)).await;
    bench.queues.retry(&id).await.unwrap();
    let (_, run) = bench.fetch_one().await;
    bench.transitions.progress(&[(run, r#"{"stage":"encode","percent":99}"#.to_owned())]).await.unwrap();
    assert!(outbox.take(10).await.unwrap().is_empty(), "it is not over yet");
    bench.settle(run, succeeded()).await;

    let batch = outbox.take(10).await.unwrap();
    let runs = bench.queues.runs(&id).await.unwrap();
    assert_eq!(runs.len(), 1);
    let waited_ms = batch.records[0].waited_ms;
    assert!(waited_ms.is_some_and(|ms| ms < 10_000), "{waited_ms:?}");
    assert_eq!(batch.records, [JobRecord { job: bench.job(&id).await, worker: Some("w1".into()), waited_ms, runs }]);
    assert_eq!(
        bench.queues.outbox(&bench.name, Consumer::Records).await.unwrap().map(|outbox| outbox.waiting),
        Some(1)
    );
    outbox.acknowledge(&batch).await.unwrap();
    assert_eq!(
        bench.queues.outbox(&bench.name, Consumer::Records).await.unwrap().map(|outbox| outbox.waiting),
        Some(0)
    );

    // A replay ends once more, under a higher version.
    let id = bench.push_plain().await;
    bench.queues.cancel(&id).await.unwrap();
    bench.queues.retry(&id).await.unwrap();
    bench.queues.cancel(&id).await.unwrap();
    let versions: Vec<_> =
        records(&outbox).await.into_iter().map(|it| (it.job.id, it.job.state, it.job.version)).collect();
    assert_eq!(versions, [(id.clone(), State::Cancelled, 2), (id, State::Cancelled, 4)]);
}

async fn an_outbox_that_nobody_consumes_is_not_filled(bench: Bench) {
    bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, succeeded()).await;
    assert_eq!(bench.queues.outbox(&bench.name, Consumer::Records).await.unwrap(), None);
    assert!(!bench.keys().contains(&bench.key("out")));
}

async fn the_outbox_of_webhooks_holds_every_end_and_goes_when_it_is_closed(bench: Bench) {
    let history = bench.outbox(OutboxConfig::default()).await;
    let config = OutboxConfig::default();
    let hooks = Outbox::of(&bench.queues, bench.name.clone(), Consumer::Webhooks, config).await.unwrap();
    hooks.open().await.unwrap();
    let mut submission = submission();
    submission.history = History::None;
    let id = bench.push(submission).await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, succeeded()).await;
    assert!(records(&history).await.is_empty());
    let told: Vec<_> = records(&hooks).await.into_iter().map(|it| it.job).collect();
    assert_eq!(told, [bench.job(&id).await]);

    bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, succeeded()).await;
    assert_eq!(bench.queues.outbox(&bench.name, Consumer::Webhooks).await.unwrap().map(|it| it.waiting), Some(1));
    hooks.close().await.unwrap();
    assert_eq!(bench.queues.outbox(&bench.name, Consumer::Webhooks).await.unwrap(), None);
    assert!(!bench.keys().contains(&bench.key("hooks")));
    assert_eq!(records(&history).await.len(), 1);
}

async fn the_outbox_of_a_broker_tells_every_transition_in_order(bench: Bench) {
    let config = OutboxConfig::default();
    let wire = Outbox::of(&bench.queues, bench.name.clone(), Consumer::Broker, config).await.unwrap();
    wire.open().await.unwrap();
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.transitions.progress(&[(run, r#"{"stage":"encode","percent":99}"#.to_owned())]).await.unwrap();
    bench.settle(run, retrying(Duration::ZERO)).await;
    bench.queues.retry(&id).await.unwrap();
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, succeeded()).await;
    let batch = wire.take_events(100).await.unwrap();
    let mut told = Vec::new();
    let mut versions = Vec::new();
    for event in &batch.events {
        let (of, version, state) = match event {
            QueueEvent::Moved { id, version, state, .. } => (id, *version, *state),
            QueueEvent::Ended(record) => (&record.job.id, record.job.version, record.job.state),
        };
        assert_eq!(*of, id);
        told.push(state);
        versions.push(version);
    }
    let (waiting, running) = (State::Waiting, State::Running);
    assert_eq!(told, [waiting, running, State::Retrying, waiting, running, State::Succeeded]);
    assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
    let kind = bench.job(&id).await.kind;
    assert_eq!(wire.kinds(std::slice::from_ref(&id)).await.unwrap().remove(&id), Some(kind));
    wire.acknowledge_events(&batch).await.unwrap();
    assert!(wire.take_events(100).await.unwrap().events.is_empty());
}

async fn the_outbox_holds_what_the_kind_says(bench: Bench) {
    let outbox = bench.outbox(OutboxConfig::default()).await;
    let mut expected = Vec::new();
    for (history, kept) in
        [(History::All, [true, true]), (History::Failures, [true, false]), (History::None, [false; 2])]
    {
        let failed = Outcome::Failed { error: error(), keep: KEEP };
        for (outcome, kept) in [failed, succeeded()].into_iter().zip(kept) {
            let mut submission = submission();
            submission.history = history;
            let id = bench.push(submission).await;
            let (_, run) = bench.fetch_one().await;
            bench.settle(run, outcome).await;
            expected.extend(kept.then_some(id));
        }
    }
    let found: Vec<_> = records(&outbox).await.into_iter().map(|record| record.job.id).collect();
    assert_eq!(found, expected);
}

async fn what_is_taken_from_the_outbox_and_not_acknowledged_comes_again(bench: Bench) {
    let patient = bench.outbox(OutboxConfig::default()).await;
    let impatient = bench.outbox(OutboxConfig { redeliver_after: Duration::ZERO, ..OutboxConfig::default() }).await;
    for _ in 0..10 {
        let id = bench.push_plain().await;
        bench.queues.cancel(&id).await.unwrap();
    }
    let ids = |batch: &Batch| batch.records.iter().map(|record| record.job.id.clone()).collect::<Vec<_>>();
    let first = patient.take(4).await.unwrap();
    let second = patient.take(100).await.unwrap();
    assert_eq!((first.len(), second.len()), (4, 6));
    assert!(patient.take(100).await.unwrap().is_empty(), "they are somebody's");

    let again = impatient.take(100).await.unwrap();
    assert_eq!(ids(&again), [ids(&first), ids(&second)].concat());
    patient.acknowledge(&first).await.unwrap();
    assert_eq!(ids(&impatient.take(100).await.unwrap()), ids(&second));
    patient.acknowledge(&second).await.unwrap();
    patient.acknowledge(&second).await.unwrap();
    assert!(impatient.take(100).await.unwrap().is_empty());
}

async fn a_full_outbox_drops_the_oldest_and_says_how_many(bench: Bench) {
    let outbox = bench.outbox(OutboxConfig { most: 200, ..OutboxConfig::default() }).await;
    let jobs: Vec<_> = (0..2_000).map(|_| (bench.new_id(), submission())).collect();
    bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    for _ in 0..10 {
        let runs = bench.fetch(200).await.into_iter();
        let settlements: Vec<_> = runs.map(|(_, run)| Settlement { run, outcome: succeeded() }).collect();
        bench.transitions.settle(&settlements).await.unwrap();
    }
    let state = bench.queues.outbox(&bench.name, Consumer::Records).await.unwrap().unwrap();
    assert!((200..400).contains(&state.waiting), "{state:?}");
    assert_eq!(state.waiting + state.dropped, 2_000);
    let batch = outbox.take(1_000).await.unwrap();
    assert_eq!((batch.records.len() as u64, batch.dropped), (state.waiting, state.dropped));
    assert_eq!(batch.records.last().unwrap().job.id, jobs[1_999].0, "the newest is there");
}

async fn an_outbox_that_redis_has_lost_is_opened_again(bench: Bench) {
    let outbox = bench.outbox(OutboxConfig::default()).await;
    for key in bench.keys() {
        let () = bench.redis.ask(redis::cmd("DEL").arg(key));
    }
    assert!(outbox.take(10).await.unwrap().is_empty());
    let id = bench.push_plain().await;
    bench.queues.cancel(&id).await.unwrap();
    assert_eq!(records(&outbox).await[0].job.id, id);

    // Somebody has removed the stream alone.
    let () = bench.redis.ask(redis::cmd("DEL").arg(bench.key("out")));
    let id = bench.push_plain().await;
    bench.queues.cancel(&id).await.unwrap();
    outbox.take(10).await.unwrap_err();
    assert_eq!(records(&outbox).await[0].job.id, id);
}

async fn an_entry_of_the_outbox_that_cannot_be_read_does_not_stand_in_the_way(bench: Bench) {
    let outbox = bench.outbox(OutboxConfig::default()).await;
    let broken = bench.push_plain().await;
    let () = bench.redis.ask(redis::cmd("SET").arg(bench.key(&format!("b:{}", broken.uuid()))).arg("{nonsense"));
    let whole = bench.push_plain().await;
    for id in [&broken, &whole] {
        bench.queues.cancel(id).await.unwrap();
    }
    let batch = outbox.take(10).await.unwrap();
    assert_eq!(batch.records[0].job.id, whole);
    assert!(batch.unreadable[0].to_string().contains(&broken.to_string()), "{:?}", batch.unreadable);
    outbox.acknowledge(&batch).await.unwrap();
    assert_eq!(
        bench.queues.outbox(&bench.name, Consumer::Records).await.unwrap().map(|outbox| outbox.waiting),
        Some(0)
    );
}

promises! {
    the_outbox_holds_all_that_is_known_of_a_finished_job,
    an_outbox_that_nobody_consumes_is_not_filled,
    the_outbox_of_webhooks_holds_every_end_and_goes_when_it_is_closed,
    the_outbox_of_a_broker_tells_every_transition_in_order,
    the_outbox_holds_what_the_kind_says,
    what_is_taken_from_the_outbox_and_not_acknowledged_comes_again,
    a_full_outbox_drops_the_oldest_and_says_how_many,
    an_outbox_that_redis_has_lost_is_opened_again,
    an_entry_of_the_outbox_that_cannot_be_read_does_not_stand_in_the_way,
}
