//! Addresses that get nothing any more.

use fourmi_model::{Channel, SuppressionReason, TenantName};
use fourmi_records::Suppression;

use crate::place::{Place, in_every_database, time};

in_every_database!(
    the_first_reason_stands_until_it_is_removed,
    what_is_suppressed_for_all_is_so_for_each_tenant,
    they_are_listed_by_address_page_by_page,
);

fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

fn suppression(of: Option<&str>, channel: Channel, address: &str) -> Suppression {
    Suppression {
        tenant: of.map(tenant),
        channel,
        address: address.to_owned(),
        reason: SuppressionReason::Bounced,
        note: Some("550 no such user".to_owned()),
        created_at: time(7),
        created_by: None,
    }
}

async fn the_first_reason_stands_until_it_is_removed(place: Place) {
    let records = place.open().await;
    let first = suppression(Some("acme"), Channel::Mail, "ada@example.org");
    let acme = tenant("acme");
    assert!(records.add_suppression(&first).await.unwrap());
    let later = Suppression { reason: SuppressionReason::Manual, note: None, ..first.clone() };
    assert!(!records.add_suppression(&later).await.unwrap());
    let found = records.suppression(Some(&acme), Channel::Mail, "ada@example.org").await.unwrap();
    assert_eq!(found, Some(first));
    assert!(records.remove_suppression(Some(&acme), Channel::Mail, "ada@example.org").await.unwrap());
    assert!(!records.remove_suppression(Some(&acme), Channel::Mail, "ada@example.org").await.unwrap());
    assert_eq!(records.suppression(Some(&acme), Channel::Mail, "ada@example.org").await.unwrap(), None);
    assert!(records.add_suppression(&later).await.unwrap());
    let added = place.at_once(6, |_, records| async move {
        let again = suppression(None, Channel::Sms, "+33612345678");
        records.add_suppression(&again).await.unwrap()
    });
    assert_eq!(added.await.into_iter().filter(|added| *added).count(), 1);
}

async fn what_is_suppressed_for_all_is_so_for_each_tenant(place: Place) {
    let records = place.open().await;
    let of_all =
        Suppression { created_by: Some("key-1".to_owned()), ..suppression(None, Channel::Mail, "a@example.org") };
    let of_acme = suppression(Some("acme"), Channel::Mail, "a@example.org");
    let other_way = suppression(Some("acme"), Channel::Push, "b@example.org");
    for added in [&of_acme, &of_all, &other_way] {
        assert!(records.add_suppression(added).await.unwrap());
    }
    let find = async |of: Option<&str>, channel, address| {
        records.suppression(of.map(tenant).as_ref(), channel, address).await.unwrap()
    };
    for of in [None, Some("acme"), Some("other")] {
        assert_eq!(find(of, Channel::Mail, "a@example.org").await.as_ref(), Some(&of_all), "{of:?}");
    }
    assert_eq!(find(Some("acme"), Channel::Mail, "b@example.org").await, None);
    assert_eq!(find(Some("acme"), Channel::Push, "b@example.org").await, Some(other_way));
    assert_eq!(find(Some("other"), Channel::Push, "b@example.org").await, None);
    assert!(records.remove_suppression(None, Channel::Mail, "a@example.org").await.unwrap());
    assert_eq!(find(Some("acme"), Channel::Mail, "a@example.org").await, Some(of_acme));
    assert_eq!(find(Some("other"), Channel::Mail, "a@example.org").await, None);
}

async fn they_are_listed_by_address_page_by_page(place: Place) {
    let records = place.open().await;
    for address in ["c@example.org", "a@example.org", "b@example.org"] {
        for of in [None, Some("acme")] {
            records.add_suppression(&suppression(of, Channel::Mail, address)).await.unwrap();
        }
    }
    records.add_suppression(&suppression(Some("acme"), Channel::Sms, "+33612345678")).await.unwrap();
    let acme = tenant("acme");
    let page = async |of: Option<&TenantName>, after: Option<&str>, limit| {
        let page = records.suppressions(of, Channel::Mail, after, limit).await.unwrap();
        assert!(page.iter().all(|found| found.tenant.as_ref() == of && found.channel == Channel::Mail), "{page:?}");
        page.into_iter().map(|found| found.address).collect::<Vec<_>>()
    };
    for of in [None, Some(&acme)] {
        assert_eq!(page(of, None, 2).await, ["a@example.org", "b@example.org"]);
        assert_eq!(page(of, Some("b@example.org"), 2).await, ["c@example.org"]);
        assert_eq!(page(of, Some("c@example.org"), 2).await, Vec::<String>::new());
    }
}
