//! What happens to who guesses passwords, and what they learn: nothing.

use std::time::{Duration, Instant};

use fourmi_tests::{GOOD_PASSWORD, Platform};
use reqwest::Response;
use serde_json::json;

use super::post;
use crate::problem;

/// A platform behind a proxy of the tests, which says from where a request comes.
async fn platform() -> Platform {
    let settings = [("FOURMI_TRUSTED_PROXIES", "127.0.0.1"), ("FOURMI_RATE_LIMITS", "login=off,guess=off")];
    let platform = Platform::with(&settings, 0).await;
    platform.add_tenant("acme").await;
    platform
}

async fn login_from(platform: &Platform, address: &str, username: &str, password: &str) -> Response {
    let body = json!({"username": username, "password": password});
    let login = platform.open_request("POST", "/api/v1/auth/login").header("x-forwarded-for", address).json(&body);
    login.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_waits_whether_or_not_there_is_such_an_account() {
    let platform = platform().await;
    platform.add_person("ada", "user", Some("acme")).await;
    for username in ["ada@example.org", "nobody@example.org", "nobody"] {
        for _ in 0..5 {
            let guess = login_from(&platform, "203.0.113.7", username, "a guess").await;
            assert_eq!(problem(guess, 401).await, "credentials_invalid");
        }
        let guess = login_from(&platform, "203.0.113.7", username, "a guess").await;
        let wait = guess.headers()["retry-after"].to_str().unwrap().to_owned();
        assert_eq!((problem(guess, 429).await.as_str(), wait.as_str()), ("login_delayed", "5"), "{username}");
        // From elsewhere as well, and with the right password: guesses may come from everywhere.
        let elsewhere = login_from(&platform, "198.51.100.9", username, GOOD_PASSWORD).await;
        assert_eq!(problem(elsewhere, 429).await, "login_delayed", "{username}");
    }
    let denied = platform.get("/audit?action=login&outcome=denied").await;
    assert!(denied["events"].as_array().unwrap().iter().any(|event| event["address"] == "198.51.100.9"), "{denied}");
    let log = platform.get("/audit?limit=200").await.to_string();
    assert!(!log.contains("a guess") && !log.contains("nobody"), "what was typed is not remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_does_not_lock_an_owner_out() {
    let platform = platform().await;
    platform.add_person("ada", "user", Some("acme")).await;
    assert_eq!(login_from(&platform, "192.0.2.1", "ada@example.org", GOOD_PASSWORD).await.status(), 200);
    for _ in 0..5 {
        login_from(&platform, "203.0.113.7", "ada@example.org", "a guess").await;
    }
    let guess = login_from(&platform, "203.0.113.7", "ada@example.org", GOOD_PASSWORD).await;
    assert_eq!(problem(guess, 429).await, "login_delayed");
    // Where she has been before, she is counted apart.
    assert_eq!(login_from(&platform, "192.0.2.1", "ada@example.org", GOOD_PASSWORD).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_many_accounts_from_one_address_waits_too() {
    let platform = platform().await;
    let guesses =
        (0..30).map(|number| {
            let platform = &platform;
            async move {
                login_from(platform, "203.0.113.7", &format!("user-{number}@example.org"), "a guess").await.status()
            }
        });
    let statuses = futures_util::future::join_all(guesses).await;
    assert!(statuses.iter().all(|status| [401, 429].contains(&status.as_u16())), "{statuses:?}");
    let next = login_from(&platform, "203.0.113.7", "another@example.org", "a guess").await;
    assert_eq!(problem(next, 429).await, "login_delayed");
    let other = login_from(&platform, "203.0.113.8", "another@example.org", "a guess").await;
    assert_eq!(problem(other, 401).await, "credentials_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_guesses_at_once_are_no_more_than_one_after_the_other() {
    let platform = platform().await;
    platform.add_person("ada", "user", Some("acme")).await;
    // The right one is among the last: by then the others were counted.
    let guesses = (0..40).map(|number| {
        let (platform, password) = (&platform, if number < 36 { "a guess" } else { GOOD_PASSWORD });
        async move {
            // One connection takes them in order.
            tokio::time::timeout(
                Duration::from_secs(60),
                login_from(platform, "203.0.113.7", "ada@example.org", password),
            )
            .await
            .unwrap()
            .status()
            .as_u16()
        }
    });
    let statuses = futures_util::future::join_all(guesses).await;
    let judged = statuses.iter().filter(|status| [200, 401].contains(status)).count();
    assert!(judged <= 12, "five, and those that were judged meanwhile: {statuses:?}");
}

/// The time that a refusal takes tells nothing of an account, whatever its password was hashed with.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_take_equally_long() {
    let platform = platform().await;
    // An old hash takes longer than ours.
    let hash = "$2y$12$N9qo8uLOickgx2ZMRZoMyeYJK0doWBrw/SU/UbFi8Z3hkScREQOYy";
    let old = json!({"email": "old@example.org", "tenant": "acme", "password_hash": hash});
    assert_eq!(platform.request("POST", "/users").json(&old).send().await.unwrap().status(), 201);
    platform.add_person("ada", "user", Some("acme")).await;
    // All wait for the same moment. What is left is the way there and back, and a machine that others use too: what lies in
    // the accounts would be seen in every round.
    let mut rounds = Vec::new();
    for round in 0..4 {
        let medians = medians(&platform, round).await;
        let (least, most) = (medians.iter().min().unwrap().0, medians.iter().max().unwrap().0);
        assert!(least >= Duration::from_millis(750), "{medians:?}");
        if most - least < Duration::from_millis(100) {
            return;
        }
        rounds.push(medians);
    }
    panic!("{rounds:?}");
}

/// How long it takes to be refused, with an account and without, in several ways.
async fn medians(platform: &Platform, round: u8) -> Vec<(Duration, String)> {
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let mut medians = Vec::new();
    for username in ["nobody@example.org", "ada@example.org", "old@example.org", "not an address"] {
        let mut times = Vec::new();
        for number in 0..5 {
            let started = Instant::now();
            // From so many places that those do not count; who must wait because of the account is answered alike.
            login_from(platform, &format!("203.0.{round}.{number}"), username, "a guess").await;
            times.push(started.elapsed());
        }
        medians.push((median(times), format!("login of {username}")));
    }
    for path in ["/auth/forgot-password", "/auth/resend-confirmation"] {
        for email in ["nobody@example.org", "ada@example.org"] {
            let mut times = Vec::new();
            for _ in 0..3 {
                let started = Instant::now();
                assert_eq!(post(platform, path, json!({"email": email})).await.status(), 202);
                times.push(started.elapsed());
            }
            medians.push((median(times), format!("{path} of {email}")));
        }
    }
    medians
}
