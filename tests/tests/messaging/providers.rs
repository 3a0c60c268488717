//! Whether providers are well, beside what jobs meet.

use std::process::Command;

use fourmi_records::{Met, Records};
use fourmi_tests::{Act, FcmServer, Platform, Program, SmsServer, SmtpMode, SmtpServer, eventually_async};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{answer, write_secret};

/// A platform with accounts of all sorts that are checked, and two workers.
struct Post {
    platform: Platform,
    _workers: [Program; 2],
    sms: SmsServer,
    fcm: FcmServer,
    _smtp: SmtpServer,
}

impl Post {
    async fn open() -> Self {
        let (sms, fcm, smtp) = (SmsServer::start().await, FcmServer::start().await, SmtpServer::start(SmtpMode::Plain));
        let platform = Platform::with(&[("FOURMI_EGRESS_ALLOW", "127.0.0.1")], 0).await;
        write_secret(&platform, "sms", &sms.account(json!({"low_credits": 20})));
        write_secret(&platform, "fcm", &fcm.account());
        write_secret(&platform, "smtp", &smtp.account());
        write_secret(&platform, "chat", &json!({"type": "slack", "url": "https://chat.example.org/x"}));
        let workers = [platform.messaging_worker(), platform.messaging_worker()];
        Self { platform, _workers: workers, sms, fcm, _smtp: smtp }
    }

    async fn provider(&self, account: &str) -> Option<Value> {
        let list = self.platform.get("/providers").await;
        list["providers"].as_array().unwrap().iter().find(|provider| provider["account"] == account).cloned()
    }

    /// Waits until the last check of an account has found this, and gives what is known of its provider.
    async fn until(&self, account: &str, status: &str) -> Value {
        eventually_async(&format!("{account} is {status}"), async || {
            self.provider(account).await.filter(|provider| provider["check"]["status"] == status)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_checked_by_one_worker_and_nothing_is_sent() {
    let post = Post::open().await;
    let sms = post.until("sms", "ok").await;
    assert_eq!((&sms["status"], &sms["answers"], &sms["credits"]), (&json!("ok"), &json!(0), &json!(98.5)), "{sms}");
    assert!(post.until("fcm", "ok").await["check"]["latency_ms"].is_u64());
    post.until("smtp", "ok").await;
    assert_eq!((post.sms.checks(), post.fcm.checks()), (1, 1), "of two workers one has asked");
    assert_eq!((post.sms.posts(), post.fcm.requests(), post.fcm.count()), (0, 0, 0));
    assert_eq!(post.provider("chat").await, None, "nothing can be asked of it");

    // What is written anew is checked at once. Whoever answers badly is told of; its jobs go on.
    post.sms.set_credits(3.0);
    post.fcm.always(Some(Act::error(503, "UNAVAILABLE")));
    write_secret(&post.platform, "sms", &post.sms.account(json!({"low_credits": 20})));
    write_secret(&post.platform, "fcm", &post.fcm.account());
    write_secret(&post.platform, "smtp", &json!({"url": "smtp://127.0.0.1:1?tls=off", "from": "a@example.org"}));
    let sms = post.until("sms", "degraded").await;
    assert_eq!((&sms["credits"], &sms["status"]), (&json!(3.0), &json!("ok")), "{sms}");
    assert_eq!(sms["check"]["message"], "3 credits are left");
    let fcm = post.until("fcm", "down").await;
    assert_eq!((&fcm["status"], &fcm["outages"]), (&json!("ok"), &json!(0)), "no breaker is told: {fcm}");
    post.until("smtp", "down").await;
    let said = Command::new(Program::path("fourmi"))
        .args(["providers", "--url", post.platform.url()])
        .envs(post.platform.settings().iter().map(|(name, value)| (*name, value.as_str())))
        .output()
        .unwrap();
    let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    assert!(said.contains("LAST CHECK") && said.contains(": 3 credits are left"), "{said}");

    let wrong = post.sms.account(json!({"consumer_key": "of-somebody-else"}));
    write_secret(&post.platform, "sms", &wrong);
    let sms = post.until("sms", "not_configured").await;
    assert!(sms["check"]["message"].as_str().unwrap().contains("renew the consumer key"), "{sms}");
    assert!(!sms.to_string().contains("application-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_not_down_for_ever_because_a_worker_has_stopped() {
    let sms = SmsServer::start().await;
    let platform = Platform::with(&[("FOURMI_EGRESS_ALLOW", "127.0.0.1")], 0).await;
    let records = Records::open(&platform.data().join("records.db")).await.unwrap();
    let long_ago = Timestamp::now() - SignedDuration::from_mins(10);
    let met = Met { outages: 5, failed_at: Some(long_ago), down_since: Some(long_ago), ..Met::default() };
    records.note_provider("sms", &met, long_ago).await.unwrap();
    write_secret(&platform, "sms", &sms.account(json!({})));
    let provider = async || platform.get("/providers").await["providers"][0].clone();
    assert_eq!(provider().await["status"], "down");
    let _worker = platform.messaging_worker();
    let checked = eventually_async("it is checked", async || {
        Some(provider().await).filter(|provider| provider["check"]["status"] == "ok")
    })
    .await;
    assert_eq!((&checked["status"], &checked["outages"]), (&json!("ok"), &json!(5)), "{checked}");
}

/// The ids of jobs that are submitted together.
async fn submit(platform: &Platform, jobs: &[Value]) -> Vec<String> {
    let results = answer(platform.request("POST", "/jobs/bulk").json(&json!(jobs)), 200).await["results"].clone();
    results.as_array().unwrap().iter().map(|result| result["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_provider_that_is_back_do_not_wait_for_another() {
    let (sms, fcm) = (SmsServer::start().await, FcmServer::start().await);
    let platform = Platform::with(&[("FOURMI_EGRESS_ALLOW", "127.0.0.1")], 0).await;
    // Nobody listens there, so that nothing is in doubt.
    write_secret(&platform, "sms", &sms.account(json!({"endpoint": "http://127.0.0.1:1/1.0"})));
    write_secret(&platform, "fcm", &fcm.account());
    fcm.always(Some(Act::error(503, "UNAVAILABLE")));
    let _worker = platform.messaging_worker();
    let text = |number: usize| {
        let payload =
            json!({"to": format!("+336{:08}", 12_000_000 + number), "text": "Hello", "purpose": "transactional"});
        json!({"kind": "sms.send", "payload": payload})
    };
    let push = |number: usize| {
        let payload = json!({"to": {"token": format!("token-{number}")}, "title": "Hello"});
        json!({"kind": "push.send", "payload": payload})
    };
    let meeting: Vec<_> = (0..8).map(text).chain((0..8).map(push)).collect();
    submit(&platform, &meeting).await;
    eventually_async("both are down", async || {
        let list = platform.get("/providers").await;
        let down = list["providers"].as_array().unwrap().iter().filter(|provider| provider["status"] == "down");
        (down.count() == 2).then_some(())
    })
    .await;
    let waiting: Vec<_> =
        (0..60).map(|number| if number % 2 == 0 { text(number + 8) } else { push(number + 8) }).collect();
    submit(&platform, &waiting).await;
    let parked =
        async || platform.get("/queues/messaging").await["parked"]["provider_down"].as_u64().unwrap_or_default();
    eventually_async("they are parked", async || (parked().await >= 60).then_some(())).await;

    write_secret(&platform, "sms", &sms.account(json!({})));
    // Half a minute passes before somebody may try again.
    eventually_async("every text message is sent", async || (sms.taken().len() == 38).then_some(())).await;
    assert_eq!(fcm.count(), 0, "the other is still down");
}
