//! The log of events that concern security.

use fourmi_model::{AuditEvent, Outcome};
use fourmi_records::{AuditFilter, Records, RecordsError};
use serde_json::json;

use crate::place::{Place, in_every_database, time};

in_every_database!(
    an_event_is_read_as_it_was_written,
    an_event_that_comes_again_changes_nothing,
    a_log_has_what_its_filter_wants_newest_first,
    an_action_stands_for_those_below_it,
    what_few_match_is_found_step_by_step,
    a_cursor_that_no_log_gave_is_refused,
    nothing_of_the_log_is_changed_or_deleted,
);

fn event(number: usize) -> AuditEvent {
    AuditEvent {
        id: format!("event-{number:06}"),
        time: time(i64::try_from(number).unwrap()),
        actor: None,
        tenant: None,
        action: "login".to_owned(),
        target: None,
        outcome: Outcome::Success,
        address: None,
        user_agent: None,
        request_id: None,
        details: serde_json::Map::new(),
    }
}

/// With everything that an event can have.
fn full_event(number: usize) -> AuditEvent {
    AuditEvent {
        actor: Some("user-1".to_owned()),
        tenant: Some("acme".parse().unwrap()),
        action: "user.role_changed".to_owned(),
        target: Some("user-2".to_owned()),
        outcome: Outcome::Denied,
        address: Some("2001:db8::1".to_owned()),
        user_agent: Some("a “browser”".to_owned()),
        request_id: Some("request 7".to_owned()),
        details: json!({"from": "user", "to": ["admin", "é\u{0}"]}).as_object().unwrap().clone(),
        ..event(number)
    }
}

/// Events of all sorts; several happen at the same time.
fn sort(number: usize) -> AuditEvent {
    let actions = ["login", "user", "user.role_changed", "user.mail.sent", "users.listed", "user-agent", "logout"];
    AuditEvent {
        // Neither in the order of their ids nor in that of their numbers.
        id: format!("event-{:06}", number * 7_919 % 100_003),
        time: time(i64::try_from(number * 31 % 150).unwrap()),
        actor: (!number.is_multiple_of(4)).then(|| format!("user-{}", number % 4)),
        tenant: (!number.is_multiple_of(5)).then(|| format!("tenant-{}", number % 5).parse().unwrap()),
        action: actions[number % 7].to_owned(),
        target: (!number.is_multiple_of(3)).then(|| format!("key-{}", number % 11)),
        outcome: [Outcome::Success, Outcome::Success, Outcome::Failure, Outcome::Denied][number / 3 % 4],
        ..event(number)
    }
}

fn wants(filter: &AuditFilter, event: &AuditEvent) -> bool {
    let is_below = |action: &str| event.action.strip_prefix(action).is_some_and(|rest| rest.starts_with('.'));
    filter.tenant.as_ref().is_none_or(|tenant| event.tenant.as_ref() == Some(tenant))
        && filter.actor.as_ref().is_none_or(|actor| event.actor.as_ref() == Some(actor))
        && filter.target.as_ref().is_none_or(|target| event.target.as_ref() == Some(target))
        && filter.action.as_ref().is_none_or(|action| event.action == *action || is_below(action))
        && filter.outcome.is_none_or(|outcome| event.outcome == outcome)
        && filter.after.is_none_or(|after| event.time >= after)
        && filter.before.is_none_or(|before| event.time < before)
}

/// Filters of every sort, and their pairs.
fn filters() -> Vec<AuditFilter> {
    let wishes: [fn(&mut AuditFilter); 8] = [
        |filter| filter.tenant = Some("tenant-3".parse().unwrap()),
        |filter| filter.actor = Some("user-2".to_owned()),
        |filter| filter.target = Some("key-5".to_owned()),
        |filter| filter.action = Some("login".to_owned()),
        |filter| filter.action = Some("user".to_owned()),
        |filter| filter.outcome = Some(Outcome::Failure),
        |filter| filter.after = Some(time(60)),
        |filter| filter.before = Some(time(120)),
    ];
    let mut filters = vec![AuditFilter::default()];
    for (number, first) in wishes.iter().enumerate() {
        for second in &wishes[number..] {
            let mut filter = AuditFilter::default();
            first(&mut filter);
            second(&mut filter);
            filters.push(filter);
        }
    }
    filters
}

/// All events that a filter wants, and how many pages they were on.
async fn walk(records: &Records, filter: &AuditFilter, limit: usize) -> (Vec<AuditEvent>, usize) {
    let (mut all, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let (events, next) = records.audit(filter, cursor.as_deref(), limit).await.unwrap();
        assert!(events.len() <= limit);
        all.extend(events);
        pages += 1;
        cursor = next;
        if cursor.is_none() {
            return (all, pages);
        }
    }
}

async fn an_event_is_read_as_it_was_written(place: Place) {
    let records = place.open().await;
    let odd = AuditEvent { user_agent: Some("\0".to_owned()), actor: Some("long".repeat(1_000)), ..event(1) };
    records.add_audit(&[full_event(3), event(2), odd]).await.unwrap();
    records.add_audit(&[]).await.unwrap();
    let (events, next) = place.open().await.audit(&AuditFilter::default(), None, 10).await.unwrap();
    assert_eq!((&events[..2], next), (&[full_event(3), event(2)][..], None));
    assert_eq!(events[2].user_agent.as_deref(), Some("\u{fffd}"));
    // It is found by what is kept of it.
    let filter = AuditFilter { actor: Some("long".repeat(1_000)), ..AuditFilter::default() };
    assert_eq!(records.audit(&filter, None, 10).await.unwrap().0, events[2..]);
}

async fn an_event_that_comes_again_changes_nothing(place: Place) {
    let records = place.open().await;
    let other = AuditEvent { id: event(1).id, ..full_event(9) };
    records.add_audit(&[event(1), event(2), other.clone()]).await.unwrap();
    records.add_audit(&[event(3), other, event(1)]).await.unwrap();
    let (events, _) = records.audit(&AuditFilter::default(), None, 10).await.unwrap();
    assert_eq!(events, [event(3), event(2), event(1)]);
}

async fn a_log_has_what_its_filter_wants_newest_first(place: Place) {
    let records = place.open().await;
    let mut all: Vec<_> = (0..600).map(sort).collect();
    records.add_audit(&all).await.unwrap();
    all.sort_by_key(|event| (event.time, event.id.clone()));
    all.reverse();
    for filter in filters() {
        let expected: Vec<_> = all.iter().filter(|event| wants(&filter, event)).collect();
        for limit in [7, 200] {
            let (events, _) = walk(&records, &filter, limit).await;
            assert_eq!(events.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        }
    }
    let (page, next) = records.audit(&AuditFilter::default(), None, 600).await.unwrap();
    assert_eq!((page.len(), next.is_some()), (200, true), "a page is bounded");
}

async fn an_action_stands_for_those_below_it(place: Place) {
    let records = place.open().await;
    records.add_audit(&(0..7).map(sort).collect::<Vec<_>>()).await.unwrap();
    for (action, found) in [
        ("user", &["user", "user.mail.sent", "user.role_changed"][..]),
        ("user.mail", &["user.mail.sent"]),
        ("user.mail.sent", &["user.mail.sent"]),
        ("users", &["users.listed"]),
        ("use", &[]),
        ("user.", &[]),
        ("", &[]),
        ("%", &[]),
    ] {
        let filter = AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
        let (events, _) = walk(&records, &filter, 1).await;
        let mut actions: Vec<_> = events.iter().map(|event| event.action.as_str()).collect();
        actions.sort_unstable();
        assert_eq!(actions, found, "{action}");
    }
}

async fn what_few_match_is_found_step_by_step(place: Place) {
    let records = place.open().await;
    let rare = AuditEvent { outcome: Outcome::Denied, tenant: Some("acme".parse().unwrap()), ..event(3) };
    let mut all: Vec<_> = (0..12_000).map(event).collect();
    all[3] = rare.clone();
    records.add_audit(&all).await.unwrap();
    let filter = AuditFilter { outcome: Some(Outcome::Denied), ..AuditFilter::default() };
    assert_eq!(walk(&records, &filter, 10).await, (vec![rare.clone()], 3), "each page looks at a bounded number");
    let filter = AuditFilter { tenant: rare.tenant.clone(), action: Some("login".to_owned()), ..filter };
    assert_eq!(walk(&records, &filter, 10).await, (vec![rare], 1), "the way goes along the rarest");
}

async fn a_cursor_that_no_log_gave_is_refused(place: Place) {
    let records = place.open().await;
    records.add_audit(&[event(1), event(2), event(3)]).await.unwrap();
    let filter = AuditFilter::default();
    let (_, next) = records.audit(&filter, None, 1).await.unwrap();
    let cursor = next.unwrap();
    assert!(cursor.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{cursor}");
    assert_eq!(records.audit(&filter, Some(&cursor), 1).await.unwrap().0, [event(2)]);
    for tampered in [
        "",
        ".",
        "nonsense",
        "1.",
        &format!("+{cursor}"),
        &format!("0{cursor}"),
        &format!("{cursor} "),
        &format!("{cursor}.1"),
        &format!("{cursor}{}", "0".repeat(100)),
        "9999999999999999999.event-1",
        "9223372036854775807.event-1",
        "0.event-1' OR 1=1",
    ] {
        let error = records.audit(&filter, Some(tampered), 1).await.unwrap_err();
        assert!(matches!(error, RecordsError::Cursor), "{tampered}: {error}");
    }
}

async fn nothing_of_the_log_is_changed_or_deleted(place: Place) {
    let records = place.open().await;
    records.add_audit(&[event(1), full_event(2)]).await.unwrap();
    let mut forbidden = vec![
        "UPDATE audit_events SET outcome = 'success'",
        "UPDATE audit_events SET id = 'another' WHERE id = 'event-000001'",
        "DELETE FROM audit_events",
        "DELETE FROM audit_events WHERE id = 'event-000001'",
        "INSERT INTO audit_events (id, happened_at, action, outcome, details) \
         VALUES ('event-000003', 0, 'login', 'success', '{}'), ('event-000001', 0, 'login', 'success', '{}') \
         ON CONFLICT (id) DO UPDATE SET outcome = 'denied'",
    ];
    match &place {
        Place::File(_) => {
            // It is ignored there, and so is this.
            forbidden.pop();
            let replace = "INSERT OR REPLACE INTO audit_events (id, happened_at, action, outcome, details) \
                           VALUES ('event-000001', 0, 'other', 'denied', '{}')";
            place.run(replace).await.unwrap();
        }
        Place::Server(_) => forbidden.extend(["TRUNCATE audit_events", "TRUNCATE jobs, audit_events CASCADE"]),
    }
    for statement in forbidden {
        let error = place.run(statement).await.unwrap_err();
        assert!(error.to_string().contains("the audit log is only added to"), "{statement}: {error}");
    }
    let (events, _) = records.audit(&AuditFilter::default(), None, 10).await.unwrap();
    assert_eq!(events, [full_event(2), event(1)]);
}
