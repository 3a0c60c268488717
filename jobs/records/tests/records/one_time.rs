//! Tokens of links in mails.

use fourmi_model::UserId;
use fourmi_records::{OneTime, Records, User};
use futures_util::future::join_all;

use crate::{
    people::{add, user},
    place::{Place, in_every_database, time},
};

in_every_database!(
    a_token_is_read_as_it_was_written,
    only_the_newest_token_of_a_purpose_works,
    of_tokens_that_are_added_at_once_one_works,
    a_token_is_used_once_and_in_time,
    of_many_who_use_a_token_at_once_one_gets_it,
    tokens_that_are_of_no_use_are_deleted,
);

fn token(id: &str, user: &User, purpose: &str) -> OneTime {
    OneTime {
        id: id.to_owned(),
        user: user.id.clone(),
        purpose: purpose.to_owned(),
        email: Some("ann@example.org".to_owned()),
        job: None,
        created_at: time(0),
        expires_at: time(100),
        used_at: None,
    }
}

async fn person(records: &Records, name: &str) -> User {
    let user = user(name);
    add(records, &user).await;
    user
}

async fn keep(records: &Records, token: &OneTime) {
    assert!(records.add_one_time(token).await.unwrap());
}

async fn a_token_is_read_as_it_was_written(place: Place) {
    let records = place.open().await;
    let ann = person(&records, "ann").await;
    let bare = OneTime { email: None, ..token("bare", &ann, "password") };
    let used = OneTime { job: Some("mail-7".to_owned()), used_at: Some(time(9)), ..token("used", &ann, "email") };
    keep(&records, &bare).await;
    keep(&records, &used).await;
    let records = place.open().await;
    assert_eq!(records.one_time("bare").await.unwrap().as_ref(), Some(&bare));
    assert_eq!(records.one_time("used").await.unwrap(), Some(used));
    assert_eq!(records.one_time("none").await.unwrap(), None);
    records.note_one_time_job("bare", "mail-8").await.unwrap();
    records.note_one_time_job("none", "mail-9").await.unwrap();
    assert_eq!(records.one_time("bare").await.unwrap(), Some(OneTime { job: Some("mail-8".to_owned()), ..bare }));
}

async fn only_the_newest_token_of_a_purpose_works(place: Place) {
    let records = place.open().await;
    let (ann, bob) = (person(&records, "ann").await, person(&records, "bob").await);
    let others = [
        token("bob’s", &bob, "password"),
        token("other", &ann, "email"),
        OneTime { used_at: Some(time(1)), ..token("used", &ann, "password") },
    ];
    for other in &others {
        keep(&records, other).await;
    }
    keep(&records, &token("first", &ann, "password")).await;
    let second = OneTime { created_at: time(1), ..token("second", &ann, "password") };
    keep(&records, &second).await;
    assert_eq!(records.one_time("first").await.unwrap(), None);
    for other in &others {
        assert_eq!(records.one_time(&other.id).await.unwrap().as_ref(), Some(other));
    }
    let usable = async |user: &UserId, at| records.one_times_of(user, time(at)).await.unwrap();
    assert_eq!(usable(&ann.id, 99).await, [second, others[1].clone()], "newest first");
    assert_eq!(usable(&bob.id, 99).await, [others[0].clone()]);
    assert_eq!(usable(&ann.id, 100).await, []);
    let stranger = user("stranger");
    assert!(!records.add_one_time(&token("nobody’s", &stranger, "password")).await.unwrap());
    assert_eq!(records.one_time("nobody’s").await.unwrap(), None);
}

async fn of_tokens_that_are_added_at_once_one_works(place: Place) {
    let records = place.open().await;
    let ann = person(&records, "ann").await;
    for round in 0..10 {
        let added = (0..6).map(|number| {
            let (records, token) = (records.clone(), token(&format!("{round}-{number}"), &ann, "password"));
            async move { keep(&records, &token).await }
        });
        join_all(added).await;
        assert_eq!(records.one_times_of(&ann.id, time(1)).await.unwrap().len(), 1);
    }
}

async fn a_token_is_used_once_and_in_time(place: Place) {
    let records = place.open().await;
    let ann = person(&records, "ann").await;
    for purpose in ["password", "email"] {
        keep(&records, &token(purpose, &ann, purpose)).await;
    }
    let used = OneTime { used_at: Some(time(99)), ..token("password", &ann, "password") };
    assert_eq!(records.use_one_time("password", time(99)).await.unwrap().as_ref(), Some(&used));
    assert_eq!(records.use_one_time("password", time(99)).await.unwrap(), None, "it was used");
    assert_eq!(records.use_one_time("email", time(100)).await.unwrap(), None, "it has expired");
    assert_eq!(records.use_one_time("none", time(1)).await.unwrap(), None);
    assert_eq!(records.one_time("password").await.unwrap(), Some(used));
    assert_eq!(records.one_time("email").await.unwrap().unwrap().used_at, None);
    let usable = records.one_times_of(&ann.id, time(1)).await.unwrap();
    assert_eq!(usable, [token("email", &ann, "email")]);
}

async fn of_many_who_use_a_token_at_once_one_gets_it(place: Place) {
    let records = place.open().await;
    let ann = person(&records, "ann").await;
    for round in 0..10 {
        keep(&records, &token(&round.to_string(), &ann, &format!("purpose-{round}"))).await;
    }
    let used = place.at_once(6, |_, records| async move {
        let mut used = Vec::new();
        for round in 0..10 {
            used.extend(records.use_one_time(&round.to_string(), time(1)).await.unwrap());
        }
        used
    });
    let mut used = used.await.concat();
    used.sort_by_key(|token| token.id.clone());
    assert_eq!(used.iter().map(|token| &*token.id).collect::<String>(), "0123456789", "each is used once");
}

async fn tokens_that_are_of_no_use_are_deleted(place: Place) {
    let records = place.open().await;
    let ann = person(&records, "ann").await;
    let expires = |id: &str, at| OneTime { expires_at: time(at), ..token(id, &ann, id) };
    for token in [expires("expired", 9), expires("later", 10), expires("used", 100)] {
        keep(&records, &token).await;
    }
    assert!(records.use_one_time("used", time(5)).await.unwrap().is_some());
    assert_eq!(records.prune_one_times(time(5)).await.unwrap(), 0);
    assert_eq!(records.prune_one_times(time(10)).await.unwrap(), 2);
    for gone in ["expired", "used"] {
        assert_eq!(records.one_time(gone).await.unwrap(), None);
    }
    assert!(records.one_time("later").await.unwrap().is_some());
}
