//! People.

use fourmi_model::{Language, Profile, Role, UserId};
use fourmi_records::{Leftovers, OneTime, Records, User, UserChange, UserRemoval};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::{
    place::{Place, in_every_database, time},
    sessions::session,
};

in_every_database!(
    a_person_is_read_as_they_were_written,
    a_username_and_an_address_belong_to_one_person_whatever_their_case,
    a_person_is_changed_only_by_who_has_read_them_as_they_are,
    of_many_who_change_a_person_at_once_one_succeeds,
    of_many_who_want_one_name_at_once_one_gets_it,
    what_another_person_has_is_not_taken_by_a_change,
    the_last_super_admin_stays,
    super_admins_who_demote_each_other_at_once_do_not_all_succeed,
    super_admins_who_remove_and_demote_each_other_at_once_do_not_all_succeed,
    who_is_removed_is_gone_with_all_that_was_theirs,
    what_is_to_be_erased_is_remembered_until_it_is,
    a_login_is_noted_and_never_goes_back,
    a_step_of_the_second_factor_is_used_once,
    a_new_second_factor_begins_anew,
    a_recovery_code_is_used_once,
    recovery_codes_that_are_used_at_once_are_all_used,
    a_change_of_access_is_told,
    changes_of_access_at_once_all_count,
);

pub(crate) fn user(name: &str) -> User {
    let (tenant, username) = (Some("acme".parse().unwrap()), Some(name.to_owned()));
    User { tenant, username, ..User::new(UserId::random(), Role::User, time(0)) }
}

/// With everything that a person can have.
fn full_user(name: &str) -> User {
    let preferences = json!({"theme": "dark", "of": ["a\u{0}b", 1]});
    User {
        role: Role::Admin,
        email: Some(format!("{name}@Example.org")),
        email_confirmed_at: Some(time(1)),
        password_hash: Some("$argon2id$…".to_owned()),
        password_changed_at: Some(time(2)),
        totp_secret: Some("sealed".to_owned()),
        totp_confirmed_at: Some(time(3)),
        recovery_hashes: vec!["b".to_owned(), "a".to_owned()],
        access_version: 7,
        deactivated_at: Some(time(4)),
        profile: Profile {
            name: Some("Zoë d’Été".to_owned()),
            language: Language::French,
            time_zone: Some("Europe/Paris".to_owned()),
            phone: Some("+33612345678".to_owned()),
            preferences: preferences.as_object().unwrap().clone(),
        },
        created_by: Some("first".to_owned()),
        last_login_at: Some(time(5)),
        ..user(name)
    }
}

fn super_admin(name: &str) -> User {
    User { tenant: None, role: Role::SuperAdmin, ..user(name) }
}

pub(crate) async fn add(records: &Records, user: &User) {
    assert!(records.add_user(user).await.unwrap(), "{user:?}");
}

async fn find(records: &Records, user: &User) -> User {
    records.user(&user.id).await.unwrap().unwrap()
}

async fn a_person_is_read_as_they_were_written(place: Place) {
    let records = place.open().await;
    assert!(!records.any_user().await.unwrap());
    let (full, bare) = (full_user("Zoë"), User { username: None, tenant: None, ..user("") });
    for user in [&full, &bare] {
        add(&records, user).await;
    }
    let records = place.open().await;
    assert!(records.any_user().await.unwrap());
    assert_eq!(find(&records, &full).await, full);
    assert_eq!(find(&records, &bare).await, bare);
    assert_eq!(records.user(&UserId::random()).await.unwrap(), None);
}

async fn a_username_and_an_address_belong_to_one_person_whatever_their_case(place: Place) {
    let records = place.open().await;
    let ann = User { email: Some("Ann@Example.org".to_owned()), ..user("Ann") };
    add(&records, &ann).await;
    for other in [
        User { id: ann.id.clone(), ..user("other") },
        user("aNN"),
        User { email: Some("aNN@eXAMPLE.ORG".to_owned()), ..user("other") },
    ] {
        assert!(!records.add_user(&other).await.unwrap(), "{other:?}");
    }
    for name in ["Ann", "ANN", "ann"] {
        assert_eq!(records.user_by_username(name).await.unwrap().as_ref(), Some(&ann));
        let email = format!("{name}@example.ORG");
        assert_eq!(records.user_by_email(&email).await.unwrap().as_ref(), Some(&ann));
    }
    for unknown in ["", "Ann_", "%", "Ann@Example.org", "\0"] {
        assert_eq!(records.user_by_username(unknown).await.unwrap(), None, "{unknown}");
    }
    assert_eq!(records.user_by_email("Ann").await.unwrap(), None);
    // Those who have neither do not meet.
    for _ in 0..2 {
        add(&records, &User { username: None, ..user("") }).await;
    }
}

async fn a_person_is_changed_only_by_who_has_read_them_as_they_are(place: Place) {
    let records = place.open().await;
    let first = User { last_login_at: Some(time(9)), ..user("ann") };
    add(&records, &first).await;
    let wanted = User { id: first.id.clone(), tenant: Some("other".parse().unwrap()), ..full_user("Anna") };
    assert_eq!(records.change_user(&wanted).await.unwrap(), UserChange::Changed);
    let changed = User {
        version: 2,
        // What never changes.
        created_by: None,
        last_login_at: Some(time(9)),
        ..wanted.clone()
    };
    assert_eq!(find(&records, &first).await, changed);
    assert_eq!(records.user_by_username("ANNA").await.unwrap().as_ref(), Some(&changed));
    assert_eq!(records.user_by_email("anna@example.org").await.unwrap().as_ref(), Some(&changed));
    assert_eq!(records.user_by_username("ann").await.unwrap(), None, "the name is free again");

    for stale in [wanted, User { version: 3, ..changed.clone() }, user("somebody")] {
        assert_eq!(records.change_user(&stale).await.unwrap(), UserChange::Stale);
    }
    assert_eq!(find(&records, &first).await, changed);
    let bare = User { id: first.id.clone(), version: 2, username: None, last_login_at: Some(time(9)), ..user("") };
    assert_eq!(records.change_user(&bare).await.unwrap(), UserChange::Changed);
    assert_eq!(find(&records, &first).await, User { version: 3, ..bare });
}

async fn of_many_who_change_a_person_at_once_one_succeeds(place: Place) {
    let records = place.open().await;
    let ann = user("ann");
    add(&records, &ann).await;
    let changes = (0..8).map(|number| {
        let changed = User { username: Some(number.to_string()), ..ann.clone() };
        let records = records.clone();
        async move { records.change_user(&changed).await.unwrap() }
    });
    let changes = join_all(changes).await;
    let won: Vec<_> = (0..8).filter(|number| changes[*number] == UserChange::Changed).collect();
    assert_eq!(won.len(), 1, "{changes:?}");
    assert!(changes.iter().all(|change| matches!(change, UserChange::Changed | UserChange::Stale)), "{changes:?}");
    assert_eq!(find(&records, &ann).await, User { version: 2, username: Some(won[0].to_string()), ..ann });
}

async fn of_many_who_want_one_name_at_once_one_gets_it(place: Place) {
    let records = place.open().await;
    let others: Vec<_> = (0..6).map(|number| user(&number.to_string())).collect();
    for other in &others {
        add(&records, other).await;
    }
    let won = place.at_once(6, |number, records| {
        let other = User { username: Some("Ann".to_owned()), ..others[number].clone() };
        async move {
            let (new, change) = (user("ann"), records.change_user(&other));
            let (added, changed) = tokio::join!(records.add_user(&new), change);
            [added.unwrap(), changed.unwrap() == UserChange::Changed]
        }
    });
    let won = won.await.concat();
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
}

async fn what_another_person_has_is_not_taken_by_a_change(place: Place) {
    let records = place.open().await;
    let ann = User { email: Some("ann@example.org".to_owned()), ..user("ann") };
    let bob = user("bob");
    add(&records, &ann).await;
    add(&records, &bob).await;
    let version = records.people_version().await.unwrap();
    for taken in [
        User { username: Some("ANN".to_owned()), access_version: 2, ..bob.clone() },
        User { email: Some("Ann@example.org".to_owned()), access_version: 2, ..bob.clone() },
    ] {
        assert_eq!(records.change_user(&taken).await.unwrap(), UserChange::Taken);
    }
    assert_eq!(find(&records, &bob).await, bob);
    assert_eq!(records.people_version().await.unwrap(), version, "nothing has changed");
    let louder = User { username: Some("BOB".to_owned()), ..bob.clone() };
    assert_eq!(records.change_user(&louder).await.unwrap(), UserChange::Changed, "it is their own");
}

async fn the_last_super_admin_stays(place: Place) {
    let records = place.open().await;
    let (first, away) = (super_admin("first"), User { deactivated_at: Some(time(1)), ..super_admin("away") });
    add(&records, &first).await;
    add(&records, &away).await;
    let demoted = User { role: Role::User, ..first.clone() };
    let deactivated = User { deactivated_at: Some(time(2)), ..first.clone() };
    for without in [&demoted, &deactivated] {
        assert_eq!(records.change_user(without).await.unwrap(), UserChange::LastSuperAdmin);
    }
    assert_eq!(records.remove_user(&first.id, Leftovers::Keep).await.unwrap(), UserRemoval::LastSuperAdmin);
    assert_eq!(find(&records, &first).await, first);

    let renamed = User { username: Some("still".to_owned()), ..first.clone() };
    assert_eq!(records.change_user(&renamed).await.unwrap(), UserChange::Changed);
    let back = User { deactivated_at: None, ..away.clone() };
    assert_eq!(records.change_user(&back).await.unwrap(), UserChange::Changed);
    assert_eq!(records.change_user(&User { version: 2, ..demoted }).await.unwrap(), UserChange::Changed);
    assert_eq!(records.remove_user(&first.id, Leftovers::Keep).await.unwrap(), UserRemoval::Removed);
    assert_eq!(records.remove_user(&away.id, Leftovers::Keep).await.unwrap(), UserRemoval::LastSuperAdmin);
}

async fn super_admins_who_demote_each_other_at_once_do_not_all_succeed(place: Place) {
    let (records, other) = (place.open().await, place.open().await);
    let both = [super_admin("ann"), super_admin("bob")];
    for user in &both {
        add(&records, user).await;
    }
    for _ in 0..20 {
        let [ann, bob] = [find(&records, &both[0]).await, find(&records, &both[1]).await];
        let [no_ann, no_bob] = [&ann, &bob].map(|user| User { role: Role::User, ..user.clone() });
        let (first, second) = tokio::join!(records.change_user(&no_ann), other.change_user(&no_bob));
        let demoted = match (first.unwrap(), second.unwrap()) {
            (UserChange::Changed, UserChange::LastSuperAdmin) => ann,
            (UserChange::LastSuperAdmin, UserChange::Changed) => bob,
            changes => panic!("{changes:?}"),
        };
        let again = User { version: demoted.version + 1, ..demoted };
        assert_eq!(records.change_user(&again).await.unwrap(), UserChange::Changed);
    }
}

async fn super_admins_who_remove_and_demote_each_other_at_once_do_not_all_succeed(place: Place) {
    let (records, other) = (place.open().await, place.open().await);
    let mut left = super_admin("first");
    add(&records, &left).await;
    for round in 0..20 {
        let new = super_admin(&round.to_string());
        add(&records, &new).await;
        let demoted = User { deactivated_at: Some(time(1)), ..left.clone() };
        let (removal, change) =
            tokio::join!(records.remove_user(&new.id, Leftovers::Keep), other.change_user(&demoted));
        left = match (removal.unwrap(), change.unwrap()) {
            (UserRemoval::Removed, UserChange::LastSuperAdmin) => left,
            (UserRemoval::LastSuperAdmin, UserChange::Changed) => new,
            ends => panic!("{ends:?}"),
        };
    }
}

async fn who_is_removed_is_gone_with_all_that_was_theirs(place: Place) {
    let records = place.open().await;
    let (ann, bob) = (user("ann"), user("bob"));
    for user in [&ann, &bob] {
        add(&records, user).await;
        let name = user.username.as_ref().unwrap();
        assert!(records.start_session(&session(name, user), name, 9).await.unwrap());
        assert!(records.add_one_time(&link(name, user)).await.unwrap());
    }
    let version = records.people_version().await.unwrap();
    assert_eq!(records.remove_user(&ann.id, Leftovers::Keep).await.unwrap(), UserRemoval::Removed);
    assert!(records.people_version().await.unwrap() > version);
    assert_eq!(records.access_changes_since(Timestamp::MIN).await.unwrap(), [(ann.id.clone(), i64::MAX)]);

    assert_eq!(records.user(&ann.id).await.unwrap(), None);
    assert_eq!(records.session("ann").await.unwrap(), None);
    assert_eq!(records.one_time("ann").await.unwrap(), None);
    let unknown = records.refresh_session("ann", "next", time(1), time(2), "::1", None).await.unwrap();
    assert_eq!(unknown, fourmi_records::Refreshed::Unknown);
    assert!(records.session("bob").await.unwrap().is_some());
    assert!(records.one_time("bob").await.unwrap().is_some());

    assert_eq!(records.remove_user(&ann.id, Leftovers::Keep).await.unwrap(), UserRemoval::Unknown);
    assert!(!records.start_session(&session("late", &ann), "late", 9).await.unwrap());
    assert!(!records.add_one_time(&link("late", &ann)).await.unwrap());
    assert_eq!(records.session("late").await.unwrap(), None);
    assert_eq!(records.one_time("late").await.unwrap(), None);
    assert_eq!(records.change_user(&ann).await.unwrap(), UserChange::Stale);
    add(&records, &User { id: UserId::random(), ..ann }).await;
}

fn link(id: &str, user: &User) -> OneTime {
    OneTime {
        id: id.to_owned(),
        user: user.id.clone(),
        purpose: "invitation".to_owned(),
        email: None,
        job: None,
        created_at: time(0),
        expires_at: time(100),
        used_at: None,
    }
}

async fn what_is_to_be_erased_is_remembered_until_it_is(place: Place) {
    let records = place.open().await;
    let [kept, erased] = ["a", "b"].map(user);
    for (user, leftovers) in [(&kept, Leftovers::Keep), (&erased, Leftovers::Erase)] {
        assert!(records.add_user(user).await.unwrap());
        assert_eq!(records.remove_user(&user.id, leftovers).await.unwrap(), UserRemoval::Removed);
        assert_eq!(records.remove_user(&user.id, Leftovers::Erase).await.unwrap(), UserRemoval::Unknown);
    }
    assert_eq!(place.open().await.erasures().await.unwrap(), [erased.id.to_string()]);
    records.erased(erased.id.as_str()).await.unwrap();
    assert!(records.erasures().await.unwrap().is_empty());
}

async fn a_login_is_noted_and_never_goes_back(place: Place) {
    let records = place.open().await;
    let ann = user("ann");
    add(&records, &ann).await;
    add(&records, &user("bob")).await;
    for (noted, expected) in [(5, 5), (3, 5), (9, 9)] {
        records.note_login(&ann.id, time(noted)).await.unwrap();
        assert_eq!(find(&records, &ann).await, User { last_login_at: Some(time(expected)), ..ann.clone() });
    }
    records.note_login(&UserId::random(), time(1)).await.unwrap();
    assert_eq!(records.user_by_username("bob").await.unwrap().unwrap().last_login_at, None);
}

async fn a_step_of_the_second_factor_is_used_once(place: Place) {
    let records = place.open().await;
    let ann = user("ann");
    add(&records, &ann).await;
    for (step, is_new) in [(7, true), (7, false), (6, false), (8, true), (7, false)] {
        assert_eq!(records.use_totp_step(&ann.id, step).await.unwrap(), is_new, "{step}");
    }
    assert!(!records.use_totp_step(&UserId::random(), 9).await.unwrap());
    let used = place.at_once(6, |_, records| {
        let id = ann.id.clone();
        async move {
            let mut used = Vec::new();
            for step in 10..30 {
                if records.use_totp_step(&id, step).await.unwrap() {
                    used.push(step);
                }
            }
            used
        }
    });
    let mut used = used.await.concat();
    used.sort_unstable();
    assert!(used.is_sorted_by(|one, next| one < next), "no step is used twice: {used:?}");
    assert_eq!(used.last(), Some(&29));
    assert_eq!(find(&records, &ann).await, ann, "a use is no change");
}

async fn a_new_second_factor_begins_anew(place: Place) {
    let records = place.open().await;
    let mut ann = User { totp_secret: Some("first".to_owned()), ..user("ann") };
    add(&records, &ann).await;
    assert!(records.use_totp_step(&ann.id, 7).await.unwrap());
    for (secret, is_new) in [(Some("sealed anew"), false), (None, true), (Some("second"), false)] {
        ann.totp_secret = secret.map(str::to_owned);
        assert_eq!(records.change_user(&ann).await.unwrap(), UserChange::Changed);
        ann.version += 1;
        assert_eq!(records.use_totp_step(&ann.id, 7).await.unwrap(), is_new, "{secret:?}");
    }
}

async fn a_recovery_code_is_used_once(place: Place) {
    let records = place.open().await;
    let hashes = |hashes: &[&str]| hashes.iter().map(|hash| (*hash).to_owned()).collect();
    let ann = User { recovery_hashes: hashes(&["a", "b", "c"]), ..user("ann") };
    add(&records, &ann).await;
    for (hash, is_there) in [("b", true), ("b", false), ("", false), ("d", false)] {
        assert_eq!(records.use_recovery_hash(&ann.id, hash).await.unwrap(), is_there, "{hash}");
    }
    let left = User { version: 2, recovery_hashes: hashes(&["a", "c"]), ..ann.clone() };
    assert_eq!(find(&records, &ann).await, left);
    assert_eq!(records.change_user(&ann).await.unwrap(), UserChange::Stale, "it would bring the code back");
    assert!(!records.use_recovery_hash(&UserId::random(), "a").await.unwrap());
}

async fn recovery_codes_that_are_used_at_once_are_all_used(place: Place) {
    let records = place.open().await;
    let hashes: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let ann = User { recovery_hashes: hashes.clone(), ..user("ann") };
    add(&records, &ann).await;
    let used = place.at_once(4, |number, records| {
        let (id, mut hashes) = (ann.id.clone(), hashes.clone());
        hashes.rotate_left(number);
        async move {
            let mut used = Vec::new();
            for hash in hashes {
                if records.use_recovery_hash(&id, &hash).await.unwrap() {
                    used.push(hash);
                }
            }
            used
        }
    });
    let mut used = used.await.concat();
    used.sort_by_key(|hash| hash.parse::<u8>().unwrap());
    assert_eq!(used, hashes, "each is used once");
    assert_eq!(find(&records, &ann).await, User { version: 21, recovery_hashes: Vec::new(), ..ann });
}

async fn a_change_of_access_is_told(place: Place) {
    let records = place.open().await;
    let (ann, bob) = (user("ann"), user("bob"));
    add(&records, &ann).await;
    add(&records, &bob).await;
    let version = records.people_version().await.unwrap();
    let renamed = User { username: Some("anna".to_owned()), ..ann.clone() };
    assert_eq!(records.change_user(&renamed).await.unwrap(), UserChange::Changed);
    records.note_login(&ann.id, time(1)).await.unwrap();
    assert_eq!(records.people_version().await.unwrap(), version, "tokens say the same");
    assert_eq!(records.access_changes_since(Timestamp::MIN).await.unwrap(), []);

    let before = Timestamp::now() - SignedDuration::from_secs(1);
    for change in 2..4 {
        let raised = User { version: change, access_version: change, ..ann.clone() };
        assert_eq!(records.change_user(&raised).await.unwrap(), UserChange::Changed);
        assert_eq!(records.people_version().await.unwrap(), version + change - 1);
    }
    let other = place.open().await;
    assert_eq!(other.access_changes_since(before).await.unwrap(), [(ann.id.clone(), 3)]);
    let later = Timestamp::now() + SignedDuration::from_secs(1);
    assert_eq!(other.access_changes_since(later).await.unwrap(), []);
    let raised = User { access_version: 9, ..bob.clone() };
    assert_eq!(records.change_user(&raised).await.unwrap(), UserChange::Changed);
    let mut changes = other.access_changes_since(before).await.unwrap();
    changes.sort();
    let mut expected = [(ann.id, 3), (bob.id, 9)];
    expected.sort();
    assert_eq!(changes, expected);
}

async fn changes_of_access_at_once_all_count(place: Place) {
    let records = place.open().await;
    let version = records.people_version().await.unwrap();
    let changed = place.at_once(8, |number, records| async move {
        let user = user(&number.to_string());
        add(&records, &user).await;
        for raised in 2..6 {
            let user = User { version: raised - 1, access_version: raised, ..user.clone() };
            assert_eq!(records.change_user(&user).await.unwrap(), UserChange::Changed);
        }
    });
    changed.await;
    assert_eq!(records.people_version().await.unwrap(), version + 32);
    let told = records.access_changes_since(Timestamp::MIN).await.unwrap();
    assert!(told.len() == 8 && told.iter().all(|(_, version)| *version == 5), "{told:?}");
}
