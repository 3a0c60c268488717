//! Webhooks.

use fourmi_model::{WebhookEvent, WebhookId};
use fourmi_records::Webhook;

use crate::place::{Place, in_every_database, time};

in_every_database!(
    a_webhook_is_read_as_it_was_added,
    a_webhook_changes_only_from_the_version_that_was_read,
    a_webhook_is_disabled_once_and_enabled_by_a_change,
    no_success_moves_back,
);

fn webhook(tenant: Option<&str>, second: i64) -> Webhook {
    Webhook {
        id: WebhookId::random(),
        version: 1,
        url: "https://example.org/hooks?é=1".to_owned(),
        description: Some("Für “alle”".to_owned()),
        events: vec![WebhookEvent::JobFailed, WebhookEvent::JobSucceeded],
        tenant: tenant.map(|name| name.parse().unwrap()),
        own_only: tenant.is_some(),
        secret: "sealed".to_owned(),
        previous_secret: None,
        previous_until: None,
        disabled_at: None,
        disabled_for: None,
        last_success_at: None,
        created_at: time(second),
        created_by: "user-1".to_owned(),
    }
}

async fn a_webhook_is_read_as_it_was_added(place: Place) {
    let records = place.open().await;
    let (first, second) = (webhook(Some("acme"), 1), webhook(None, 2));
    for webhook in [&second, &first] {
        records.add_webhook(webhook).await.unwrap();
    }
    assert_eq!(records.webhook(&first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(records.webhooks().await.unwrap(), [first.clone(), second], "oldest first");
    assert_eq!(records.webhook_counts("user-1").await.unwrap(), (2, 2));
    assert_eq!(records.webhook_counts("user-2").await.unwrap(), (0, 2));
    let before = records.webhooks_version().await.unwrap();
    assert!(records.remove_webhook(&first.id).await.unwrap());
    assert!(!records.remove_webhook(&first.id).await.unwrap());
    assert_eq!(records.webhook(&first.id).await.unwrap(), None);
    assert!(records.webhooks_version().await.unwrap() > before);
}

async fn a_webhook_changes_only_from_the_version_that_was_read(place: Place) {
    let records = place.open().await;
    let first = webhook(None, 1);
    records.add_webhook(&first).await.unwrap();
    let changed = Webhook {
        url: "https://example.org/other".to_owned(),
        description: None,
        events: Vec::new(),
        secret: "another".to_owned(),
        previous_secret: Some("sealed".to_owned()),
        previous_until: Some(time(9)),
        ..first.clone()
    };
    assert!(records.change_webhook(&changed).await.unwrap());
    assert!(!records.change_webhook(&first).await.unwrap(), "somebody was faster");
    assert_eq!(records.webhook(&first.id).await.unwrap(), Some(Webhook { version: 2, ..changed }));
}

async fn a_webhook_is_disabled_once_and_enabled_by_a_change(place: Place) {
    let records = place.open().await;
    let first = webhook(None, 1);
    records.add_webhook(&first).await.unwrap();
    assert!(records.disable_webhook(&first.id, time(5), "gone").await.unwrap());
    assert!(!records.disable_webhook(&first.id, time(6), "failing").await.unwrap());
    let disabled = records.webhook(&first.id).await.unwrap().unwrap();
    assert_eq!((disabled.disabled_at, disabled.disabled_for.as_deref()), (Some(time(5)), Some("gone")));
    let enabled = Webhook { disabled_at: None, disabled_for: None, ..disabled };
    assert!(records.change_webhook(&enabled).await.unwrap());
    assert_eq!(records.webhook(&first.id).await.unwrap().unwrap().disabled_at, None);
    assert!(!records.disable_webhook(&WebhookId::random(), time(5), "gone").await.unwrap());
}

async fn no_success_moves_back(place: Place) {
    let records = place.open().await;
    let first = webhook(None, 1);
    records.add_webhook(&first).await.unwrap();
    let version = records.webhooks_version().await.unwrap();
    for (said, expected) in [(5, 5), (3, 5), (7, 7)] {
        let times = [(first.id.clone(), time(said)), (WebhookId::random(), time(said))];
        records.webhooks_succeeded(&times).await.unwrap();
        let seen = records.webhook(&first.id).await.unwrap().unwrap();
        assert_eq!(seen.last_success_at, Some(time(expected)));
    }
    assert_eq!(records.webhooks_version().await.unwrap(), version, "nobody need read it again for that");
}
