//! Devices, and how far messages to many of them are.

use fourmi_model::{Channel, DeviceId, DevicePlatform, JobId, SuppressionReason, TokenKind};
use fourmi_records::{Broadcast, Device, DeviceFilter, Records, Suppression};

use crate::place::{Place, in_every_database, time};

in_every_database!(
    a_token_moves_to_whoever_shows_it,
    devices_are_read_page_by_page,
    a_device_that_was_registered_anew_is_not_removed,
    an_owner_keeps_the_devices_that_were_seen_last,
    devices_that_were_not_seen_are_deleted_in_steps,
    it_is_known_how_far_a_broadcast_is,
);

fn device(tenant: Option<&str>, token: &str, owner: &str, second: i64) -> Device {
    Device {
        id: DeviceId::random(),
        tenant: tenant.map(|name| name.parse().unwrap()),
        token: token.to_owned(),
        token_kind: TokenKind::Registration,
        platform: DevicePlatform::Android,
        owner: owner.to_owned(),
        app_version: Some("1.2".to_owned()),
        locale: None,
        failures: 0,
        created_at: time(second),
        seen_at: time(second),
    }
}

fn of(tenant: Option<&str>) -> DeviceFilter {
    DeviceFilter { tenant: tenant.map(|name| name.parse().unwrap()), ..DeviceFilter::default() }
}

async fn register(records: &Records, device: Device) -> Device {
    records.register_devices(&[device]).await.unwrap().remove(0)
}

async fn a_token_moves_to_whoever_shows_it(place: Place) {
    let records = place.open().await;
    let first = register(&records, device(Some("acme"), "token", "anna", 1)).await;
    assert_eq!(records.device(&first.id).await.unwrap().unwrap(), first);
    records.devices_failed(std::slice::from_ref(&first.id)).await.unwrap();
    assert_eq!(records.device(&first.id).await.unwrap().unwrap().failures, 1);
    let again = Device {
        platform: DevicePlatform::Ios,
        locale: Some("fr".to_owned()),
        ..device(Some("acme"), "token", "ben", 2)
    };
    let moved = register(&records, again.clone()).await;
    assert_eq!(moved, Device { id: first.id.clone(), created_at: time(1), ..again });
    // Another tenant's is another.
    let other = register(&records, device(None, "token", "anna", 3)).await;
    assert_ne!(other.id, first.id);
    let anna = DeviceFilter { owners: vec!["anna".to_owned()], ..of(Some("acme")) };
    assert_eq!(records.count_devices(&anna).await.unwrap(), 0);
    assert_eq!(records.count_devices(&of(Some("acme"))).await.unwrap(), 1);
    assert!(records.remove_device(&first.id).await.unwrap() && !records.remove_device(&first.id).await.unwrap());
}

async fn devices_are_read_page_by_page(place: Place) {
    let records = place.open().await;
    let mut devices: Vec<_> =
        (0..5).map(|n| device(Some("acme"), &format!("token-{n}"), &format!("owner-{n}"), n)).collect();
    devices[3].platform = DevicePlatform::Web;
    assert_eq!(records.register_devices(&devices).await.unwrap(), devices);
    register(&records, device(None, "elsewhere", "owner-1", 9)).await;
    for (tenant, address) in [(Some("acme"), "owner-1"), (None, "owner-2"), (Some("other"), "owner-3")] {
        let suppression = Suppression {
            tenant: tenant.map(|name| name.parse().unwrap()),
            channel: Channel::Push,
            address: address.to_owned(),
            reason: SuppressionReason::OptedOut,
            note: None,
            created_at: time(0),
            created_by: None,
        };
        assert!(records.add_suppression(&suppression).await.unwrap());
    }
    let first = records.addressees(&of(Some("acme")), None, 3).await.unwrap();
    let rest = records.addressees(&of(Some("acme")), Some(&first[2].device.id), 3).await.unwrap();
    let all: Vec<_> = first.into_iter().chain(rest).collect();
    assert_eq!(all.iter().map(|one| one.device.clone()).collect::<Vec<_>>(), devices);
    assert_eq!(all.iter().map(|one| one.suppressed).collect::<Vec<_>>(), [false, true, true, false, false]);

    let web = DeviceFilter { platform: Some(DevicePlatform::Web), ..of(Some("acme")) };
    assert_eq!(records.addressees(&web, None, 9).await.unwrap()[0].device, devices[3]);
    let two = DeviceFilter { owners: vec!["owner-0".to_owned(), "owner-4".to_owned()], ..of(Some("acme")) };
    assert_eq!(
        (records.addressees(&two, None, 9).await.unwrap().len(), records.count_devices(&two).await.unwrap()),
        (2, 2)
    );
    let ids = [devices[1].id.clone(), DeviceId::random()];
    let tenant = "acme".parse().unwrap();
    let found = records.addressees_of(Some(&tenant), &ids).await.unwrap();
    assert!(found.len() == 1 && found[0].suppressed && found[0].device == devices[1]);
    assert!(records.addressees_of(None, &ids).await.unwrap().is_empty(), "they are another's");
    let by_token = async |tenant, kind| records.addressee_of_token(tenant, kind, "token-1").await.unwrap();
    let found = by_token(Some(&tenant), TokenKind::Registration).await.unwrap();
    assert!(found.suppressed && found.device == devices[1]);
    assert_eq!(by_token(Some(&tenant), TokenKind::Installation).await, None, "another sort of token");
    assert_eq!(by_token(None, TokenKind::Registration).await, None);
}

async fn a_device_that_was_registered_anew_is_not_removed(place: Place) {
    let records = place.open().await;
    let [stale, gone] = [("one", 1), ("two", 2)].map(|(token, second)| device(None, token, "anna", second));
    records.register_devices(&[stale.clone(), gone.clone()]).await.unwrap();
    register(&records, device(None, "one", "anna", 5)).await;
    assert_eq!(records.remove_tokens(&[gone, stale.clone()]).await.unwrap(), 1);
    assert!(records.device(&stale.id).await.unwrap().is_some());
}

async fn devices_that_were_not_seen_are_deleted_in_steps(place: Place) {
    let records = place.open().await;
    let devices: Vec<_> = (0..1_200).map(|n| device(None, &format!("token-{n}"), "anna", n)).collect();
    records.register_devices(&devices).await.unwrap();
    assert_eq!(records.count_old_devices(time(1_100)).await.unwrap(), 1_100);
    assert_eq!(records.prune_devices(time(1_100)).await.unwrap(), 1_000);
    assert_eq!(records.prune_devices(time(1_100)).await.unwrap(), 100);
    assert_eq!(records.prune_devices(time(1_100)).await.unwrap(), 0);
    assert_eq!(records.count_devices(&of(None)).await.unwrap(), 100);
}

async fn it_is_known_how_far_a_broadcast_is(place: Place) {
    let records = place.open().await;
    let job = JobId::new("messaging".parse().unwrap());
    assert_eq!(records.broadcast(&job).await.unwrap(), None);
    let mut broadcast = Broadcast { place: "{}".to_owned(), targeted: 7, sent: 5, failed: 1, ..Broadcast::default() };
    assert!(records.save_broadcast(&job, 1, &broadcast, time(1)).await.unwrap());
    (broadcast.invalid, broadcast.skipped, broadcast.repeated) = (1, 2, 3);
    assert!(records.save_broadcast(&job, 3, &broadcast, time(2)).await.unwrap());
    assert!(!records.save_broadcast(&job, 2, &Broadcast::default(), time(9)).await.unwrap(), "a later run is at work");
    assert_eq!(records.broadcast(&job).await.unwrap(), Some(broadcast));
    assert_eq!(records.prune_broadcasts(time(2)).await.unwrap(), 0);
    assert_eq!(records.prune_broadcasts(time(3)).await.unwrap(), 1);
}

async fn an_owner_keeps_the_devices_that_were_seen_last(place: Place) {
    let records = place.open().await;
    let register = async |token: &str, owner: &str, second| {
        records.register_device(&device(Some("acme"), token, owner, second), 2).await.unwrap()
    };
    let first = register("first", "anna", 1).await;
    assert_eq!((first.owner_before, first.dropped), (None, vec![]));
    let second = register("second", "anna", 2).await;
    // Another's, and the first again: it was seen last.
    register("other", "ben", 3).await;
    let again = register("first", "anna", 4).await;
    assert_eq!((&again.device.id, again.owner_before.as_deref()), (&first.device.id, Some("anna")));
    let third = register("third", "anna", 5).await;
    assert_eq!(third.dropped, [second.device.id]);
    let moved = register("other", "anna", 6).await;
    assert_eq!((moved.owner_before.as_deref(), moved.dropped), (Some("ben"), vec![first.device.id]));
    assert_eq!(records.count_devices(&of(Some("acme"))).await.unwrap(), 2);
}
