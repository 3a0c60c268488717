//! API keys.

use fourmi_model::Scope;
use fourmi_records::ApiKey;

use crate::place::{Place, in_every_database, time};

in_every_database!(
    a_key_is_read_as_it_was_written,
    neither_an_id_nor_a_secret_is_taken_twice,
    a_key_is_changed_only_by_who_has_read_it_as_it_is,
    of_many_who_change_a_key_at_once_one_succeeds,
    uses_are_noted_and_never_go_back,
);

pub(crate) fn key(id: &str) -> ApiKey {
    ApiKey {
        id: id.to_owned(),
        version: 1,
        name: format!("The kiosk “{id}”"),
        prefix: "fourmi_abc".to_owned(),
        sha256: format!("{id:0>64}"),
        previous_sha256: None,
        previous_until: None,
        tenant: None,
        scopes: [Scope::JobsSubmit, Scope::PublicRead].into_iter().collect(),
        device: false,
        created_at: time(0),
        created_by: None,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        rate_limit: None,
    }
}

/// With everything that a key can have.
fn full_key(id: &str) -> ApiKey {
    ApiKey {
        previous_sha256: Some("f".repeat(64)),
        previous_until: Some(time(1)),
        tenant: Some("acme".parse().unwrap()),
        device: true,
        created_by: Some("first".to_owned()),
        expires_at: Some(time(2)),
        revoked_at: Some(time(3)),
        last_used_at: Some(time(4)),
        rate_limit: Some("100/s".to_owned()),
        ..key(id)
    }
}

async fn a_key_is_read_as_it_was_written(place: Place) {
    let records = place.open().await;
    let (first, second) = (full_key("b"), ApiKey { created_at: time(5), ..key("a") });
    assert!(records.add_key(&second).await.unwrap());
    assert!(records.add_key(&first).await.unwrap());
    let records = place.open().await;
    assert_eq!(records.keys().await.unwrap(), [first.clone(), second], "oldest first");
    assert_eq!(records.key("b").await.unwrap(), Some(first));
    assert_eq!(records.key("c").await.unwrap(), None);
    assert_eq!(records.key("\0").await.unwrap(), None);
}

async fn neither_an_id_nor_a_secret_is_taken_twice(place: Place) {
    let records = place.open().await;
    assert!(records.add_key(&key("a")).await.unwrap());
    let version = records.keys_version().await.unwrap();
    assert!(!records.add_key(&ApiKey { sha256: "1".repeat(64), ..key("a") }).await.unwrap());
    assert!(!records.add_key(&ApiKey { id: "b".to_owned(), ..key("a") }).await.unwrap());
    assert_eq!(records.keys().await.unwrap(), [key("a")]);
    assert_eq!(records.keys_version().await.unwrap(), version, "nothing has changed");
}

async fn a_key_is_changed_only_by_who_has_read_it_as_it_is(place: Place) {
    let records = place.open().await;
    records.add_key(&key("a")).await.unwrap();
    records.keys_used(&[("a".to_owned(), time(9))]).await.unwrap();
    let before = records.keys_version().await.unwrap();

    let read = records.key("a").await.unwrap().unwrap();
    let wanted = ApiKey {
        // What never changes.
        tenant: None,
        device: false,
        created_by: None,
        last_used_at: Some(time(9)),
        ..full_key("a")
    };
    assert!(records.change_key(&ApiKey { version: read.version, ..wanted.clone() }).await.unwrap());
    let changed = records.key("a").await.unwrap().unwrap();
    assert_eq!(changed, ApiKey { version: read.version + 1, ..wanted.clone() });
    let after = records.keys_version().await.unwrap();
    assert!(after > before);

    assert!(!records.change_key(&ApiKey { version: read.version, ..wanted.clone() }).await.unwrap());
    assert!(!records.change_key(&ApiKey { id: "b".to_owned(), ..wanted }).await.unwrap());
    assert_eq!(records.keys().await.unwrap(), [changed]);
    assert_eq!(records.keys_version().await.unwrap(), after);
}

async fn of_many_who_change_a_key_at_once_one_succeeds(place: Place) {
    let records = place.open().await;
    records.add_key(&key("a")).await.unwrap();
    let before = records.keys_version().await.unwrap();
    let changes = (0..8).map(|number| {
        let changed = ApiKey { name: number.to_string(), ..key("a") };
        let records = records.clone();
        async move { records.change_key(&changed).await.unwrap() }
    });
    let won: Vec<bool> = futures_util::future::join_all(changes).await;
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    let name = won.iter().position(|won| *won).unwrap().to_string();
    assert_eq!(records.keys().await.unwrap(), [ApiKey { name, version: 2, ..key("a") }]);
    assert_eq!(records.keys_version().await.unwrap(), before + 1);
}

async fn uses_are_noted_and_never_go_back(place: Place) {
    let records = place.open().await;
    for id in ["a", "b"] {
        records.add_key(&key(id)).await.unwrap();
    }
    let version = records.keys_version().await.unwrap();
    let used = |id: &str, ms| (id.to_owned(), time(ms));
    records.keys_used(&[used("b", 5), used("gone", 7), used("a", 2), used("a", 9), used("a", 4)]).await.unwrap();
    records.keys_used(&[used("a", 3), used("b", 6)]).await.unwrap();
    records.keys_used(&[]).await.unwrap();
    let times: Vec<_> = records.keys().await.unwrap().into_iter().map(|key| key.last_used_at.unwrap()).collect();
    assert_eq!(times, [time(9), time(6)]);
    assert_eq!(records.keys_version().await.unwrap(), version, "a use is no change");
    let noted = (0..8).map(|number| {
        // In both orders at once.
        let mut used = vec![used("a", 20 + number), used("b", 20 + number)];
        used.rotate_left(usize::try_from(number).unwrap() % 2);
        let records = records.clone();
        async move { records.keys_used(&used).await.unwrap() }
    });
    futures_util::future::join_all(noted).await;
    assert!(records.keys().await.unwrap().iter().all(|key| key.last_used_at == Some(time(27))));
}
