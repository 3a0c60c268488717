//! Text messages, what they cost, and how their providers were.

use std::collections::HashSet;

use fourmi_model::{HealthStatus, SmsState};
use fourmi_records::{Met, NewSms, NumberLimit, OldSms, ProviderCheck, Records, SmsBegin, Spending};
use jiff::SignedDuration;

use crate::place::{Place, in_every_database, time};

in_every_database!(
    a_message_is_sent_by_one_run_at_a_time_and_never_by_an_older_one,
    a_person_who_is_wrong_is_corrected_unless_the_message_is_sent_again,
    what_a_tenant_spends_in_a_month_is_limited,
    a_number_gets_no_more_than_it_may_however_many_begin_at_once,
    what_is_known_of_old_messages_is_forgotten_and_what_is_in_doubt_stays,
    many_old_messages_are_looked_through_in_steps,
    what_workers_have_met_of_a_provider_adds_up,
    a_provider_is_checked_by_one_of_many_and_keeps_what_was_found,
);

fn new(run: u64, limit: Option<u64>) -> NewSms {
    NewSms {
        job: "messaging-0198c0de-0000-7000-8000-000000000001".parse().unwrap(),
        run,
        tenant: Some("kiosks".parse().unwrap()),
        account: "sms".to_owned(),
        recipient: "+33612345678".to_owned(),
        tag: "70008000000000000001".to_owned(),
        credits: 2_000,
        limit,
        number_limits: Vec::new(),
        now: "2026-11-30T12:00:00Z".parse().unwrap(),
    }
}

async fn a_message_is_sent_by_one_run_at_a_time_and_never_by_an_older_one(place: Place) {
    let records = place.open().await;
    let SmsBegin::Send(first) = records.begin_sms(&new(1, None)).await.unwrap() else { panic!("it is new") };
    assert_eq!((first.state, first.run, first.credits), (SmsState::Sending, 1, 2_000));
    assert_eq!(records.begin_sms(&new(2, None)).await.unwrap(), SmsBegin::Known(first.clone()));

    assert!(records.settle_sms(&first, SmsState::Unsent, None, 0).await.unwrap());
    let SmsBegin::Send(second) = records.begin_sms(&new(3, None)).await.unwrap() else { panic!("it was not sent") };
    // What the first run says late is of no interest.
    assert!(!records.settle_sms(&first, SmsState::Unsent, None, 0).await.unwrap());
    assert!(records.settle_sms(&second, SmsState::Accepted, Some("7"), 1_500).await.unwrap());
    assert!(!records.settle_sms(&second, SmsState::Unsent, None, 0).await.unwrap());
    let SmsBegin::Known(sent) = records.begin_sms(&new(4, None)).await.unwrap() else { panic!("it was sent") };
    assert_eq!((sent.state, sent.provider_id.as_deref(), sent.credits), (SmsState::Accepted, Some("7"), 1_500));
    assert_eq!(records.sms_of_provider("sms", "7").await.unwrap(), Some(sent.clone()));

    assert!(records.receive_sms(&sent.job, SmsState::Delivered, "4").await.unwrap());
    assert!(!records.receive_sms(&sent.job, SmsState::Undelivered, "5").await.unwrap());
    assert_eq!(records.sms(&sent.job).await.unwrap().unwrap().state, SmsState::Delivered);
}

async fn a_person_who_is_wrong_is_corrected_unless_the_message_is_sent_again(place: Place) {
    let records = place.open().await;
    let SmsBegin::Send(first) = records.begin_sms(&new(1, None)).await.unwrap() else { panic!("it is new") };
    assert!(!records.correct_sms(&first, "7", 1_500).await.unwrap(), "nobody has said anything");
    assert!(records.decide_sms(&first, false).await.unwrap());
    assert!(!records.decide_sms(&first, true).await.unwrap());
    let denied = records.sms(&first.job).await.unwrap().unwrap();
    assert!(denied.is_denied() && denied.credits == 0, "{denied:?}");

    let SmsBegin::Send(second) = records.begin_sms(&new(2, None)).await.unwrap() else { panic!("it was not sent") };
    assert!(!second.is_denied() && !records.correct_sms(&denied, "7", 1_500).await.unwrap());
    assert!(records.decide_sms(&second, false).await.unwrap());
    let denied = records.sms(&first.job).await.unwrap().unwrap();
    assert!(records.correct_sms(&denied, "7", 1_500).await.unwrap());
    assert!(!records.correct_sms(&denied, "8", 1_500).await.unwrap());
    let known = records.sms(&first.job).await.unwrap().unwrap();
    assert_eq!((known.state, known.provider_id.as_deref(), known.credits), (SmsState::Accepted, Some("7"), 1_500));
    assert_eq!(records.begin_sms(&new(3, None)).await.unwrap(), SmsBegin::Known(known));
}

async fn what_a_tenant_spends_in_a_month_is_limited(place: Place) {
    let records = place.open().await;
    let other = |number: u8, limit| {
        let job = format!("messaging-0198c0de-0000-7000-8000-0000000000{number:02}").parse().unwrap();
        NewSms { job, tag: number.to_string(), ..new(1, Some(limit)) }
    };
    let SmsBegin::Send(first) = records.begin_sms(&other(11, 2_500)).await.unwrap() else { panic!("there is room") };
    assert_eq!(records.begin_sms(&other(12, 2_500)).await.unwrap(), SmsBegin::TooDear(2_000));
    // It was cheaper than it was taken to be, so that there is room for another.
    assert!(records.settle_sms(&first, SmsState::Accepted, None, 500).await.unwrap());
    assert!(matches!(records.begin_sms(&other(12, 2_500)).await.unwrap(), SmsBegin::Send(_)));
    let next_month = NewSms { now: "2026-12-01T00:00:00Z".parse().unwrap(), ..other(13, 2_500) };
    assert!(matches!(records.begin_sms(&next_month).await.unwrap(), SmsBegin::Send(_)));
}

async fn a_number_gets_no_more_than_it_may_however_many_begin_at_once(place: Place) {
    const HOUR: NumberLimit = NumberLimit { within: SignedDuration::from_hours(1), most: 2 };
    fn one(number: usize, hours: i64) -> NewSms {
        let day = NumberLimit { within: SignedDuration::from_hours(24), most: 100 };
        let new = new(1, None);
        NewSms {
            job: format!("messaging-0198c0de-0000-7000-8000-0000000000{:02}", 20 + number).parse().unwrap(),
            // By whichever of two accounts.
            account: format!("sms-{}", number % 2),
            tag: number.to_string(),
            number_limits: vec![day, HOUR],
            now: new.now + SignedDuration::from_hours(hours),
            ..new
        }
    }
    let begin = |number, records: Records| async move { records.begin_sms(&one(number, 0)).await.unwrap() };
    let begun = place.at_once(8, begin).await;
    let refused = begun.iter().filter(|begun| **begun == SmsBegin::TooMany { limit: HOUR, sent: 2 }).count();
    let sent: Vec<_> = begun
        .iter()
        .filter_map(|begun| match begun {
            SmsBegin::Send(intent) => Some(intent),
            _ => None,
        })
        .collect();
    assert_eq!((sent.len(), refused), (2, 6), "{begun:?}");

    // What was not sent does not count, nor what was sent long ago.
    let records = place.open().await;
    assert!(records.settle_sms(sent[0], SmsState::Unsent, None, 0).await.unwrap());
    assert!(matches!(records.begin_sms(&one(8, 0)).await.unwrap(), SmsBegin::Send(_)));
    assert!(matches!(records.begin_sms(&one(9, 0)).await.unwrap(), SmsBegin::TooMany { .. }));
    assert!(matches!(records.begin_sms(&one(9, 2)).await.unwrap(), SmsBegin::Send(_)));
}

async fn what_is_known_of_old_messages_is_forgotten_and_what_is_in_doubt_stays(place: Place) {
    let records = place.open().await;
    let SmsBegin::Send(message) = records.begin_sms(&new(1, None)).await.unwrap() else { panic!("it is new") };
    let old = |known: usize, in_doubt| OldSms { jobs: vec![message.job.clone(); known], in_doubt, next: None };
    let later = message.created_at + SignedDuration::from_secs(1);
    assert_eq!(records.old_sms(message.created_at, None).await.unwrap(), old(0, 0));
    assert_eq!(records.old_sms(later, None).await.unwrap(), old(0, 1));
    assert_eq!(records.forget_sms(std::slice::from_ref(&message.job)).await.unwrap(), 0);
    assert_eq!(records.sms(&message.job).await.unwrap().as_ref(), Some(&message));

    assert!(records.settle_sms(&message, SmsState::Accepted, Some("7"), 1_500).await.unwrap());
    assert_eq!(records.old_sms(later, None).await.unwrap(), old(1, 0));
    assert_eq!(records.forget_sms(std::slice::from_ref(&message.job)).await.unwrap(), 1);
    assert_eq!(records.sms(&message.job).await.unwrap(), None);
}

async fn many_old_messages_are_looked_through_in_steps(place: Place) {
    let records = place.open().await;
    // Seven of each time.
    let many = "\
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1200) \
        INSERT INTO sms_intents (job, tenant, account, recipient, tag, state, run, credits, created_at, changed_at) \
        SELECT 'messaging-0198c0de-0000-7000-8000-' || (100000000000 + n), '', 'sms', '+33612345678', 'tag-' || n, \
          'accepted', 1, 0, n / 7, n FROM numbers";
    place.run(many).await.unwrap();
    let (mut found, mut steps, mut start) = (Vec::new(), 0, None);
    loop {
        let OldSms { jobs, next, .. } = records.old_sms(time(1_000_000), start.as_ref()).await.unwrap();
        found.extend(jobs);
        (steps, start) = (steps + 1, next);
        if start.is_none() {
            break;
        }
    }
    let different: HashSet<_> = found.iter().collect();
    assert_eq!((found.len(), different.len(), steps), (1_200, 1_200, 3));
}

async fn what_workers_have_met_of_a_provider_adds_up(place: Place) {
    let records = place.open().await;
    let first = Met {
        answers: 3,
        answered_at: Some(time(1)),
        latency_ms: Some(40),
        last_code: Some("200".to_owned()),
        credits: Some(98_500),
        ..Met::default()
    };
    let second = Met { outages: 5, failed_at: Some(time(2)), down_since: Some(time(2)), ..Met::default() };
    records.note_provider("sms", &first, time(1)).await.unwrap();
    records.note_provider("sms", &second, time(3)).await.unwrap();
    let providers = records.providers().await.unwrap();
    assert_eq!(providers.len(), 1);
    let sms = &providers[0];
    assert_eq!((sms.answers, sms.outages, sms.down_since), (3, 5, Some(time(2))));
    assert_eq!((sms.latency_ms, sms.last_code.as_deref(), sms.credits), (Some(40), Some("200"), Some(98_500)));
    records.note_provider("sms", &Met { answers: 1, ..Met::default() }, time(4)).await.unwrap();
    assert_eq!(records.providers().await.unwrap()[0].down_since, None);

    // What nobody says any more is over.
    let down = Met { outages: 5, down_since: Some(time(5)), ..Met::default() };
    records.note_provider("sms", &down, time(10)).await.unwrap();
    records.note_provider_up("sms", time(10)).await.unwrap();
    assert_eq!(records.providers().await.unwrap()[0].down_since, Some(time(5)));
    records.note_provider_up("sms", time(11)).await.unwrap();
    assert_eq!(records.providers().await.unwrap()[0].down_since, None);

    let SmsBegin::Send(sent) = records.begin_sms(&new(1, None)).await.unwrap() else { panic!("it is new") };
    records.settle_sms(&sent, SmsState::Accepted, None, 1_500).await.unwrap();
    let spent = Spending { tenant: sent.tenant, account: "sms".to_owned(), amount: 1_500 };
    assert_eq!(records.spending("2026-11").await.unwrap(), [spent]);
    assert_eq!(records.spending("2026-12").await.unwrap(), []);
}

async fn a_provider_is_checked_by_one_of_many_and_keeps_what_was_found(place: Place) {
    let records = place.open().await;
    let begin = async |before, now| records.begin_provider_check("sms", time(before), time(now)).await.unwrap();
    assert!(begin(0, 100).await);
    assert!(!begin(99, 101).await, "another has just begun");
    assert!(begin(100, 160).await);
    let provider = records.providers().await.unwrap().remove(0);
    assert_eq!((provider.answers, provider.check_begun_at, provider.check), (0, Some(time(160)), None));

    let check = ProviderCheck {
        at: time(161),
        status: HealthStatus::Degraded,
        message: Some("few credits are left".to_owned()),
        latency_ms: 40,
    };
    records.note_provider_check("sms", &check, Some(3_000)).await.unwrap();
    records.note_provider("sms", &Met { answers: 1, ..Met::default() }, time(162)).await.unwrap();
    let provider = records.providers().await.unwrap().remove(0);
    assert_eq!((provider.check, provider.credits, provider.answers), (Some(check), Some(3_000), 1));
    let well = ProviderCheck { at: time(221), status: HealthStatus::Ok, message: None, latency_ms: 7 };
    records.note_provider_check("sms", &well, None).await.unwrap();
    let provider = records.providers().await.unwrap().remove(0);
    assert_eq!((provider.check, provider.credits), (Some(well), Some(3_000)));
}
