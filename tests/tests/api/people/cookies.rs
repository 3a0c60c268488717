//! Browsers: tokens as cookies, and changes that only the session's own page can make.

use fourmi_tests::{GOOD_PASSWORD, Platform};
use reqwest::{Response, header::SET_COOKIE};
use serde_json::{Value, json};

use super::platform;
use crate::problem;

/// A browser that has logged in.
struct Browser<'a> {
    platform: &'a Platform,
    /// The cookies, by name.
    cookies: Vec<(String, String)>,
    https: bool,
}

impl<'a> Browser<'a> {
    async fn login(platform: &'a Platform, https: bool) -> (Self, Vec<String>, Value) {
        let mut browser = Self { platform, cookies: Vec::new(), https };
        let body = json!({"username": "ada@example.org", "password": GOOD_PASSWORD, "cookies": true});
        let answer = browser.ask("POST", "/auth/login", Some(body), None).await;
        assert_eq!(answer.status(), 200);
        let texts = browser.take(&answer);
        (browser, texts, answer.json().await.unwrap())
    }

    /// Keeps the cookies of an answer.
    fn take(&mut self, answer: &Response) -> Vec<String> {
        let texts: Vec<_> =
            answer.headers().get_all(SET_COOKIE).iter().map(|it| it.to_str().unwrap().to_owned()).collect();
        for text in &texts {
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        texts
    }

    fn csrf(&self) -> String {
        self.cookies.iter().find(|(name, _)| name.ends_with("fourmi-csrf")).unwrap().1.clone()
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>, csrf: Option<&str>) -> Response {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = self.platform.open_request(method, &format!("/api/v1{path}"));
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        if self.https {
            request = request.header("x-forwarded-proto", "https").header("x-forwarded-for", "203.0.113.7");
        }
        if let Some(csrf) = csrf {
            request = request.header("x-csrf-token", csrf);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_reads_with_cookies_and_changes_with_a_token_beside_them() {
    let platform = platform().await;
    platform.add_person("ada", "user", Some("acme")).await;
    let (mut browser, cookies, greeting) = Browser::login(&platform, false).await;
    for cookie in &cookies {
        assert!(
            cookie.contains("SameSite=Strict") && cookie.contains("Path=/") && !cookie.contains("Secure"),
            "{cookie}"
        );
        assert_eq!(cookie.contains("HttpOnly"), !cookie.starts_with("fourmi-csrf"), "{cookie}");
    }
    assert!(greeting.get("access_token").is_none() && greeting.get("refresh_token").is_none(), "{greeting}");
    assert_eq!(greeting["csrf_token"], json!(browser.csrf()));

    assert_eq!(browser.ask("GET", "/auth/me", None, None).await.status(), 200);
    assert_eq!(browser.ask("GET", "/events", None, None).await.status(), 200);
    let change =
        async |csrf: Option<&str>| browser.ask("PATCH", "/auth/me", Some(json!({"language": "fr"})), csrf).await;
    for wrong in [None, Some(""), Some("x"), Some(&*"A".repeat(43))] {
        assert_eq!(problem(change(wrong).await, 403).await, "csrf_failed", "{wrong:?}");
    }
    // Nor does that of another session.
    let (other, _, _) = Browser::login(&platform, false).await;
    assert_eq!(problem(change(Some(&other.csrf())).await, 403).await, "csrf_failed");
    let csrf = browser.csrf();
    assert_eq!(change(Some(&csrf)).await.status(), 200);

    let without = browser.ask("POST", "/auth/refresh", None, None).await;
    assert_eq!(problem(without, 403).await, "csrf_failed");
    let renewed = browser.ask("POST", "/auth/refresh", None, Some(&csrf)).await;
    assert_eq!(renewed.status(), 200);
    let before = browser.cookies.clone();
    browser.take(&renewed);
    assert_ne!(browser.cookies, before);

    let out = browser.ask("POST", "/auth/logout", Some(json!({})), Some(&csrf)).await;
    assert_eq!(out.status(), 204);
    browser.take(&out);
    assert!(browser.cookies.is_empty(), "{:?}", browser.cookies);
    assert_eq!(problem(browser.ask("GET", "/auth/me", None, None).await, 401).await, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_cookies_belong_to_the_host() {
    let settings = [("FOURMI_TRUSTED_PROXIES", "127.0.0.1")];
    let platform = Platform::with(&settings, 0).await;
    platform.add_tenant("acme").await;
    platform.add_person("ada", "user", Some("acme")).await;
    let (browser, cookies, _) = Browser::login(&platform, true).await;
    assert!(cookies.iter().all(|cookie| cookie.starts_with("__Host-") && cookie.contains("; Secure")), "{cookies:?}");
    assert_eq!(browser.ask("GET", "/auth/me", None, None).await.status(), 200);
    // What a neighbouring host could have planted is not taken.
    let plain: Vec<_> =
        browser.cookies.iter().map(|(name, value)| format!("{}={value}", &name["__Host-".len()..])).collect();
    let planted = platform
        .open_request("GET", "/api/v1/auth/me")
        .header("x-forwarded-proto", "https")
        .header("cookie", plain.join("; "));
    assert_eq!(problem(planted.send().await.unwrap(), 401).await, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_named_origins_may_send_cookies() {
    let settings = [("FOURMI_CORS_ORIGINS", "https://app.example.org")];
    let platform = Platform::with(&settings, 0).await;
    let ask = async |origin: &str| {
        let request = platform.open_request("OPTIONS", "/api/v1/auth/me").header("origin", origin);
        let request = request.header("access-control-request-method", "PATCH");
        request.header("access-control-request-headers", "x-csrf-token,content-type").send().await.unwrap()
    };
    let allowed = ask("https://app.example.org").await;
    let header =
        |answer: &Response, name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header(&allowed, "access-control-allow-credentials").as_deref(), Some("true"));
    assert_eq!(header(&allowed, "access-control-allow-origin").as_deref(), Some("https://app.example.org"));
    assert!(header(&allowed, "access-control-allow-headers").unwrap().contains("x-csrf-token"));
    assert_eq!(header(&ask("https://evil.example").await, "access-control-allow-origin"), None);

    let platform = Platform::with(&[("FOURMI_CORS_ORIGINS", "*")], 0).await;
    let request = platform.open_request("GET", "/api/v1/health").header("origin", "https://evil.example");
    assert_eq!(header(&request.send().await.unwrap(), "access-control-allow-credentials"), None);
}
