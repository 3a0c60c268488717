//! Kinds that workers of other systems register.

use fourmi_records::{KindChange, RegisteredKind};
use futures_util::future::join_all;

use crate::place::{Place, in_every_database, time};

in_every_database!(
    a_kind_is_read_as_it_was_registered,
    a_kind_changes_as_its_version_allows,
    a_tenant_has_as_many_kinds_as_it_may_also_if_many_register_at_once,
    the_kinds_of_a_tenant_go_with_it,
);

fn kind(tenant: Option<&str>, name: &str) -> RegisteredKind {
    RegisteredKind {
        tenant: tenant.map(|name| name.parse().unwrap()),
        name: name.parse().unwrap(),
        version: 1,
        schema_version: 1,
        summary: "Shouts “hé”.".to_owned(),
        payload_schema: r#"{"type":"object","required":["text"]}"#.to_owned(),
        result_schema: "true".to_owned(),
        policy: r#"{"attempts":3}"#.to_owned(),
        changed_at: time(1),
        changed_by: "key-1".to_owned(),
    }
}

async fn a_kind_is_read_as_it_was_registered(place: Place) {
    let records = place.open().await;
    let kinds = [kind(None, "x.shout"), kind(Some("Acme"), "x.shout"), kind(Some("acme"), "x.shout")];
    for (number, kind) in kinds.iter().enumerate() {
        assert_eq!(records.register_kind(kind, 100).await.unwrap(), KindChange::Added);
        assert_eq!(records.kinds_version().await.unwrap(), i64::try_from(number).unwrap() + 1);
    }
    let mut known = records.registered_kinds().await.unwrap();
    known.sort_by(|one, other| one.tenant.cmp(&other.tenant));
    assert_eq!(known, kinds);
    assert!(records.remove_kind(None, &kinds[0].name).await.unwrap());
    assert!(!records.remove_kind(None, &kinds[0].name).await.unwrap());
    assert_eq!((records.registered_kinds().await.unwrap().len(), records.kinds_version().await.unwrap()), (2, 4));
}

async fn a_kind_changes_as_its_version_allows(place: Place) {
    let records = place.open().await;
    let register = async |kind: &RegisteredKind| records.register_kind(kind, 100).await.unwrap();
    let first = kind(None, "x.shout");
    assert_eq!(register(&first).await, KindChange::Added);
    let other_order =
        RegisteredKind { payload_schema: r#"{"required":["text"],"type":"object"}"#.to_owned(), ..first.clone() };
    assert_eq!((register(&first).await, register(&other_order).await), (KindChange::Same, KindChange::Same));
    assert_eq!(records.kinds_version().await.unwrap(), 1);
    let other_policy = RegisteredKind { policy: r#"{"attempts":4}"#.to_owned(), ..first.clone() };
    assert_eq!(register(&other_policy).await, KindChange::Changed);
    let other_schema = RegisteredKind { payload_schema: "true".to_owned(), ..first.clone() };
    assert_eq!(register(&other_schema).await, KindChange::OtherSchema);
    let newer = RegisteredKind { schema_version: 2, ..other_schema };
    assert_eq!((register(&newer).await, register(&first).await), (KindChange::Changed, KindChange::Newer(2)));
    let known = records.registered_kinds().await.unwrap();
    assert_eq!(known, [RegisteredKind { version: 3, ..newer }]);
}

async fn a_tenant_has_as_many_kinds_as_it_may_also_if_many_register_at_once(place: Place) {
    let records = place.open().await;
    let kinds: Vec<_> = (0..8).map(|number| kind(Some("acme"), &format!("x.n{number}"))).collect();
    let changes = join_all(kinds.iter().map(|kind| records.register_kind(kind, 3))).await;
    let added = changes.iter().filter(|change| matches!(change, Ok(KindChange::Added))).count();
    assert_eq!((added, records.registered_kinds().await.unwrap().len()), (3, 3), "{changes:?}");
    assert_eq!(records.register_kind(&kind(Some("other"), "x.shout"), 3).await.unwrap(), KindChange::Added);
}

async fn the_kinds_of_a_tenant_go_with_it(place: Place) {
    let records = place.open().await;
    let tenant = fourmi_records::Tenant {
        name: "acme".parse().unwrap(),
        version: 1,
        title: None,
        registration: false,
        app_url: None,
        created_at: time(0),
        created_by: None,
        suspended_at: None,
    };
    assert!(records.add_tenant(&tenant).await.unwrap());
    for owner in [Some("acme"), None] {
        records.register_kind(&kind(owner, "x.shout"), 3).await.unwrap();
    }
    records.remove_tenant(&tenant.name).await.unwrap();
    assert_eq!(records.registered_kinds().await.unwrap(), [kind(None, "x.shout")]);
}
