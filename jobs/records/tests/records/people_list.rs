//! Lists of people.

use fourmi_model::{Role, UserId};
use fourmi_records::{Records, RecordsError, User, UserChange, UserFilter};

use crate::{
    people::{add, user},
    place::{Place, in_every_database, time},
};

in_every_database!(
    a_list_has_who_its_filter_wants_newest_first,
    people_are_found_by_what_they_are_called_now,
    a_cursor_that_no_list_gave_is_refused,
);

/// People of all sorts; several were added at the same time.
fn sorts() -> Vec<User> {
    (0..60_u16).map(sort).collect()
}

fn sort(number: u16) -> User {
    let role = [Role::User, Role::Admin, Role::User, Role::SuperAdmin, Role::User][usize::from(number % 5)];
    let mut user = user(&format!("Person-{number}"));
    user.role = role;
    user.tenant = role.is_of_a_tenant().then(|| format!("tenant-{}", number % 3).parse().unwrap());
    user.email = number.is_multiple_of(2).then(|| format!("p{number}@Example.org"));
    user.deactivated_at = number.is_multiple_of(7).then(|| time(1));
    user.profile.name = number.is_multiple_of(4).then(|| format!("Élise 100% {number}"));
    user.created_at = time(i64::from(number % 10));
    user
}

fn wants(filter: &UserFilter, user: &User) -> bool {
    let has = |search: &str| {
        let words = [&user.username, &user.email, &user.profile.name];
        words.into_iter().flatten().any(|word| word.to_lowercase().contains(&search.to_lowercase()))
    };
    filter.tenant.as_ref().is_none_or(|tenant| user.tenant.as_ref() == Some(tenant))
        && filter.role.is_none_or(|role| user.role == role)
        && filter.active.is_none_or(|is_active| user.deactivated_at.is_none() == is_active)
        && filter.search.as_deref().is_none_or(has)
}

fn filters() -> Vec<UserFilter> {
    let mut filters = Vec::new();
    for tenant in [None, Some("tenant-1")] {
        for role in [None, Some(Role::User), Some(Role::SuperAdmin)] {
            for active in [None, Some(true), Some(false)] {
                for search in
                    [None, Some("ÉLISE"), Some("person-1"), Some("EXAMPLE"), Some("0% 1"), Some("%"), Some("")]
                {
                    let tenant = tenant.map(|tenant| tenant.parse().unwrap());
                    filters.push(UserFilter { tenant, role, active, search: search.map(str::to_owned) });
                }
            }
        }
    }
    filters
}

/// All pages of a list.
async fn walk(records: &Records, filter: &UserFilter, limit: usize) -> Vec<User> {
    let (mut users, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let (page, next) = records.users(filter, cursor.as_deref(), limit).await.unwrap();
        assert!(page.len() == limit || next.is_none() && page.len() <= limit, "only the last page is short");
        users.extend(page);
        match next {
            Some(next) => cursor = Some(next),
            None => return users,
        }
    }
}

async fn a_list_has_who_its_filter_wants_newest_first(place: Place) {
    let records = place.open().await;
    let mut all = sorts();
    for user in &all {
        add(&records, user).await;
    }
    all.sort_by_key(|user| (user.created_at, user.id.clone()));
    all.reverse();
    for filter in filters() {
        let expected: Vec<_> = all.iter().filter(|user| wants(&filter, user)).collect();
        for limit in [7, 200] {
            let users = walk(&records, &filter, limit).await;
            assert_eq!(users.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        }
    }
    let (page, next) = records.users(&UserFilter::default(), None, 0).await.unwrap();
    assert_eq!((page.len(), next.is_some()), (1, true), "a page has somebody");
}

async fn people_are_found_by_what_they_are_called_now(place: Place) {
    let records = place.open().await;
    let mut ann = User { email: Some("a_b@example.org".to_owned()), ..user("ann") };
    ann.profile.name = Some("Ann D’Été!".to_owned());
    add(&records, &ann).await;
    add(&records, &user("axb")).await;
    let found = async |search: &str| {
        let filter = UserFilter { search: Some(search.to_owned()), ..UserFilter::default() };
        let (users, _) = records.users(&filter, None, 9).await.unwrap();
        users.into_iter().map(|user| user.username.unwrap()).collect::<Vec<_>>()
    };
    for (search, expected) in [
        ("ÉTÉ!", &["ann"][..]),
        ("A_B", &["ann"]),
        ("x", &["ann", "axb"]),
        ("_", &["ann"]),
        ("%", &[]),
        ("\\", &[]),
        ("' OR 1=1 --", &[]),
        ("annann", &[]),
        ("\0", &[]),
        (&"x".repeat(100_000), &[]),
    ] {
        let mut names = found(search).await;
        names.sort();
        assert_eq!(names, expected, "{search:.20}");
    }
    ann.profile.name = Some("Béa".to_owned());
    assert_eq!(records.change_user(&ann).await.unwrap(), UserChange::Changed);
    assert_eq!(found("été").await, [""; 0]);
    assert_eq!(found("BÉA").await, ["ann"]);
}

async fn a_cursor_that_no_list_gave_is_refused(place: Place) {
    let records = place.open().await;
    for name in ["ann", "bob"] {
        add(&records, &user(name)).await;
    }
    let filter = UserFilter::default();
    let (_, next) = records.users(&filter, None, 1).await.unwrap();
    let cursor = next.unwrap();
    assert!(cursor.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)), "{cursor}");
    assert_eq!(records.users(&filter, Some(&cursor), 1).await.unwrap().0.len(), 1);
    for tampered in [
        "",
        ".",
        "nonsense",
        &cursor[1..cursor.len() - 1],
        &format!("+{cursor}"),
        &format!("{cursor}0"),
        &cursor.to_uppercase(),
        &format!("9223372036854775807.{}", UserId::random()),
        &format!("0.{}' OR 1=1", UserId::random()),
    ] {
        let error = records.users(&filter, Some(tampered), 1).await.unwrap_err();
        assert!(matches!(error, RecordsError::Cursor), "{tampered}: {error}");
    }
}
