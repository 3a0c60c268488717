//! Whether the platform says how it is.

use fourmi_tests::{Platform, eventually_async};
use serde_json::{Value, json};

use crate::problem;

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_everybody_little_and_admins_more() {
    let mut platform = Platform::with(&[], 0).await;
    let open = async |platform: &Platform, path: &str| {
        let answer = platform.open_request("GET", &format!("/api/v1/health{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, health) = open(&platform, "").await;
    let expected = json!({
        "status": "ok", "redis": {"status": "ok"}, "records": {"status": "ok"}, "files": {"status": "ok"},
        "workers": {"status": "not_configured"},
    });
    assert_eq!((status, health), (200, expected));
    let nobody = platform.open_request("GET", "/api/v1/health/detailed").send().await.unwrap();
    assert_eq!(problem(nobody, 401).await, "unauthorized");
    let details = platform.get("/health/detailed").await;
    assert!(details["redis"]["latency_ms"].is_number() && details["records"]["latency_ms"].is_number(), "{details}");

    platform.add_worker();
    eventually_async("the worker is seen", async || {
        let workers = &platform.get("/health/detailed").await["workers"];
        let media = workers.as_array()?.iter().find(|queue| queue["queue"] == "media")?.clone();
        (media["status"] == "ok" && media["processes"] == 1).then_some(())
    })
    .await;

    platform.redis.kill();
    eventually_async("Redis is missed", async || {
        let (status, health) = open(&platform, "").await;
        (status == 503 && health["status"] == "down" && health["redis"]["status"] == "down").then_some(())
    })
    .await;
    // This one asks nobody.
    assert_eq!(open(&platform, "/ping").await, (200, json!({"status": "ok"})));
}
