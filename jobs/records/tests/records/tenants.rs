//! Tenants.

use fourmi_model::{JobRecord, State, TenantName};
use fourmi_records::{ApiKey, KindUsage, Tenant, TenantCounts, TenantRemoval, Usage};

use crate::{
    jobs::record,
    keys::key,
    place::{Place, in_every_database, time},
};

in_every_database!(
    a_tenant_is_read_as_it_was_written,
    tenants_are_listed_by_name_page_by_page,
    no_two_tenants_look_alike,
    of_many_who_add_names_that_look_alike_one_succeeds,
    a_tenant_is_changed_only_by_who_has_read_it_as_it_is,
    of_many_who_change_a_tenant_at_once_one_succeeds,
    a_tenant_stays_while_a_key_is_bound_to_it,
    a_tenant_stays_while_people_belong_to_it,
    suspended_tenants_are_named,
    usage_is_what_became_of_the_jobs_of_a_tenant,
    usage_has_the_kinds_with_most_jobs,
);

fn name(text: &str) -> TenantName {
    text.parse().unwrap()
}

pub(crate) fn tenant(text: &str) -> Tenant {
    Tenant {
        name: name(text),
        version: 1,
        title: None,
        registration: false,
        app_url: None,
        created_at: time(0),
        created_by: None,
        suspended_at: None,
    }
}

/// With everything that a tenant can have.
fn full_tenant(text: &str) -> Tenant {
    Tenant {
        title: Some("The “Acme” company".to_owned()),
        registration: true,
        app_url: Some("https://app.example.org/".to_owned()),
        created_by: Some("key-1".to_owned()),
        suspended_at: Some(time(5)),
        ..tenant(text)
    }
}

async fn a_tenant_is_read_as_it_was_written(place: Place) {
    let records = place.open().await;
    let odd = Tenant { title: Some("a\0b".to_owned()), ..tenant("odd") };
    for tenant in [&full_tenant("acme"), &tenant("bakery"), &odd] {
        assert!(records.add_tenant(tenant).await.unwrap());
    }
    let records = place.open().await;
    assert_eq!(records.tenant(&name("acme")).await.unwrap(), Some(full_tenant("acme")));
    assert_eq!(records.tenant(&name("bakery")).await.unwrap(), Some(tenant("bakery")));
    assert_eq!(records.tenant(&name("Acme")).await.unwrap(), None);
    let odd = records.tenant(&name("odd")).await.unwrap().unwrap();
    assert_eq!(odd.title.as_deref(), Some("a\u{fffd}b"));
}

async fn tenants_are_listed_by_name_page_by_page(place: Place) {
    let records = place.open().await;
    for text in ["b", "a-b", "B2", "a", "_", "a.b", "10", "9"] {
        assert!(records.add_tenant(&tenant(text)).await.unwrap());
    }
    let sorted = ["10", "9", "B2", "_", "a", "a-b", "a.b", "b"].map(tenant);
    assert_eq!(records.tenants(None, 100).await.unwrap(), sorted);
    assert_eq!(records.tenants(None, 0).await.unwrap(), []);
    let mut walked = Vec::new();
    loop {
        let page = records.tenants(walked.last().map(|tenant: &Tenant| &tenant.name), 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        walked.extend(page);
    }
    assert_eq!(walked, sorted);
    assert_eq!(records.tenants(Some(&name("C")), usize::MAX).await.unwrap(), sorted[3..], "the name may be gone");
}

async fn no_two_tenants_look_alike(place: Place) {
    let records = place.open().await;
    assert!(records.add_tenant(&tenant("Acme-I")).await.unwrap());
    let version = records.tenants_version().await.unwrap();
    for text in ["Acme-I", "acme-i", "ACME-I"] {
        assert!(!records.add_tenant(&full_tenant(text)).await.unwrap(), "{text}");
    }
    assert_eq!(records.tenants(None, 10).await.unwrap(), [tenant("Acme-I")]);
    assert_eq!(records.tenants_version().await.unwrap(), version, "nothing has changed");
    assert!(records.add_tenant(&tenant("acme_i")).await.unwrap());
    assert!(records.tenants_version().await.unwrap() > version);
}

async fn of_many_who_add_names_that_look_alike_one_succeeds(place: Place) {
    let records = place.open().await;
    let names = ["acme", "acmE", "acMe", "acME", "aCme", "Acme", "ACME", "ACMe"];
    let added = names.map(|text| {
        let records = records.clone();
        async move { records.add_tenant(&tenant(text)).await.unwrap() }
    });
    let added = futures_util::future::join_all(added).await;
    assert_eq!(added.iter().filter(|added| **added).count(), 1, "{added:?}");
    let winner = names[added.iter().position(|added| *added).unwrap()];
    assert_eq!(records.tenants(None, 10).await.unwrap(), [tenant(winner)]);
}

async fn a_tenant_is_changed_only_by_who_has_read_it_as_it_is(place: Place) {
    let records = place.open().await;
    records.add_tenant(&tenant("acme")).await.unwrap();
    let before = records.tenants_version().await.unwrap();
    // What never changes.
    let wanted = Tenant { created_by: None, created_at: time(0), ..full_tenant("acme") };
    let asked = Tenant { created_by: Some("somebody".to_owned()), created_at: time(9), ..wanted.clone() };
    assert!(records.change_tenant(&asked).await.unwrap());
    let changed = Tenant { version: 2, ..wanted };
    assert_eq!(records.tenant(&name("acme")).await.unwrap(), Some(changed.clone()));
    let after = records.tenants_version().await.unwrap();
    assert!(after > before);

    assert!(!records.change_tenant(&tenant("acme")).await.unwrap(), "it is at another version");
    assert!(!records.change_tenant(&tenant("Acme")).await.unwrap(), "there is none");
    assert_eq!(records.tenants(None, 10).await.unwrap(), [changed]);
    assert_eq!(records.tenants_version().await.unwrap(), after);
}

async fn of_many_who_change_a_tenant_at_once_one_succeeds(place: Place) {
    let records = place.open().await;
    records.add_tenant(&tenant("acme")).await.unwrap();
    let changes = (0..8).map(|number| {
        let changed = Tenant { title: Some(number.to_string()), ..tenant("acme") };
        let records = records.clone();
        async move { records.change_tenant(&changed).await.unwrap() }
    });
    let won: Vec<bool> = futures_util::future::join_all(changes).await;
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    let title = won.iter().position(|won| *won).map(|number| number.to_string());
    assert_eq!(records.tenants(None, 10).await.unwrap(), [Tenant { title, version: 2, ..tenant("acme") }]);
}

async fn a_tenant_stays_while_a_key_is_bound_to_it(place: Place) {
    let records = place.open().await;
    for text in ["acme", "bakery"] {
        records.add_tenant(&tenant(text)).await.unwrap();
    }
    let bound = ApiKey { tenant: Some(name("acme")), ..key("a") };
    records.add_key(&bound).await.unwrap();
    records.add_key(&ApiKey { tenant: Some(name("acme")), revoked_at: Some(time(1)), ..key("b") }).await.unwrap();
    records.add_key(&key("c")).await.unwrap();
    let version = records.tenants_version().await.unwrap();
    assert_eq!(records.tenant_counts(&name("acme")).await.unwrap(), TenantCounts { people: 0, keys: 1 });
    assert_eq!(records.tenant_counts(&name("bakery")).await.unwrap(), TenantCounts::default());
    assert_eq!(records.remove_tenant(&name("acme")).await.unwrap(), TenantRemoval::NotEmpty);
    assert_eq!(records.remove_tenant(&name("Acme")).await.unwrap(), TenantRemoval::Unknown);
    assert_eq!(records.tenants_version().await.unwrap(), version, "nothing has changed");

    assert!(records.change_key(&ApiKey { revoked_at: Some(time(2)), ..bound }).await.unwrap());
    assert_eq!(records.tenant_counts(&name("acme")).await.unwrap(), TenantCounts::default());
    assert_eq!(records.remove_tenant(&name("acme")).await.unwrap(), TenantRemoval::Removed);
    assert_eq!(records.remove_tenant(&name("acme")).await.unwrap(), TenantRemoval::Unknown);
    assert_eq!(records.tenants(None, 10).await.unwrap(), [tenant("bakery")]);
    assert!(records.tenants_version().await.unwrap() > version);
    assert!(records.add_tenant(&tenant("ACME")).await.unwrap(), "the name is free");
}

async fn a_tenant_stays_while_people_belong_to_it(place: Place) {
    let records = place.open().await;
    for text in ["acme", "bakery"] {
        records.add_tenant(&tenant(text)).await.unwrap();
    }
    for (id, tenant) in [("a", "'acme'"), ("b", "'acme'"), ("c", "NULL")] {
        let person = format!(
            "INSERT INTO users (id, version, tenant, role, recovery_hashes, access_version, profile, search, created_at) \
             VALUES ('{id}', 1, {tenant}, 'user', '[]', 1, '{{}}', '', 0)"
        );
        place.run(&person).await.unwrap();
    }
    assert_eq!(records.tenant_counts(&name("acme")).await.unwrap(), TenantCounts { people: 2, keys: 0 });
    assert_eq!(records.remove_tenant(&name("acme")).await.unwrap(), TenantRemoval::NotEmpty);
    assert_eq!(records.remove_tenant(&name("bakery")).await.unwrap(), TenantRemoval::Removed);
    place.run("DELETE FROM users WHERE tenant = 'acme'").await.unwrap();
    assert_eq!(records.remove_tenant(&name("acme")).await.unwrap(), TenantRemoval::Removed);
}

async fn suspended_tenants_are_named(place: Place) {
    let records = place.open().await;
    assert_eq!(records.suspended_tenants().await.unwrap(), []);
    for tenant in [full_tenant("b"), tenant("c"), full_tenant("a")] {
        records.add_tenant(&tenant).await.unwrap();
    }
    assert_eq!(records.suspended_tenants().await.unwrap(), [name("a"), name("b")]);
    assert!(records.change_tenant(&tenant("b")).await.unwrap());
    assert_eq!(records.suspended_tenants().await.unwrap(), [name("a")]);
}

/// A job that started at a time, ran for some milliseconds, and ended so.
fn ran(tenant: &str, kind: &str, state: State, start: i64, run_ms: i64) -> JobRecord {
    let mut record = record(state, 1);
    record.job.tenant = Some(name(tenant));
    record.job.kind = kind.parse().unwrap();
    record.job.started_at = Some(time(start));
    record.job.finished_at = Some(time(start + run_ms));
    record
}

async fn usage_is_what_became_of_the_jobs_of_a_tenant(place: Place) {
    let records = place.open().await;
    let (probe, extract) = ("media.probe", "audio.extract");
    let mut never_ran = ran("acme", extract, State::Cancelled, 200, 0);
    never_ran.job.started_at = None;
    let jobs = [
        ran("acme", probe, State::Succeeded, 0, 99),
        ran("acme", probe, State::Succeeded, 0, 100),
        ran("acme", probe, State::Failed, 100, 20),
        ran("acme", extract, State::Succeeded, 100, 3),
        ran("acme", extract, State::Cancelled, 100, 5_000_000_000),
        // By the clocks of two machines it ended before it started.
        ran("acme", extract, State::Failed, 400, -50),
        never_ran,
        ran("bakery", probe, State::Succeeded, 100, 7),
    ];
    records.archive(&jobs).await.unwrap();
    let usage = records.usage(&name("acme"), time(100)).await.unwrap();
    let expected = Usage {
        succeeded: 2,
        failed: 2,
        cancelled: 2,
        run_ms: 5_000_000_123,
        kinds: vec![
            KindUsage { kind: extract.to_owned(), jobs: 4, failed: 1, run_ms: 5_000_000_003 },
            KindUsage { kind: probe.to_owned(), jobs: 2, failed: 1, run_ms: 120 },
        ],
    };
    assert_eq!(usage, expected);
    assert_eq!(records.usage(&name("nobody"), time(0)).await.unwrap(), Usage::default());
}

async fn usage_has_the_kinds_with_most_jobs(place: Place) {
    let records = place.open().await;
    let mut jobs: Vec<_> =
        (0..120).map(|number| ran("acme", &format!("kind.n{number:03}"), State::Succeeded, 0, 1)).collect();
    jobs.push(ran("acme", "kind.n119", State::Succeeded, 0, 1));
    records.archive(&jobs).await.unwrap();
    let usage = records.usage(&name("acme"), time(0)).await.unwrap();
    assert_eq!((usage.succeeded, usage.kinds.len()), (121, 100));
    let first: Vec<_> = usage.kinds[..3].iter().map(|kind| (kind.kind.as_str(), kind.jobs)).collect();
    assert_eq!(first, [("kind.n119", 2), ("kind.n000", 1), ("kind.n001", 1)]);
}
