//! Schedules: how late they are when many are due at once, what they cost while none is, and what retention costs others.

mod retention;

use std::time::{Duration, Instant};

use fourmi_model::{Missed, Overlap, Rule, ScheduleId, ScheduledJob, Submission};
use fourmi_queue::Queues;
use fourmi_records::{Records, Schedule, Standing};
use fourmi_timetable::{OrderForm, Timetable};
use jiff::{SignedDuration, Timestamp};
use serde_json::{json, value::RawValue};
use tempfile::TempDir;
use tokio::time::sleep;

use super::{Figure, Goal, Report, queue::cpu_of};
use crate::{Program, RedisServer};

/// Schedules that there are.
const SCHEDULES: usize = 10_000;

/// Those that are due in one second, spread over it.
const DUE: usize = 200;

/// Measurements; a figure is their median.
const ROUNDS: usize = 5;

/// How long the processor is watched while nothing is due.
const REST: Duration = Duration::from_secs(20);

/// Measures them all.
pub async fn run(mut report: Report) -> Report {
    let (redis, data) = (RedisServer::start(), TempDir::new().unwrap());
    let records = Records::open(&data.path().join("records.db")).await.unwrap();
    let queues = Queues::connect(&redis.url()).await.unwrap();
    eprintln!("{SCHEDULES} schedules …");
    let now = Timestamp::now();
    for n in 0..SCHEDULES - DUE {
        let due = after(now, 100_000 + i64::try_from(n).unwrap());
        assert!(records.add_schedule(&schedule(&format!("idle {n}"), due)).await.unwrap());
    }
    let settings = [("REDIS_URL", redis.url()), ("FOURMI_DATA", data.path().display().to_string())];
    let scheduler = Program::start("fourmi-schedules", &[], settings);
    scheduler.wait_for_line("ready");

    let mut lags = Vec::new();
    for round in 0..ROUNDS {
        let first = after(Timestamp::now(), 8);
        let mut ids = Vec::new();
        for n in 0..DUE {
            let due = first.checked_add(SignedDuration::from_millis(i64::try_from(n * 1_000 / DUE).unwrap())).unwrap();
            let schedule = schedule(&format!("round {round}, {n}"), due);
            records.add_schedule(&schedule).await.unwrap();
            ids.push((schedule.id, due));
        }
        assert!(Timestamp::now() < first, "the schedules were not made in time");
        lags.push(worst_lag(&records, &queues, &ids).await);
    }
    report.add(&Figure::of("fire_lag_max_ms", "ms", Goal::AtMost(1_000.0), &lags));

    eprintln!("at rest …");
    let mut shares = Vec::new();
    for _ in 0..3 {
        let (before, begun) = (cpu_of(scheduler.pid()), Instant::now());
        sleep(REST / 3).await;
        shares.push((cpu_of(scheduler.pid()) - before) / begun.elapsed().as_secs_f64() * 100.0);
    }
    report.add(&Figure::of("idle_cpu_percent", "%", Goal::AtMost(2.0), &shares));
    retention::run(&mut report).await;
    report
}

fn after(time: Timestamp, seconds: i64) -> Timestamp {
    let later = time.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    Timestamp::from_millisecond(later.as_millisecond()).unwrap()
}

/// A schedule whose next tick is then, and the one after it in a day.
fn schedule(name: &str, due: Timestamp) -> Schedule {
    let rule = Rule {
        cron: None,
        every_s: Some(86_400),
        time_zone: "UTC".to_owned(),
        jitter_s: 0,
        starts_at: Some(due),
        ends_at: None,
    };
    let timetable = Timetable::read(&rule, due).unwrap();
    let id = ScheduleId::random();
    let job: ScheduledJob =
        serde_json::from_value(json!({"kind": "bench.tick", "payload": {"at": "{{tick}}"}})).unwrap();
    let sample = Submission::new(job.kind.clone(), RawValue::NULL.to_owned());
    Schedule {
        version: 1,
        tenant: None,
        name: name.to_owned(),
        own_only: false,
        overlap: Overlap::Skip,
        missed: Missed::Once,
        missed_limit: 1,
        paused: false,
        job,
        order_form: serde_json::to_string(&OrderForm::of("bench".parse().unwrap(), &sample)).unwrap(),
        standing: Standing { next_tick: Some(due), due_at: Some(timetable.due_at(&id, due)), ..Standing::default() },
        created_at: Timestamp::now(),
        created_by: "bench".to_owned(),
        rule,
        id,
    }
}

/// How long after they were due the last of these was in its queue, in milliseconds.
async fn worst_lag(records: &Records, queues: &Queues, ids: &[(ScheduleId, Timestamp)]) -> f64 {
    let mut worst: f64 = 0.0;
    for (id, due) in ids {
        let job = loop {
            let known = records.schedule(id).await.unwrap().unwrap();
            match known.standing.last_job {
                Some(job) => break job,
                None => sleep(Duration::from_millis(20)).await,
            }
        };
        let made = queues.get(&job).await.unwrap().unwrap().created_at;
        worst = worst.max(made.duration_since(*due).as_secs_f64() * 1_000.0);
    }
    worst
}
