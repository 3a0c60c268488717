//! The door: how often one may ask, from where, and by which name.

use fourmi_tests::{Platform, eventually_async};
use serde_json::{Value, json};

use crate::problem;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_often_is_told_when_to_come_back() {
    let platform = Platform::with(&[("FOURMI_RATE_LIMITS", "read=3/60")], 0).await;
    let other = platform.another_api();
    let ask = async |url: &str| {
        let request = reqwest::Client::new().get(format!("{url}/api/v1/jobs")).bearer_auth(platform.key());
        request.send().await.unwrap()
    };
    let first = ask(platform.url()).await;
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["ratelimit-policy"], r#""read";q=3;w=60"#);
    assert_eq!(first.headers()["ratelimit"], r#""read";r=2;t=20"#);
    // All servers count together.
    for url in [other.url(), platform.url()] {
        assert_eq!(ask(url).await.status(), 200);
    }
    for url in [other.url(), platform.url()] {
        let refused = ask(url).await;
        let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=20).contains(&wait), "{wait}");
        assert!(refused.headers()["ratelimit"].to_str().unwrap().starts_with(r#""read";r=0;"#));
        assert_eq!(problem(refused, 429).await, "rate_limited");
    }
    // Another class is another limit, and what costs nothing has none.
    assert_eq!(platform.request("GET", "/keys/current").send().await.unwrap().status(), 429);
    assert_eq!(platform.request("POST", "/jobs").body("{").send().await.unwrap().status(), 400);
    for _ in 0..300 {
        assert_eq!(platform.open_request("GET", "/api/v1/health/ping").send().await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_a_kind_may_have_limits_of_their_own() {
    let platform = Platform::with(&[("FOURMI_RATE_LIMITS", "submit:audio.extract=1/60")], 0).await;
    let key = json!({"name": "slow", "scopes": ["jobs:read"], "rate_limit": "2/60"});
    let made: Value = platform.request("POST", "/keys").json(&key).send().await.unwrap().json().await.unwrap();
    let ask = async || {
        let request = platform.open_request("GET", "/api/v1/jobs").bearer_auth(made["secret"].as_str().unwrap());
        request.send().await.unwrap()
    };
    for _ in 0..2 {
        assert_eq!(ask().await.status(), 200);
    }
    assert_eq!(problem(ask().await, 429).await, "rate_limited");

    let recording = json!({"source": {"url": "https://example.org/a.mp3"}});
    assert_eq!(platform.submit("audio.extract", recording.clone()).await.status(), 202);
    assert_eq!(problem(platform.submit("audio.extract", recording).await, 429).await, "rate_limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_counted_as_trusted_proxies_tell_them() {
    let settings = [("FOURMI_RATE_LIMITS", "open=2/60,guess=1/60"), ("FOURMI_TRUSTED_PROXIES", "127.0.0.1")];
    let platform = Platform::with(&settings, 0).await;
    let ask = async |from: &str| {
        let request = platform.open_request("GET", "/api/v1/health").header("X-Forwarded-For", from);
        request.send().await.unwrap()
    };
    for (from, status) in [("192.0.2.1", 200), ("192.0.2.1", 200), ("192.0.2.1", 429), ("192.0.2.2, 10.0.0.1", 200)] {
        assert_eq!(ask(from).await.status(), status, "{from}");
    }
    // What a caller says of itself counts for nothing: the last address is the one that our proxy has seen.
    assert_eq!(ask("203.0.113.99, 192.0.2.1").await.status(), 429);

    let guess = async || {
        let request = platform
            .open_request("GET", "/api/v1/jobs")
            .bearer_auth("fourmi_guess")
            .header("X-Forwarded-For", "192.0.2.9");
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((guess().await, guess().await), (401, 429));
    let known = platform.request("GET", "/jobs").header("X-Forwarded-For", "192.0.2.9").send().await.unwrap();
    assert_eq!(known.status(), 200, "whoever has a key is not kept out by a guesser beside it");

    let secure = platform.open_request("GET", "/api/v1/health/ping").header("X-Forwarded-Proto", "https");
    assert!(secure.send().await.unwrap().headers()["strict-transport-security"].to_str().unwrap().contains("max-age="));
    let plain = platform.open_request("GET", "/api/v1/health/ping").send().await.unwrap();
    assert!(!plain.headers().contains_key("strict-transport-security"));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_do_not_need_redis_to_let_callers_in() {
    let mut platform = Platform::with(&[("FOURMI_RATE_LIMITS", "read=1000/1")], 0).await;
    platform.redis.kill();
    assert_eq!(platform.request("GET", "/kinds").send().await.unwrap().status(), 200);
    platform.redis.restart();
    eventually_async("requests are counted again", async || {
        let answer = platform.request("GET", "/kinds").send().await.unwrap();
        let left = answer.headers().get("ratelimit")?.to_str().ok()?.to_owned();
        left.starts_with("\"read\"").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_known_names_and_origins_are_served() {
    let settings = [("FOURMI_TRUSTED_HOSTS", "jobs.example.org"), ("FOURMI_CORS_ORIGINS", "https://app.example.org")];
    let platform = Platform::with(&settings, 0).await;
    let ask = |host: &str| platform.request("GET", "/jobs").header("Host", host);
    assert_eq!(ask("jobs.example.org").send().await.unwrap().status(), 200);
    assert_eq!(ask("JOBS.example.org:8700").send().await.unwrap().status(), 200);
    for host in ["evil.example", "jobs.example.org.evil.example", ""] {
        assert_eq!(problem(ask(host).send().await.unwrap(), 400).await, "unknown_host", "{host}");
    }
    let probe = platform.open_request("GET", "/api/v1/health/ping").send().await.unwrap();
    assert_eq!(probe.status(), 200, "probes ask by address");

    let preflight = async |origin: &str| {
        let request = platform
            .open_request("OPTIONS", "/api/v1/jobs")
            .header("Host", "jobs.example.org")
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", "authorization,content-type");
        request.send().await.unwrap().headers().clone()
    };
    let allowed = preflight("https://app.example.org").await;
    assert_eq!(allowed["access-control-allow-origin"], "https://app.example.org");
    assert!(allowed["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    assert!(!preflight("https://evil.example").await.contains_key("access-control-allow-origin"));
    let answer = ask("jobs.example.org").header("Origin", "https://app.example.org").send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example.org");
    assert!(answer.headers()["access-control-expose-headers"].to_str().unwrap().contains("etag"));
}
