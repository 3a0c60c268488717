//! The lines of a job's log, and who reads them as they come.

use std::time::Duration;

use fourmi_model::{LogEntry, LogLevel, LogPage, State};
use fourmi_queue::{Run, Update, Watcher};

use crate::bench::{Bench, LEASE, entries, retrying, succeeded};

/// Appends this many lines in steps of some size, called `line 1` and so on.
async fn log_lines(bench: &Bench, run: Run, lines: std::ops::RangeInclusive<u64>, step: usize) {
    let all: Vec<_> = lines.map(|n| LogEntry::new(LogLevel::Info, &format!("line {n}"))).collect();
    for entries in all.chunks(step) {
        assert_eq!(bench.transitions.log(&[(run, entries.to_vec())]).await.unwrap(), [true]);
    }
}

async fn the_lines_of_a_log_keep_their_numbers_and_the_newest_are_kept(bench: Bench) {
    let id = bench.push_plain().await;
    assert_eq!(bench.queues.log(&id, 0, 10).await.unwrap(), Some(LogPage::default()));
    let (_, run) = bench.fetch_one().await;
    let before = jiff::Timestamp::now() - Duration::from_secs(60);
    bench.transitions.log(&[(run, vec![LogEntry::new(LogLevel::Warn, "one\n\u{7}two ")])]).await.unwrap();
    let first = bench.queues.log(&id, 0, 10).await.unwrap().unwrap();
    let line = &first.lines[0];
    assert_eq!((line.n, line.run, line.level, line.text.as_str()), (1, 1, LogLevel::Warn, "one  two"));
    assert!(line.time > before && first.next == 1 && first.missed == 0);

    log_lines(&bench, run, 2..=1_500, 700).await;
    let page = bench.queues.log(&id, 3, 1_000).await.unwrap().unwrap();
    assert_eq!((page.lines.len(), page.lines[0].n, page.next, page.missed), (1_000, 501, 1_500, 497));
    assert!(page.lines.iter().all(|line| line.text == format!("line {}", line.n)));
    // Another run goes on counting, and a page goes on where the one before ended.
    bench.settle(run, retrying(Duration::ZERO)).await;
    bench.queues.retry(&id).await.unwrap();
    let (_, run) = bench.fetch_one().await;
    log_lines(&bench, run, 1_501..=1_501, 1).await;
    let page = bench.queues.log(&id, 1_499, 1).await.unwrap().unwrap();
    assert_eq!((page.lines.len(), page.lines[0].n, page.next), (1, 1_500, 1_500));
    let page = bench.queues.log(&id, page.next, 100).await.unwrap().unwrap();
    assert_eq!((page.lines.len(), page.lines[0].n, page.lines[0].run), (1, 1_501, 2));
    for beyond in [1_501, 1_502, u64::MAX] {
        let page = bench.queues.log(&id, beyond, 100).await.unwrap().unwrap();
        assert_eq!((page.lines.len(), page.next, page.missed), (0, 1_501, 0), "{beyond}");
    }
    assert_eq!(bench.job(&id).await.log_lines, 1_501);
    assert_eq!(bench.queues.log(&bench.new_id(), 0, 10).await.unwrap(), None);
}

async fn only_the_newest_run_writes_to_the_log(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, old) = bench.fetch_one().await;
    bench.expire(old);
    bench.reclaim().await;
    let new = bench.transitions.fetch("w2", 1, LEASE, true).await.unwrap().claims[0].key();
    let news = [(old, entries(&["late"])), (new, entries(&["in time"]))];
    assert_eq!(bench.transitions.log(&news).await.unwrap(), [false, true]);
    bench.settle(new, succeeded()).await;
    assert_eq!(bench.transitions.log(&news).await.unwrap(), [false, false]);
    let page = bench.queues.log(&id, 0, 10).await.unwrap().unwrap();
    assert_eq!(page.lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["in time"]);
}

async fn a_slow_watcher_gets_every_line_once_in_order_and_before_the_end(bench: Bench) {
    let watcher = Watcher::start(bench.queues.clone(), vec![bench.name.clone()]);
    for (lines, missed) in [(40, 0), (900, 0), (1_300, 300)] {
        let id = bench.push_plain().await;
        let (_, mut watch) = watcher.watch(&id).await.unwrap().unwrap();
        let (_, run) = bench.fetch_one().await;
        log_lines(&bench, run, 1..=lines, 7).await;
        bench.settle(run, succeeded()).await;
        // Who comes when all is over gets what was said, if that is asked for.
        let (job, mut late) = watcher.watch(&id).await.unwrap().unwrap();
        assert_eq!(job.state, State::Succeeded);
        late.log_after(lines - 10);
        for n in lines - 9..=lines {
            let Some(Update::Log { line, missed: 0 }) = late.next().await else { panic!("no line {n}") };
            assert_eq!(line.n, n);
        }
        assert!(late.next().await.is_none());

        let (mut given, mut gone, mut last) = (Vec::new(), 0, None);
        while let Some(update) = watch.next().await {
            match update {
                Update::Log { line, missed } => {
                    assert_eq!(line.text, format!("line {}", line.n));
                    given.push(line.n);
                    gone += missed;
                    last = None;
                }
                Update::State(job) => last = Some(job.state),
                Update::Progress { .. } => {}
            }
        }
        assert_eq!(last, Some(State::Succeeded), "the end comes last");
        assert_eq!((given, gone), ((missed + 1..=lines).collect(), missed));
    }
}

async fn a_watcher_that_reads_gets_lines_as_they_come(bench: Bench) {
    let watcher = Watcher::start(bench.queues.clone(), vec![bench.name.clone()]);
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    log_lines(&bench, run, 1..=3, 3).await;
    // What was said before is not said again, unless it is asked for.
    let (job, mut watch) = watcher.watch(&id).await.unwrap().unwrap();
    let (_, mut whole) = watcher.watch(&id).await.unwrap().unwrap();
    whole.log_after(0);
    assert_eq!((job.log_lines, watch.place()), (3, (job.version, 3)));
    for n in 4..=120 {
        log_lines(&bench, run, n..=n, 1).await;
        let Some(Update::Log { line, missed: 0 }) = watch.next().await else { panic!("no line {n}") };
        assert_eq!(line.n, n);
    }
    for n in 1..=120 {
        let Some(Update::Log { line, missed: 0 }) = whole.next().await else { panic!("no line {n}") };
        assert_eq!(line.n, n);
    }
}

promises! {
    the_lines_of_a_log_keep_their_numbers_and_the_newest_are_kept,
    only_the_newest_run_writes_to_the_log,
    a_slow_watcher_gets_every_line_once_in_order_and_before_the_end,
    a_watcher_that_reads_gets_lines_as_they_come,
}
