//! Schedules, and what became of their ticks.

use fourmi_model::{FireOutcome, JobId, Missed, Overlap, Rule, ScheduleFire, ScheduleId};
use fourmi_records::{Firing, Schedule, Standing, TenantRemoval};
use serde_json::json;

use crate::{
    place::{Place, in_every_database, time},
    tenants::tenant,
};

in_every_database!(
    a_schedule_is_read_as_it_was_added,
    a_schedule_changes_only_from_the_version_that_was_read,
    of_many_who_fire_one_moves_a_schedule_on,
    a_job_that_was_made_is_never_taken_for_none,
    old_fires_are_forgotten,
    a_tenant_takes_its_schedules_along,
);

fn schedule(name: &str, tenant: Option<&str>) -> Schedule {
    let rule = Rule {
        cron: Some("0 2 * * *".to_owned()),
        every_s: None,
        time_zone: "Europe/Paris".to_owned(),
        jitter_s: 7,
        starts_at: Some(time(1)),
        ends_at: None,
    };
    let standing = Standing { next_tick: Some(time(10)), due_at: Some(time(12)), last_fired_at: None, last_job: None };
    Schedule {
        id: ScheduleId::random(),
        version: 1,
        tenant: tenant.map(|name| name.parse().unwrap()),
        name: name.to_owned(),
        own_only: tenant.is_some(),
        rule,
        overlap: Overlap::QueueOne,
        missed: Missed::All,
        missed_limit: 5,
        paused: false,
        job: serde_json::from_value(json!({"kind": "x.tick", "payload": {"at": "{{tick}}", "é": 1.5}})).unwrap(),
        order_form: "{}".to_owned(),
        standing,
        created_at: time(1),
        created_by: "key-1".to_owned(),
    }
}

fn fire(tick: i64, outcome: FireOutcome, job: Option<&JobId>) -> ScheduleFire {
    ScheduleFire { tick: time(tick), by_hand: false, outcome, at: time(tick), job: job.cloned(), error: None }
}

async fn a_schedule_is_read_as_it_was_added(place: Place) {
    let records = place.open().await;
    let (one, other) = (schedule("a", None), schedule("a", Some("acme")));
    for schedule in [&one, &other] {
        assert!(records.add_schedule(schedule).await.unwrap());
    }
    assert!(!records.add_schedule(&schedule("a", None)).await.unwrap(), "the name is taken");
    assert_eq!(records.schedule(&one.id).await.unwrap(), Some(one.clone()));
    assert_eq!(records.schedules(None, None, None, None, 10).await.unwrap(), [one.clone(), other.clone()]);
    let of_acme = records.schedules(other.tenant.as_ref(), None, Some("a"), None, 10).await.unwrap();
    assert_eq!(of_acme, std::slice::from_ref(&other));
    assert_eq!(records.schedules(None, Some("key-2"), None, None, 10).await.unwrap(), []);
    assert_eq!(records.schedules(None, None, None, Some(&one.id), 10).await.unwrap(), std::slice::from_ref(&other));
    assert_eq!(records.schedule_counts(None).await.unwrap(), (1, 2));
    assert_eq!(records.due_schedules(time(11), 10).await.unwrap(), []);
    assert_eq!(records.due_schedules(time(12), 1).await.unwrap(), std::slice::from_ref(&one));
    assert_eq!(records.next_schedule_due().await.unwrap(), Some(time(12)));
    assert!(records.remove_schedule(&one.id).await.unwrap());
    assert!(!records.remove_schedule(&one.id).await.unwrap());
    assert!(records.remove_schedule(&other.id).await.unwrap());
    assert_eq!(records.next_schedule_due().await.unwrap(), None);
}

async fn a_schedule_changes_only_from_the_version_that_was_read(place: Place) {
    let records = place.open().await;
    let first = schedule("a", None);
    records.add_schedule(&first).await.unwrap();
    records.add_schedule(&schedule("b", None)).await.unwrap();
    let changed = Schedule { paused: true, standing: Standing::default(), name: "c".to_owned(), ..first.clone() };
    assert!(records.change_schedule(&changed).await.unwrap());
    assert!(!records.change_schedule(&first).await.unwrap(), "somebody was faster");
    assert_eq!(records.schedule(&first.id).await.unwrap(), Some(Schedule { version: 2, ..changed.clone() }));
    let taken = Schedule { version: 2, name: "b".to_owned(), ..changed };
    assert!(!records.change_schedule(&taken).await.unwrap(), "the name is another's");
}

async fn of_many_who_fire_one_moves_a_schedule_on(place: Place) {
    let records = place.open().await;
    let schedules: Vec<Schedule> = (0..20).map(|n| schedule(&format!("n{n}"), None)).collect();
    for schedule in &schedules {
        records.add_schedule(schedule).await.unwrap();
    }
    let moved = place
        .at_once(4, |n, records| {
            let mut schedules = schedules.clone();
            // Each comes to them in another order.
            schedules.rotate_left(n * 5);
            async move {
                let firing = |schedule: &Schedule| {
                    let job = JobId::new("media".parse().unwrap());
                    Firing {
                        id: schedule.id.clone(),
                        version: schedule.version,
                        tick: time(10),
                        then: Standing {
                            next_tick: Some(time(20)),
                            due_at: Some(time(21)),
                            last_fired_at: Some(time(10)),
                            last_job: Some(job.clone()),
                        },
                        fires: vec![fire(10, FireOutcome::Fired, Some(&job))],
                    }
                };
                let firings: Vec<Firing> = schedules.iter().map(firing).collect();
                records.schedules_fired(&firings).await.unwrap().into_iter().filter(|moved| *moved).count()
            }
        })
        .await;
    assert_eq!(moved.iter().sum::<usize>(), schedules.len());
    for schedule in &schedules {
        let now = records.schedule(&schedule.id).await.unwrap().unwrap();
        assert_eq!((now.version, now.standing.next_tick), (1, Some(time(20))));
        assert_eq!(records.schedule_fires(&schedule.id, None, 10).await.unwrap().len(), 1);
    }
    // Changed in between, it stays where the change has put it.
    let changed = Schedule {
        version: 1,
        standing: Standing { next_tick: Some(time(99)), ..Standing::default() },
        ..schedules[0].clone()
    };
    assert!(records.change_schedule(&changed).await.unwrap());
    let late =
        Firing { id: changed.id.clone(), version: 1, tick: time(99), then: Standing::default(), fires: Vec::new() };
    assert_eq!(records.schedules_fired(&[late]).await.unwrap(), [false]);
}

async fn a_job_that_was_made_is_never_taken_for_none(place: Place) {
    let records = place.open().await;
    let first = schedule("a", None);
    records.add_schedule(&first).await.unwrap();
    let job = JobId::new("media".parse().unwrap());
    let note = async |fire: ScheduleFire| {
        let firing =
            Firing { id: first.id.clone(), version: 9, tick: time(10), then: Standing::default(), fires: vec![fire] };
        assert_eq!(records.schedules_fired(&[firing]).await.unwrap(), [false]);
    };
    note(fire(10, FireOutcome::Skipped, None)).await;
    note(fire(10, FireOutcome::Fired, Some(&job))).await;
    note(fire(10, FireOutcome::Skipped, None)).await;
    // Who comes too late to move it on still says which job was the last.
    let then = Standing { last_fired_at: Some(time(10)), last_job: Some(job.clone()), ..Standing::default() };
    let late = Firing { id: first.id.clone(), version: 9, tick: time(10), then, fires: Vec::new() };
    assert_eq!(records.schedules_fired(&[late]).await.unwrap(), [false]);
    let standing = records.schedule(&first.id).await.unwrap().unwrap().standing;
    assert_eq!((standing.last_fired_at, standing.last_job), (Some(time(10)), Some(job.clone())));
    let by_hand = ScheduleFire { by_hand: true, ..fire(11, FireOutcome::Fired, Some(&job)) };
    records.schedule_ran(&first.id, &by_hand).await.unwrap();
    let fires = records.schedule_fires(&first.id, None, 10).await.unwrap();
    assert_eq!(fires, [by_hand, fire(10, FireOutcome::Fired, Some(&job))]);
    assert_eq!(records.schedule_fires(&first.id, Some(time(11)), 10).await.unwrap(), fires[1..]);
    assert_eq!(records.schedule(&first.id).await.unwrap().unwrap().standing.last_job, Some(job));
}

async fn old_fires_are_forgotten(place: Place) {
    let records = place.open().await;
    let (first, other) = (schedule("a", None), schedule("b", None));
    for schedule in [&first, &other] {
        records.add_schedule(schedule).await.unwrap();
        let fires = (1..=30).map(|tick| fire(tick, FireOutcome::Skipped, None)).collect();
        let firing = Firing { id: schedule.id.clone(), version: 9, tick: time(10), then: Standing::default(), fires };
        records.schedules_fired(&[firing]).await.unwrap();
    }
    assert_eq!(records.forget_fires(10, 25).await.unwrap(), 25);
    assert_eq!(records.forget_fires(10, 25).await.unwrap(), 15);
    assert_eq!(records.forget_fires(10, 25).await.unwrap(), 0);
    for schedule in [&first, &other] {
        let fires = records.schedule_fires(&schedule.id, None, 100).await.unwrap();
        assert_eq!(
            fires.iter().map(|fire| fire.tick).collect::<Vec<_>>(),
            (21..=30).rev().map(time).collect::<Vec<_>>()
        );
    }
}

async fn a_tenant_takes_its_schedules_along(place: Place) {
    let records = place.open().await;
    records.add_tenant(&tenant("acme")).await.unwrap();
    let of_tenant = schedule("a", Some("acme"));
    records.add_schedule(&of_tenant).await.unwrap();
    records.add_schedule(&schedule("a", None)).await.unwrap();
    assert_eq!(records.remove_tenant(&"acme".parse().unwrap()).await.unwrap(), TenantRemoval::Removed);
    assert_eq!(records.schedule(&of_tenant.id).await.unwrap(), None);
    assert_eq!(records.schedules(None, None, None, None, 10).await.unwrap().len(), 1);
}
