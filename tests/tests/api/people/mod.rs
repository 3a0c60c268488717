//! People: accounts, logins, sessions, second factors, and those who look after them.

mod accounts;
mod admins;
mod cookies;
mod guessing;
mod second_factor;
mod sessions;
mod start;

use fourmi_tests::Platform;
use reqwest::Response;
use serde_json::{Value, json};

/// A request of a stranger.
async fn post(platform: &Platform, path: &str, body: Value) -> Response {
    platform.open_request("POST", &format!("/api/v1{path}")).json(&body).send().await.unwrap()
}

/// A request of whoever has this token.
async fn post_as(platform: &Platform, token: &str, path: &str, body: Value) -> Response {
    platform.request_as(token, "POST", path).json(&body).send().await.unwrap()
}

/// How a token is answered now.
async fn status(platform: &Platform, token: &str) -> u16 {
    platform.request_as(token, "GET", "/auth/me").send().await.unwrap().status().as_u16()
}

async fn register(platform: &Platform, email: &str, password: &str) -> Response {
    post(platform, "/auth/register", json!({"tenant": "acme", "email": email, "password": password})).await
}

/// The jobs that send mails, newest first: to whom, and what they say.
async fn mails(platform: &Platform) -> Vec<(String, String)> {
    let list = platform.get("/jobs?kind=mail.notice&limit=200").await;
    let jobs = list["jobs"].as_array().unwrap().clone();
    let word = |job: &Value, name: &str| job["payload"][name].as_str().unwrap().to_owned();
    jobs.iter()
        .rev()
        .map(|job| {
            // Nobody sends them here.
            assert_eq!(job["state"], "waiting", "{job}");
            (word(job, "to"), word(job, "notice"))
        })
        .collect()
}

/// A platform with the tenant acme.
async fn platform() -> Platform {
    let platform = Platform::with(&[("FOURMI_RATE_LIMITS", "login=off,guess=off")], 0).await;
    platform.add_tenant("acme").await;
    platform
}
