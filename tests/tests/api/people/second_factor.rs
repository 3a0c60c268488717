//! The second factor.

use std::time::{SystemTime, UNIX_EPOCH};

use fourmi_tests::{GOOD_PASSWORD, Platform};
use reqwest::Response;
use serde_json::{Value, json};
use totp_rs::{Builder, Secret};

use super::{mails, platform, post, post_as};
use crate::problem;

/// The code that an app shows, so many steps from now.
fn code(secret: &str, steps: i64) -> String {
    let secret = Secret::try_from_base32(secret).unwrap();
    let totp = Builder::new().with_secret(secret).build().unwrap();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    totp.generate((now + 30 * steps).try_into().unwrap()).to_string()
}

async fn login(platform: &Platform, code: Option<&str>) -> Response {
    let body = json!({"username": "ada@example.org", "password": GOOD_PASSWORD, "code": code});
    post(platform, "/auth/login", body).await
}

/// Turns it on; gives the secret, the code that was used and the recovery codes.
async fn turn_on(platform: &Platform, token: &str) -> (String, String, Vec<String>) {
    let enrolment = post_as(platform, token, "/auth/second-factor", json!({"password": GOOD_PASSWORD})).await;
    let enrolment: Value = enrolment.json().await.unwrap();
    let secret = enrolment["secret"].as_str().unwrap().to_owned();
    assert!(enrolment["uri"].as_str().unwrap().starts_with("otpauth://totp/Fourmi:ada"), "{enrolment}");
    let confirm =
        async |code: &str| post_as(platform, token, "/auth/second-factor/confirm", json!({"code": code})).await;
    assert_eq!(problem(confirm("000000x").await, 401).await, "second_factor_invalid");
    let used = code(&secret, 0);
    let recovery: Value = confirm(&used).await.json().await.unwrap();
    let codes = recovery["recovery_codes"].as_array().unwrap();
    assert_eq!(codes.len(), 10);
    (secret, used, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_is_asked_for_and_works_once() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    let (secret, used, recovery) = turn_on(&platform, &ada.token).await;
    assert!(mails(&platform).await.contains(&(ada.info.id.to_string(), "second_factor_changed".to_owned())));

    assert_eq!(problem(login(&platform, None).await, 401).await, "second_factor_required");
    assert_eq!(problem(login(&platform, Some("123456")).await, 401).await, "second_factor_invalid");
    // The next one may be due by now, but the one that has turned it on was used.
    assert_eq!(problem(login(&platform, Some(&used)).await, 401).await, "second_factor_invalid");
    let next = code(&secret, 1);
    assert_eq!(login(&platform, Some(&next)).await.status(), 200);
    assert_eq!(problem(login(&platform, Some(&next)).await, 401).await, "second_factor_invalid");

    let recovery_code = recovery[3].to_uppercase().replace('-', " ");
    assert_eq!(login(&platform, Some(&recovery_code)).await.status(), 200);
    assert_eq!(problem(login(&platform, Some(&recovery[3])).await, 401).await, "second_factor_invalid");

    // The secret is sealed where it is kept.
    let me = platform.get(&format!("/users/{}", ada.info.id)).await;
    assert_eq!(me["second_factor"], true);
    for name in ["records.db", "records.db-wal"] {
        let bytes = std::fs::read(platform.data().join(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(&secret) && recovery.iter().all(|code| !text.contains(code.as_str())), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_is_turned_off_by_its_owner_or_an_admin() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    let (_, _, recovery) = turn_on(&platform, &ada.token).await;
    let again = post_as(&platform, &ada.token, "/auth/second-factor", json!({"password": GOOD_PASSWORD})).await;
    assert_eq!(problem(again, 409).await, "second_factor_there");
    let remove = async |password: &str, code: &str| {
        let body = json!({"password": password, "code": code});
        post_as(&platform, &ada.token, "/auth/second-factor/remove", body).await
    };
    assert_eq!(problem(remove("wrong", &recovery[0]).await, 401).await, "credentials_invalid");
    assert_eq!(problem(remove(GOOD_PASSWORD, "123456").await, 401).await, "second_factor_invalid");
    assert_eq!(remove(GOOD_PASSWORD, &recovery[0]).await.status(), 204);
    assert_eq!(login(&platform, None).await.status(), 200);

    turn_on(&platform, &ada.token).await;
    let path = format!("/users/{}/second-factor", ada.info.id);
    assert_eq!(platform.request("DELETE", &path).send().await.unwrap().status(), 204);
    assert_eq!(login(&platform, None).await.status(), 200);
    let events = platform.get(&format!("/audit?action=second_factor&target={}", ada.info.id)).await;
    assert_eq!(events["events"].as_array().unwrap().len(), 4);
}
