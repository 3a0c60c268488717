//! Alerts, from the job to whoever is told.

use fourmi_tests::{Platform, Program, Receiver, Reply, eventually_async};
use serde_json::{Value, json};

use crate::{answer, write_secret};

/// A platform with a messaging worker, and the other side.
struct Watch {
    platform: Platform,
    _worker: Program,
    receiver: Receiver,
}

impl Watch {
    async fn open() -> Self {
        let receiver = Receiver::start().await;
        let platform = Platform::with(&[("FOURMI_EGRESS_ALLOW", receiver.host())], 0).await;
        let worker = platform.messaging_worker();
        let watch = Self { platform, _worker: worker, receiver };
        write_secret(&watch.platform, "chat", &json!({"type": "webhook", "url": watch.url("/hook")}));
        watch
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.receiver.url())
    }

    async fn submit(&self, more: Value) -> String {
        self.submit_with(more, json!({})).await
    }

    async fn submit_with(&self, more: Value, policy: Value) -> String {
        let mut payload = json!({"title": "Disk nearly full"});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let job = json!({"kind": "chat.alert", "payload": payload, "policy": policy});
        let job = answer(self.platform.request("POST", "/jobs").json(&job), 202).await;
        job["id"].as_str().unwrap().to_owned()
    }

    async fn until(&self, id: &str, there: impl Fn(&Value) -> bool) -> Value {
        eventually_async(&format!("{id} gets there"), async || {
            Some(self.platform.get(&format!("/jobs/{id}")).await).filter(|job| there(job))
        })
        .await
    }

    /// What a job gives that succeeds.
    async fn told(&self, more: Value) -> Value {
        let id = self.submit(more).await;
        self.until(&id, |job| job["state"] == "succeeded").await["result"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_sent_once_counted_and_resolved() {
    let watch = Watch::open().await;
    let disk = |more: Value| {
        let mut alert = json!({"dedup_key": "disk", "severity": "critical", "text": "95 %"});
        alert.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        alert
    };
    assert_eq!(watch.told(disk(json!({"resolve": true}))).await, json!({"sent": false, "times": 0}));
    assert_eq!(watch.told(disk(json!({}))).await, json!({"sent": true, "times": 1}));
    for times in [2, 3] {
        assert_eq!(watch.told(disk(json!({}))).await, json!({"sent": false, "times": times}));
    }
    // Another cause, and one without a key.
    assert_eq!(watch.told(json!({"dedup_key": "memory"})).await["sent"], true);
    assert_eq!(watch.told(json!({})).await, json!({"sent": true, "times": 0}));
    // A window of no length to speak of is over.
    let again = watch.told(disk(json!({"window_s": 1}))).await;
    let again = if again["sent"] == true { again } else { watch.next_window(&disk).await };
    assert_eq!(watch.told(disk(json!({"resolve": true}))).await, json!({"sent": true, "times": again["times"]}));
    assert_eq!(watch.told(disk(json!({}))).await, json!({"sent": true, "times": 1}));

    let bodies: Vec<Value> = watch.receiver.received().iter().map(|message| message.json()).collect();
    let states: Vec<_> = bodies.iter().map(|body| body["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["open", "open", "single", "open", "resolved", "open"]);
    let first = &bodies[0];
    assert_eq!((&first["title"], &first["text"]), (&json!("Disk nearly full"), &json!("95 %")));
    assert_eq!((&first["severity"], &first["times"]), (&json!("critical"), &json!(1)), "{first}");
    let resolved = &bodies[4];
    assert_eq!((&resolved["since"], &resolved["times"]), (&first["since"], &again["times"]), "{resolved}");
}

impl Watch {
    /// Raises an alert until its window of a second is over.
    async fn next_window(&self, alert: &impl Fn(Value) -> Value) -> Value {
        eventually_async("the window is over", async || {
            Some(self.told(alert(json!({"window_s": 1}))).await).filter(|told| told["sent"] == true)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sort_of_account_is_told_in_its_form() {
    let watch = Watch::open().await;
    write_secret(&watch.platform, "team", &json!({"type": "slack", "url": watch.url("/services/T/B/x")}));
    let ntfy = json!({"type": "ntfy", "url": watch.url("/"), "topic": "ops", "token": "tk_secret"});
    write_secret(&watch.platform, "pager", &ntfy);
    let link = "https://example.org/graph?x=1";
    let alert = json!({"title": "Mémoire <pleine>", "text": "x".repeat(5_000), "severity": "critical", "link": link});
    for account in ["team", "pager"] {
        let mut alert = alert.clone();
        alert["account"] = json!(account);
        watch.told(alert).await;
    }
    let messages = watch.receiver.received();
    assert_eq!(messages[0].path, "/services/T/B/x");
    assert_eq!(messages[0].json()["text"], "*Mémoire &lt;pleine&gt;*");
    assert_eq!(messages[0].json()["attachments"][0]["title_link"], link);

    let (pager, headers) = (&messages[1], &messages[1].headers);
    assert_eq!(pager.path, "/ops");
    assert_eq!((&*headers["priority"], &*headers["tags"]), ("5", "rotating_light"));
    assert_eq!((&*headers["click"], &*headers["authorization"]), (link, "Bearer tk_secret"));
    assert!(headers["title"].starts_with("=?UTF-8?B?"), "{headers:?}");
    assert!(pager.body.len() <= 4_096 && pager.body.starts_with("xxx") && pager.body.ends_with('…'));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_told_again_or_waits_for_a_better_account() {
    let watch = Watch::open().await;
    let busy = Reply { headers: vec![("retry-after", "3600".to_owned())], ..Reply::status(429) };
    watch.receiver.reply([busy]);
    let id = watch.submit(json!({"dedup_key": "disk"})).await;
    let waiting = watch.until(&id, |job| job["state"] == "retrying").await;
    assert_eq!((&waiting["error"]["code"], &waiting["error"]["class"]), (&json!("http_429"), &json!("rate_limited")));
    let due: jiff::Timestamp = waiting["due_at"].as_str().unwrap().parse().unwrap();
    assert!(due.duration_since(jiff::Timestamp::now()).as_secs() > 3_000, "Retry-After counts: {waiting}");
    // Meanwhile others of its key leave it to the job that waits.
    assert_eq!(watch.told(json!({"dedup_key": "disk"})).await, json!({"sent": false, "times": 2}));
    answer(watch.platform.request("POST", "/queues/messaging/promote").json(&json!({"ids": [id]})), 200).await;
    let told = watch.until(&id, |job| job["state"] == "succeeded").await;
    assert_eq!(told["result"], json!({"sent": true, "times": 2}));

    // What is refused for good keeps nothing back.
    watch.receiver.reply([Reply::status(400)]);
    let id = watch.submit(json!({"dedup_key": "memory"})).await;
    assert_eq!(watch.until(&id, |job| job["state"] == "failed").await["error"]["code"], "chat_refused");
    assert_eq!(watch.told(json!({"dedup_key": "memory"})).await, json!({"sent": true, "times": 1}));

    // An address that is gone is for the operator to change; no alert is lost meanwhile.
    watch.receiver.reply([Reply::status(404)]);
    let id = watch.submit(json!({})).await;
    let parked = watch.until(&id, |job| job["state"] == "parked").await;
    assert_eq!((&parked["parked_reason"], &parked["attempts"]), (&json!("not_configured"), &json!(0)), "{parked}");
    let missing = watch.submit(json!({"account": "nowhere"})).await;
    watch.until(&missing, |job| job["state"] == "parked").await;
    write_secret(&watch.platform, "chat", &json!({"type": "webhook", "url": watch.url("/other")}));
    watch.until(&id, |job| job["state"] == "succeeded").await;
    write_secret(&watch.platform, "nowhere", &json!({"type": "webhook", "url": "http://127.0.0.1:1/"}));
    let advised = watch
        .until(&missing, |job| {
            job["error"]["message"].as_str().is_some_and(|text| text.contains("FOURMI_EGRESS_ALLOW"))
        })
        .await;
    assert_eq!(advised["state"], "parked", "{advised}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_was_never_told_of_keeps_none_back() {
    let watch = Watch::open().await;
    let disk = || json!({"dedup_key": "disk"});
    watch.receiver.reply([Reply::status(500)]);
    let id = watch.submit_with(disk(), json!({"attempts": 1})).await;
    assert_eq!(watch.until(&id, |job| job["state"] == "failed").await["error"]["code"], "http_500");
    assert_eq!(watch.told(disk()).await, json!({"sent": true, "times": 1}));

    // Nor is it told of when its cause is gone meanwhile.
    let memory = |resolve: bool| json!({"dedup_key": "memory", "resolve": resolve});
    watch.receiver.reply([Reply::status(404)]);
    let raised = watch.submit(memory(false)).await;
    watch.until(&raised, |job| job["state"] == "parked").await;
    assert_eq!(watch.told(memory(true)).await, json!({"sent": true, "times": 1}));
    write_secret(&watch.platform, "chat", &json!({"type": "webhook", "url": watch.url("/other")}));
    let job = watch.until(&raised, |job| job["state"] == "succeeded").await;
    assert_eq!(job["result"], json!({"sent": false, "times": 0}));
    assert_eq!(watch.told(memory(false)).await, json!({"sent": true, "times": 1}), "it is there again");
    assert_eq!(watch.receiver.count(), 5);
}
