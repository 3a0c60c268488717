//! Generations of the keys that sign access tokens.

use fourmi_records::TokenKey;

use crate::place::{Place, in_every_database, time};

in_every_database!(
    generations_follow_one_another,
    of_many_who_add_a_generation_at_once_one_succeeds,
    generations_that_were_followed_long_ago_are_deleted,
);

fn key(number: i64, made_at: i64, revoked_at: Option<i64>) -> TokenKey {
    TokenKey { number, made_at: time(made_at), revoked_at: revoked_at.map(time) }
}

async fn generations_follow_one_another(place: Place) {
    let records = place.open().await;
    assert_eq!(records.token_keys().await.unwrap(), []);
    let version = records.people_version().await.unwrap();
    assert!(!records.add_token_key(1, time(0), false).await.unwrap());
    for (after, revoke_older) in [(0, true), (1, false), (2, true), (3, false)] {
        assert!(records.add_token_key(after, time(after), revoke_older).await.unwrap());
        assert_eq!(records.people_version().await.unwrap(), version + after + 1);
    }
    let expected = [key(4, 3, None), key(3, 2, None), key(2, 1, Some(2)), key(1, 0, Some(2))];
    for after in [0, 3, 5] {
        assert!(!records.add_token_key(after, time(9), true).await.unwrap());
    }
    assert_eq!(records.people_version().await.unwrap(), version + 4, "nothing has changed");
    assert_eq!(place.open().await.token_keys().await.unwrap(), expected, "newest first");
    assert!(records.add_token_key(4, time(9), true).await.unwrap());
    let expected = [
        key(5, 9, None),
        key(4, 3, Some(9)),
        key(3, 2, Some(9)),
        // As it was.
        key(2, 1, Some(2)),
        key(1, 0, Some(2)),
    ];
    assert_eq!(records.token_keys().await.unwrap(), expected);
}

async fn of_many_who_add_a_generation_at_once_one_succeeds(place: Place) {
    let records = place.open().await;
    let version = records.people_version().await.unwrap();
    let added = place.at_once(6, |_, records| async move {
        let mut added = 0;
        for after in 0..5 {
            added += i64::from(records.add_token_key(after, time(after), true).await.unwrap());
        }
        added
    });
    assert_eq!(added.await.iter().sum::<i64>(), 5, "each is added once");
    let keys = records.token_keys().await.unwrap();
    assert_eq!(keys.iter().map(|key| key.number).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
    assert!(keys[0].revoked_at.is_none() && keys[1..].iter().all(|key| key.revoked_at.is_some()), "{keys:?}");
    assert_eq!(records.people_version().await.unwrap(), version + 5);
}

async fn generations_that_were_followed_long_ago_are_deleted(place: Place) {
    let records = place.open().await;
    assert_eq!(records.prune_token_keys(time(9)).await.unwrap(), 0);
    for after in 0..4 {
        assert!(records.add_token_key(after, time(after * 10), false).await.unwrap());
    }
    assert_eq!(records.prune_token_keys(time(10)).await.unwrap(), 0, "the second was not made before");
    assert_eq!(records.prune_token_keys(time(11)).await.unwrap(), 1);
    assert_eq!(records.prune_token_keys(time(1_000)).await.unwrap(), 2);
    assert_eq!(records.token_keys().await.unwrap(), [key(4, 30, None)], "the newest stays");
    assert!(records.add_token_key(4, time(40), false).await.unwrap());
}
