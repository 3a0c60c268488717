//! Messages to people: SMS, push notifications, mails, alerts.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod chaos;
mod chat;
mod devices;
mod mail;
mod providers;
mod push;
mod sms;

use fourmi_tests::Platform;
use reqwest::RequestBuilder;
use serde_json::Value;

/// The answer of a request that must have this status.
async fn answer(request: RequestBuilder, status: u16) -> Value {
    let answer = request.send().await.unwrap();
    let (found, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(found, status, "{text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") }
}

/// Writes a secret of the operator's.
fn write_secret(platform: &Platform, name: &str, value: &Value) {
    let folder = platform.data().join("secrets");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), value.to_string()).unwrap();
}
