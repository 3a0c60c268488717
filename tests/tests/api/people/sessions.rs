//! Sessions: tokens that hold for a while, are renewed, and are taken back.

use fourmi_tests::{GOOD_PASSWORD, Person, Platform, eventually_async};
use serde_json::{Value, json};

use super::{platform, post, post_as, status};
use crate::problem;

async fn refresh(platform: &Platform, token: &str) -> reqwest::Response {
    post(platform, "/auth/refresh", json!({"refresh_token": token})).await
}

async fn renewed(platform: &Platform, token: &str) -> (String, String) {
    let answer = refresh(platform, token).await;
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    let word = |name: &str| answer[name].as_str().unwrap().to_owned();
    (word("access_token"), word("refresh_token"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_works_once_and_a_copy_ends_the_session() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    let other = platform.login("ada@example.org").await;
    let (second, next) = renewed(&platform, &ada.refresh).await;
    let (third, newest) = renewed(&platform, &next).await;
    assert_ne!(next, newest);

    // Somebody has a copy of the first one.
    assert_eq!(problem(refresh(&platform, &ada.refresh).await, 401).await, "session_over");
    assert_eq!(problem(refresh(&platform, &newest).await, 401).await, "session_over");
    for token in [&ada.token, &second, &third] {
        assert_eq!(status(&platform, token).await, 401, "the whole family is over");
    }
    assert_eq!(status(&platform, &other.token).await, 200, "other sessions are not");
    let events = platform.get("/audit?action=session.refresh_reused").await;
    assert_eq!(events["events"][0]["actor"], json!(ada.info.id));

    for nonsense in ["", "x", "fourmi_refresh_", "fourmi_refresh_session-1.AAAA", &"x".repeat(100_000)] {
        assert_eq!(problem(refresh(&platform, nonsense).await, 401).await, "session_over", "{nonsense:.40}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_renew_at_once_one_is_served() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    let answers = futures_util::future::join_all((0..8).map(|_| refresh(&platform, &ada.refresh))).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 401].contains(status)), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_logs_out_here_elsewhere_and_everywhere() {
    let platform = platform().await;
    platform.add_person("ada", "user", Some("acme")).await;
    let login = async |device: &str| -> Person {
        let body = json!({"username": "ada@example.org", "password": GOOD_PASSWORD, "device": device});
        let answer = platform.open_request("POST", "/api/v1/auth/login").header("user-agent", "tests/1").json(&body);
        let greeting: Value = answer.send().await.unwrap().json().await.unwrap();
        let word = |name: &str| greeting[name].as_str().unwrap().to_owned();
        Person {
            info: serde_json::from_value(greeting["user"].clone()).unwrap(),
            token: word("access_token"),
            refresh: word("refresh_token"),
        }
    };
    let (phone, desk) = (login("phone").await, login("desk").await);
    let list = async |token: &str| -> Vec<Value> {
        let list: Value =
            platform.request_as(token, "GET", "/auth/sessions").send().await.unwrap().json().await.unwrap();
        list["sessions"].as_array().unwrap().clone()
    };
    let sessions = list(&desk.token).await;
    assert_eq!(sessions.len(), 3);
    let of = |device: &str| sessions.iter().find(|session| session["device"] == device).unwrap().clone();
    assert_eq!((&of("desk")["current"], &of("phone")["current"]), (&json!(true), &json!(false)));
    assert_eq!(of("phone")["user_agent"], "tests/1");
    assert_eq!(of("phone")["address"], "127.0.0.1");

    let end = async |id: &str| {
        let request = platform.request_as(&desk.token, "DELETE", &format!("/auth/sessions/{id}"));
        request.send().await.unwrap()
    };
    assert_eq!(end(of("phone")["id"].as_str().unwrap()).await.status(), 204);
    assert_eq!((status(&platform, &phone.token).await, status(&platform, &desk.token).await), (401, 200));
    assert_eq!(problem(end(of("phone")["id"].as_str().unwrap()).await, 404).await, "unknown_session");

    assert_eq!(post_as(&platform, &desk.token, "/auth/logout", json!({})).await.status(), 204);
    assert_eq!(problem(refresh(&platform, &desk.refresh).await, 401).await, "session_over");
    let (one, other) = (login("one").await, login("other").await);
    assert_eq!(platform.request_as(&one.token, "DELETE", "/auth/sessions").send().await.unwrap().status(), 204);
    assert_eq!((status(&platform, &one.token).await, status(&platform, &other.token).await), (401, 401));
    let last = login("last").await;
    assert_eq!(list(&last.token).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_learns_that_a_session_is_over() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    let other = platform.another_api();
    let http = reqwest::Client::new();
    let there = async || {
        let request = http.get(format!("{}/api/v1/auth/me", other.url())).bearer_auth(&ada.token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(there().await, 200, "servers believe each other's tokens");
    let stream = http.get(format!("{}/api/v1/events", other.url())).bearer_auth(&ada.token).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    assert_eq!(post_as(&platform, &ada.token, "/auth/logout", json!({})).await.status(), 204);
    eventually_async("the other server refuses the token", async || (there().await == 401).then_some(())).await;
    // What was open is closed.
    let rest = tokio::time::timeout(std::time::Duration::from_secs(20), stream.bytes()).await;
    assert!(rest.is_ok(), "the stream goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_role_counts_at_once_and_what_is_switched_off_opens_nothing() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "admin", Some("acme")).await;
    let path = format!("/users/{}", ada.info.id);
    let users = async |token: &str| platform.request_as(token, "GET", "/users").send().await.unwrap().status().as_u16();
    assert_eq!(users(&ada.token).await, 200);
    let demoted = platform.request("PATCH", &path).json(&json!({"role": "user"})).send().await.unwrap();
    assert_eq!(demoted.status(), 200);
    let old = platform.request_as(&ada.token, "GET", "/users").send().await.unwrap();
    assert_eq!(problem(old, 401).await, "token_expired");
    let (token, next) = renewed(&platform, &ada.refresh).await;
    assert_eq!((status(&platform, &token).await, users(&token).await), (200, 403));

    let deactivate = platform.request("POST", &format!("{path}/deactivate")).send().await.unwrap();
    assert_eq!(deactivate.json::<Value>().await.unwrap()["active"], false);
    assert_eq!(status(&platform, &token).await, 401);
    assert_eq!(problem(refresh(&platform, &next).await, 401).await, "session_over");
    assert_eq!(problem(platform.try_login("ada@example.org", GOOD_PASSWORD).await, 403).await, "account_deactivated");
    assert_eq!(problem(platform.try_login("ada@example.org", "wrong").await, 401).await, "credentials_invalid");
    assert_eq!(platform.request("POST", &format!("{path}/activate")).send().await.unwrap().status(), 200);
    let back = platform.login("ada@example.org").await;

    let suspend = async |suspended: bool| {
        let body = json!({"suspended": suspended});
        assert_eq!(platform.request("PATCH", "/tenants/acme").json(&body).send().await.unwrap().status(), 200);
    };
    let key = json!({"name": "app", "scopes": ["jobs:read"], "tenant": "acme"});
    let key: Value = platform.request("POST", "/keys").json(&key).send().await.unwrap().json().await.unwrap();
    let key = key["secret"].as_str().unwrap();
    suspend(true).await;
    for token in [&back.token, key] {
        let answer = platform.request_as(token, "GET", "/jobs").send().await.unwrap();
        assert_eq!(problem(answer, 403).await, "tenant_suspended");
    }
    assert_eq!(problem(platform.try_login("ada@example.org", GOOD_PASSWORD).await, 403).await, "tenant_suspended");
    suspend(false).await;
    assert_eq!(status(&platform, &back.token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_open_nothing() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    let parts: Vec<&str> = ada.token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{}", ada.token) };
    let decoded = String::from_utf8(BASE64.decode(claims).unwrap()).unwrap();
    let promoted = BASE64.encode(decoded.replace("\"user\"", "\"super_admin\""));
    assert_ne!(promoted, claims);
    let none = BASE64.encode(r#"{"alg":"none","typ":"at+jwt","kid":"1"}"#);
    let rs256 = BASE64.encode(r#"{"alg":"RS256","typ":"at+jwt","kid":"1"}"#);
    let kid = BASE64.encode(r#"{"typ":"at+jwt","alg":"HS256","kid":"999"}"#);
    for forged in [
        format!("{header}.{promoted}.{signature}"),
        format!("{none}.{promoted}."),
        format!("{none}.{claims}.{signature}"),
        format!("{rs256}.{claims}.{signature}"),
        format!("{kid}.{claims}.{signature}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
        format!("{header}..{signature}"),
        "eyJ..".to_owned(),
        "eyJ".repeat(2_000),
    ] {
        let answer = platform.request_as(&forged, "GET", "/auth/me").send().await.unwrap();
        assert_eq!(problem(answer, 401).await, "unauthorized", "{forged:.80}");
    }
    assert_eq!(status(&platform, &ada.token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_have_become_known_sign_nothing_any_more() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    let rotate = async |known: bool| {
        let body = json!({"have_become_known": known});
        let answer = platform.request("POST", "/auth/token-keys/rotate").json(&body).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["number"].as_i64().unwrap()
    };
    let number = rotate(false).await;
    assert_eq!(status(&platform, &ada.token).await, 200, "what the old key signed still holds");
    assert_eq!(rotate(true).await, number + 1);
    assert_eq!(status(&platform, &ada.token).await, 401);
    let (token, _) = renewed(&platform, &ada.refresh).await;
    assert_eq!(status(&platform, &token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_somebody_else_knows_is_not_taken_over() {
    let platform = platform().await;
    let mallory = platform.add_person("mallory", "user", Some("acme")).await;
    platform.add_person("ada", "user", Some("acme")).await;
    // Cookies that somebody has planted.
    let body = json!({"username": "ada@example.org", "password": GOOD_PASSWORD, "cookies": true});
    let planted = format!("fourmi-access={}; fourmi-refresh={}", mallory.token, mallory.refresh);
    let login = platform.open_request("POST", "/api/v1/auth/login").header("cookie", planted).json(&body);
    let answer = login.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let given: Vec<_> = answer.headers().get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(given.len() == 3 && given.iter().all(|cookie| !cookie.contains(&mallory.token)), "{given:?}");
    let own: Value = platform.request_as(&mallory.token, "GET", "/auth/me").send().await.unwrap().json().await.unwrap();
    assert_eq!(own["email"], "mallory@example.org");
}
