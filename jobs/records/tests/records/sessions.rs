//! Sessions.

use fourmi_model::UserId;
use fourmi_records::{Records, Refreshed, Session, User, UserChange};
use futures_util::future::join_all;

use crate::{
    people::{add, user},
    place::{Place, in_every_database, time},
};

in_every_database!(
    a_session_is_read_as_it_was_written,
    a_session_is_renewed_by_one_token_after_the_other,
    a_session_is_not_renewed_beyond_its_end,
    who_shows_a_token_again_ends_the_session,
    of_two_who_show_one_token_at_once_one_ends_the_session,
    a_session_that_is_over_is_not_renewed,
    who_has_too_many_sessions_loses_the_oldest,
    sessions_that_begin_at_once_are_not_too_many,
    who_may_not_log_in_begins_no_session,
    who_is_deactivated_while_they_log_in_has_no_session,
    sessions_are_revoked_one_by_one_or_all_but_one,
    an_address_is_known_for_as_long_as_it_was_used,
    sessions_that_are_over_are_deleted_step_by_step,
);

/// One that lasts until 100 unless it is renewed, and until 1,000 at most.
pub(crate) fn session(id: &str, user: &User) -> Session {
    Session {
        id: id.to_owned(),
        user: user.id.clone(),
        device: Some("The “old” telephone".to_owned()),
        user_agent: None,
        address: "192.0.2.7".to_owned(),
        created_at: time(0),
        refreshed_at: time(0),
        expires_at: time(100),
        ends_at: time(1_000),
        revoked_at: None,
        revoked_for: None,
    }
}

/// A person with a session of this name, whose first token has the same name.
async fn logged_in(records: &Records, id: &str) -> (User, Session) {
    let user = user(&format!("{id}’s owner"));
    add(records, &user).await;
    let session = session(id, &user);
    start(records, &session).await;
    (user, session)
}

async fn start(records: &Records, session: &Session) {
    assert!(records.start_session(session, &session.id, usize::MAX).await.unwrap());
}

/// Shows a token at a time; from then on the session would last 100.
async fn refresh(records: &Records, presented: &str, next: &str, at: i64) -> Refreshed {
    records.refresh_session(presented, next, time(at), time(at + 100), "2001:db8::1", Some("curl")).await.unwrap()
}

async fn find(records: &Records, id: &str) -> Session {
    records.session(id).await.unwrap().unwrap()
}

async fn ids(records: &Records, user: &UserId, at: i64) -> Vec<String> {
    records.sessions_of(user, time(at)).await.unwrap().into_iter().map(|session| session.id).collect()
}

async fn a_session_is_read_as_it_was_written(place: Place) {
    let records = place.open().await;
    let (user, bare) = logged_in(&records, "bare").await;
    let full = Session { user_agent: Some("a browser".to_owned()), refreshed_at: time(1), ..session("full", &user) };
    let version = records.people_version().await.unwrap();
    start(&records, &full).await;
    let records = place.open().await;
    assert_eq!(find(&records, "bare").await, bare);
    assert_eq!(find(&records, "full").await, full);
    assert_eq!(records.sessions_of(&user.id, time(99)).await.unwrap(), [full, bare], "what was renewed last first");
    assert_eq!(records.sessions_of(&user.id, time(100)).await.unwrap(), []);
    assert_eq!(records.sessions_of(&UserId::random(), time(1)).await.unwrap(), []);
    assert_eq!(records.session("none").await.unwrap(), None);
    assert_eq!(records.people_version().await.unwrap(), version, "no token is void");
    let forever = Session { expires_at: time(5_000), ..session("forever", &user) };
    start(&records, &forever).await;
    assert_eq!(find(&records, "forever").await.expires_at, forever.ends_at);
}

async fn a_session_is_renewed_by_one_token_after_the_other(place: Place) {
    let records = place.open().await;
    let (user, first) = logged_in(&records, "s").await;
    let version = records.people_version().await.unwrap();
    for (number, (presented, next)) in [("s", "t"), ("t", "u"), ("u", "v")].into_iter().enumerate() {
        let at = 10 + i64::try_from(number).unwrap();
        let expected = Session {
            user_agent: Some("curl".to_owned()),
            address: "2001:db8::1".to_owned(),
            refreshed_at: time(at),
            expires_at: time(at + 100),
            ..first.clone()
        };
        assert_eq!(refresh(&records, presented, next, at).await, Refreshed::Renewed(expected.clone()));
        assert_eq!(records.sessions_of(&user.id, time(at)).await.unwrap(), [expected]);
    }
    assert_eq!(refresh(&records, "none", "w", 20).await, Refreshed::Unknown);
    assert_eq!(records.people_version().await.unwrap(), version, "no token is void");
}

async fn a_session_is_not_renewed_beyond_its_end(place: Place) {
    let records = place.open().await;
    let (user, _) = logged_in(&records, "0").await;
    for number in 0..11 {
        let (presented, next) = ((number * 90).to_string(), ((number + 1) * 90).to_string());
        let Refreshed::Renewed(session) = refresh(&records, &presented, &next, number * 90).await else {
            panic!("it lasts until 1,000");
        };
        assert_eq!(session.expires_at, time((number * 90 + 100).min(1_000)));
    }
    assert_eq!(ids(&records, &user.id, 999).await, ["0"]);
    assert_eq!(refresh(&records, "990", "last", 1_000).await, Refreshed::Over);
    assert_eq!(refresh(&records, "0", "other", 1_000).await, Refreshed::Over);
}

async fn who_shows_a_token_again_ends_the_session(place: Place) {
    let records = place.open().await;
    let (user, _) = logged_in(&records, "s").await;
    start(&records, &session("other", &user)).await;
    for (presented, next) in [("s", "t"), ("t", "u")] {
        assert!(matches!(refresh(&records, presented, next, 5).await, Refreshed::Renewed(_)));
    }
    let version = records.people_version().await.unwrap();
    let reused = refresh(&records, "s", "stolen", 7).await;
    assert_eq!(reused, Refreshed::Reused(find(&records, "s").await));
    let Refreshed::Reused(session) = reused else { unreachable!() };
    assert_eq!((session.revoked_at, session.revoked_for.as_deref()), (Some(time(7)), Some("refresh_reused")));
    assert_eq!(session.refreshed_at, time(5));
    assert_eq!(records.people_version().await.unwrap(), version + 1);
    assert_eq!(records.sessions_revoked_since(time(7)).await.unwrap(), ["s"]);
    assert_eq!(ids(&records, &user.id, 8).await, ["other"]);
    for (presented, expected) in [("s", Refreshed::Over), ("u", Refreshed::Over), ("stolen", Refreshed::Unknown)] {
        assert_eq!(refresh(&records, presented, "next", 8).await, expected, "{presented}");
    }
}

async fn of_two_who_show_one_token_at_once_one_ends_the_session(place: Place) {
    let (records, other) = (place.open().await, place.open().await);
    for round in 0..20 {
        let (_, session) = logged_in(&records, &round.to_string()).await;
        let (next, others) = (format!("{round}-next"), format!("{round}-other"));
        let (first, second) =
            tokio::join!(refresh(&records, &session.id, &next, 5), refresh(&other, &session.id, &others, 6));
        let is_one_each = matches!(
            (&first, &second),
            (Refreshed::Renewed(_), Refreshed::Reused(_)) | (Refreshed::Reused(_), Refreshed::Renewed(_))
        );
        assert!(is_one_each, "{first:?}, {second:?}");
        assert!(find(&records, &session.id).await.revoked_at.is_some());
    }
}

async fn a_session_that_is_over_is_not_renewed(place: Place) {
    let records = place.open().await;
    let (user, revoked) = logged_in(&records, "revoked").await;
    let (_, expired) = logged_in(&records, "expired").await;
    assert!(records.revoke_session(&user.id, "revoked", "logout", time(5)).await.unwrap());
    assert_eq!(refresh(&records, "revoked", "next", 6).await, Refreshed::Over);
    assert_eq!(refresh(&records, "expired", "next", 100).await, Refreshed::Over);
    let revoked_for = Some("logout".to_owned());
    assert_eq!(find(&records, "revoked").await, Session { revoked_at: Some(time(5)), revoked_for, ..revoked });
    assert_eq!(find(&records, "expired").await, expired);
    assert_eq!(refresh(&records, "next", "later", 7).await, Refreshed::Unknown);
}

async fn who_has_too_many_sessions_loses_the_oldest(place: Place) {
    let records = place.open().await;
    let (user, _) = logged_in(&records, "first").await;
    let (neighbour, _) = logged_in(&records, "neighbour").await;
    let gone = Session { expires_at: time(1), ..session("gone", &user) };
    start(&records, &gone).await;
    start(&records, &Session { refreshed_at: time(2), ..session("second", &user) }).await;
    let begin = async |id: &str, at, most| {
        let new = Session { created_at: time(at), refreshed_at: time(at), ..session(id, &user) };
        assert!(records.start_session(&new, id, most).await.unwrap());
    };
    let version = records.people_version().await.unwrap();
    begin("third", 3, 3).await;
    assert_eq!(ids(&records, &user.id, 3).await, ["third", "second", "first"]);
    assert_eq!(records.people_version().await.unwrap(), version);
    begin("fourth", 4, 3).await;
    assert_eq!(ids(&records, &user.id, 4).await, ["fourth", "third", "second"]);
    let first = find(&records, "first").await;
    assert_eq!((first.revoked_at, first.revoked_for.as_deref()), (Some(time(4)), Some("replaced")));
    assert_eq!(records.people_version().await.unwrap(), version + 1);
    assert!(matches!(refresh(&records, "second", "next", 5).await, Refreshed::Renewed(_)));
    begin("fifth", 6, 2).await;
    assert_eq!(ids(&records, &user.id, 6).await, ["fifth", "second"], "what was renewed stays");
    // Even of a clock that is late.
    begin("sixth", 1, 0).await;
    assert_eq!(ids(&records, &user.id, 6).await, ["sixth"]);
    assert_eq!(ids(&records, &neighbour.id, 6).await, ["neighbour"]);
    assert_eq!(find(&records, "gone").await, gone, "it was over before");
}

async fn sessions_that_begin_at_once_are_not_too_many(place: Place) {
    let records = place.open().await;
    let (user, _) = logged_in(&records, "first").await;
    for round in 0..10 {
        let begun = (0..6).map(|number| {
            let (records, new) = (records.clone(), session(&format!("{round}-{number}"), &user));
            async move { assert!(records.start_session(&new, &new.id, 3).await.unwrap()) }
        });
        join_all(begun).await;
        assert_eq!(ids(&records, &user.id, 1).await.len(), 3);
    }
    assert_eq!(records.sessions_revoked_since(time(0)).await.unwrap().len(), 58);
}

async fn who_may_not_log_in_begins_no_session(place: Place) {
    let records = place.open().await;
    let away = User { deactivated_at: Some(time(1)), ..user("away") };
    add(&records, &away).await;
    for nobody in [&away, &user("stranger")] {
        assert!(!records.start_session(&session("s", nobody), "s", 9).await.unwrap());
        assert_eq!(records.session("s").await.unwrap(), None);
        assert_eq!(refresh(&records, "s", "t", 1).await, Refreshed::Unknown);
    }
}

async fn who_is_deactivated_while_they_log_in_has_no_session(place: Place) {
    let (records, other) = (place.open().await, place.open().await);
    for round in 0..20 {
        let user = user(&round.to_string());
        add(&records, &user).await;
        let session = session(&round.to_string(), &user);
        let away = User { deactivated_at: Some(time(1)), ..user.clone() };
        let deactivate = async {
            assert_eq!(other.change_user(&away).await.unwrap(), UserChange::Changed);
            other.revoke_sessions(&user.id, None, "deactivated", time(1)).await.unwrap()
        };
        let (started, revoked) = tokio::join!(records.start_session(&session, &session.id, 9), deactivate);
        assert_eq!(u64::from(started.unwrap()), revoked);
        assert_eq!(ids(&records, &user.id, 1).await, [""; 0]);
    }
}

async fn sessions_are_revoked_one_by_one_or_all_but_one(place: Place) {
    let records = place.open().await;
    let (user, _) = logged_in(&records, "a").await;
    let (neighbour, _) = logged_in(&records, "n").await;
    for id in ["b", "c", "d"] {
        start(&records, &session(id, &user)).await;
    }
    start(&records, &Session { expires_at: time(1), ..session("gone", &user) }).await;
    let version = records.people_version().await.unwrap();
    let revoke = async |id: &str, at| records.revoke_session(&user.id, id, "logout", time(at)).await.unwrap();
    assert!(revoke("a", 5).await);
    for not_theirs_or_over in ["a", "n", "gone", "none"] {
        assert!(!revoke(not_theirs_or_over, 6).await, "{not_theirs_or_over}");
    }
    assert_eq!(records.people_version().await.unwrap(), version + 1);
    let all = async |except, at| records.revoke_sessions(&user.id, except, "password", time(at)).await.unwrap();
    assert_eq!(all(Some("c"), 7).await, 2);
    assert_eq!(ids(&records, &user.id, 7).await, ["c"]);
    assert_eq!(records.people_version().await.unwrap(), version + 2);
    assert_eq!(all(Some("c"), 8).await, 0);
    assert_eq!(records.people_version().await.unwrap(), version + 2, "nothing has changed");
    assert_eq!(all(None, 9).await, 1);
    let revoked: Vec<_> = records.sessions_revoked_since(time(6)).await.unwrap();
    assert_eq!(revoked, ["b", "d", "c"]);
    assert_eq!(records.sessions_revoked_since(time(10)).await.unwrap(), [""; 0]);
    assert_eq!(find(&records, "a").await.revoked_for.as_deref(), Some("logout"));
    assert_eq!(find(&records, "b").await.revoked_for.as_deref(), Some("password"));
    assert_eq!(ids(&records, &neighbour.id, 9).await, ["n"]);
}

async fn an_address_is_known_for_as_long_as_it_was_used(place: Place) {
    let records = place.open().await;
    let (user, _) = logged_in(&records, "s").await;
    let (neighbour, _) = logged_in(&records, "n").await;
    let knows = async |user: &User, address: &str, since| {
        records.has_logged_in_from(&user.id, address, time(since)).await.unwrap()
    };
    assert!(knows(&user, "192.0.2.7", 0).await);
    assert!(!knows(&user, "192.0.2.7", 1).await, "that was before");
    assert!(!knows(&user, "192.0.2.", 0).await);
    assert!(matches!(refresh(&records, "s", "t", 5).await, Refreshed::Renewed(_)));
    records.revoke_sessions(&user.id, None, "logout", time(6)).await.unwrap();
    assert!(knows(&user, "2001:db8::1", 5).await, "even if it is over");
    assert!(!knows(&neighbour, "2001:db8::1", 0).await);
}

async fn sessions_that_are_over_are_deleted_step_by_step(place: Place) {
    let records = place.open().await;
    let (user, _) = logged_in(&records, "live").await;
    for number in 0..1_003 {
        let over = Session { expires_at: time(10), ..session(&number.to_string(), &user) };
        start(&records, &over).await;
    }
    for id in ["early", "late"] {
        start(&records, &session(id, &user)).await;
    }
    assert!(records.revoke_session(&user.id, "early", "logout", time(10)).await.unwrap());
    assert!(records.revoke_session(&user.id, "late", "logout", time(11)).await.unwrap());
    assert_eq!(records.prune_sessions(time(10)).await.unwrap(), 0, "they were not over before");
    for pruned in [1_000, 4, 0] {
        assert_eq!(records.prune_sessions(time(11)).await.unwrap(), pruned);
    }
    for gone in ["early", "0", "1002"] {
        assert_eq!(records.session(gone).await.unwrap(), None, "{gone}");
        assert_eq!(refresh(&records, gone, "next", 5).await, Refreshed::Unknown, "{gone}");
    }
    assert!(records.session("late").await.unwrap().is_some());
    assert!(matches!(refresh(&records, "live", "next", 50).await, Refreshed::Renewed(_)));
}
