//! The first admin, and the secret that everything hangs on.

use std::os::unix::fs::PermissionsExt;

use fourmi_tests::{Platform, Program, RedisServer};
use serde_json::json;
use tempfile::TempDir;

use super::post_as;
use crate::problem;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_admin_has_a_random_password_in_a_private_file() {
    let mut platform = Platform::with(&[], 0).await;
    let file = platform.data().join("admin-password");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(platform.data().join("secret-key")).unwrap().permissions().mode() & 0o777, 0o600);
    let password = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert!(password.len() >= 20);
    let admin = platform.first_admin().await;
    assert_eq!((admin.info.role.as_str(), admin.info.tenant.as_ref()), ("super_admin", None));
    for guess in ["admin", "admin123", "password", ""] {
        assert_eq!(problem(platform.try_login("admin", guess).await, 401).await, "credentials_invalid", "{guess}");
    }
    let log = platform.api.lines().join("\n");
    assert!(!log.contains(&password), "the password is in the log");

    platform.api.kill();
    platform.restart_api();
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), password, "there is one first admin");
    let people = platform.get("/users").await;
    assert_eq!(people["users"].as_array().unwrap().len(), 1);

    let body = json!({"current_password": password, "new_password": "a new forty-two ants"});
    assert_eq!(post_as(&platform, &admin.token, "/auth/change-password", body).await.status(), 204);
    assert!(!file.exists(), "what opens nothing lies about no longer");
}

#[test]
fn a_weak_secret_is_refused_at_the_start() {
    let redis = RedisServer::start();
    for (name, secret, reason) in [
        ("FOURMI_SECRET_KEY", "short", "FOURMI_SECRET_KEY"),
        ("FOURMI_SECRET_KEY", "change-me-in-production-change-me-in-production", "FOURMI_SECRET_KEY"),
        ("FOURMI_SECRET_KEY", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "FOURMI_SECRET_KEY"),
        ("FOURMI_SECRET_KEY_BEFORE", "short", "FOURMI_SECRET_KEY_BEFORE"),
    ] {
        let data = TempDir::new().unwrap();
        let settings = [
            ("REDIS_URL", redis.url()),
            ("FOURMI_DATA", data.path().display().to_string()),
            ("FOURMI_LISTEN", "127.0.0.1:0".to_owned()),
            (name, secret.to_owned()),
        ];
        let mut api = Program::start("fourmi-api", &[], settings);
        assert!(!api.wait().success(), "{secret}");
        let log = api.lines().join("\n");
        assert!(log.contains(reason) && !log.contains(secret), "{log}");
    }
    let data = TempDir::new().unwrap();
    std::fs::write(data.path().join("secret-key"), "weak\n").unwrap();
    let settings = [
        ("REDIS_URL", redis.url()),
        ("FOURMI_DATA", data.path().display().to_string()),
        ("FOURMI_LISTEN", "127.0.0.1:0".to_owned()),
    ];
    let mut api = Program::start("fourmi-api", &[], settings);
    assert!(!api.wait().success());
    assert!(api.lines().join("\n").contains("secret-key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_share_a_secret_believe_each_other_and_others_do_not() {
    let secret = "0123456789abcdef0123456789abcdef0123456789abcdef";
    let platform = Platform::with(&[("FOURMI_SECRET_KEY", secret)], 0).await;
    assert!(!platform.data().join("secret-key").exists());
    let admin = platform.first_admin().await;
    let other = platform.another_api();
    let http = reqwest::Client::new();
    let ask = async |url: &str| {
        let request = http.get(format!("{url}/api/v1/auth/me")).bearer_auth(&admin.token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask(other.url()).await, 200);
    let stranger = Platform::with(&[], 0).await;
    assert_eq!(ask(stranger.url()).await, 401);
}
