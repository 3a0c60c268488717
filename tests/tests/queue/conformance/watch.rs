//! A watched job is followed to its end.

use fourmi_model::State;
use fourmi_queue::{Settlement, Update, Watcher};

use crate::bench::{Bench, entries, succeeded};

async fn a_slow_watcher_gets_the_newest_progress_and_the_end(bench: Bench) {
    let watcher = Watcher::start(bench.queues.clone(), vec![bench.name.clone()]);
    let id = bench.push_plain().await;
    let (_, mut watch) = watcher.watch(&id).await.unwrap().unwrap();
    let (_, run) = bench.fetch_one().await;
    for percent in 0..500 {
        let news = [(run, format!(r#"{{"stage":"x","percent":{}}}"#, f64::from(percent) / 5.0))];
        bench.transitions.progress(&news).await.unwrap();
    }
    bench.settle(run, succeeded()).await;
    let mut versions = vec![];
    while let Some(update) = watch.next().await {
        versions.push(match update {
            Update::State(job) => job.version,
            Update::Progress { version, .. } => version,
            Update::Log { .. } => panic!("nobody logs"),
        });
    }
    assert!(versions.is_sorted() && versions.len() < 100, "{versions:?}");
    assert_eq!(*versions.last().unwrap(), bench.job(&id).await.version);
}

/// A watcher gets a snapshot, then what follows, and always the end, whatever happens to the connections meanwhile.
pub(crate) async fn a_watched_job_is_followed_through(bench: &Bench, outage: impl FnOnce()) {
    let watcher = Watcher::start(bench.queues.clone(), vec![bench.name.clone()]);
    let id = bench.push_plain().await;
    let (job, mut watch) = watcher.watch(&id).await.unwrap().unwrap();
    assert_eq!(job.state, State::Waiting);

    let (_, run) = bench.fetch_one().await;
    assert!(matches!(watch.next().await, Some(Update::State(job)) if job.state == State::Running));
    bench.transitions.progress(&[(run, r#"{"stage":"encode","percent":41}"#.to_owned())]).await.unwrap();
    let Some(Update::Progress { progress, run: 1, .. }) = watch.next().await else { panic!("no progress") };
    assert_eq!((progress.stage.as_str(), progress.percent), ("encode", 41.0));

    // A late subscriber gets the newest progress with the snapshot.
    let (late, mut late_watch) = watcher.watch(&id).await.unwrap().unwrap();
    assert_eq!(late.progress.unwrap().percent, 41.0);

    // The end, and the lines before it, are seen even if their events are lost with the connection.
    outage();
    while bench.transitions.log(&[(run, entries(&["a last word"]))]).await.is_err() {}
    while bench.transitions.settle(&[Settlement { run, outcome: succeeded() }]).await.is_err() {}
    for watch in [&mut watch, &mut late_watch] {
        let (mut said, mut end) = (Vec::new(), None);
        while let Some(update) = watch.next().await {
            match update {
                Update::Log { line, missed: 0 } => said.push(line.n),
                Update::State(job) => end = Some(job.state),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(end, Some(State::Succeeded));
        // A line whose answer was lost may be there twice, under two numbers.
        assert!(said.first() == Some(&1) && said.is_sorted_by(|one, next| one + 1 == *next), "{said:?}");
        assert!(watch.next().await.is_none());
    }
    assert!(watcher.watch(&bench.new_id()).await.unwrap().is_none());
}

promises! {
    a_slow_watcher_gets_the_newest_progress_and_the_end,
}
