//! Webhooks, from the end of a job to who is told of it.

use fourmi_tests::{OtherApi, Platform, Program, Received, Receiver, Reply, eventually_async};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::problem;

/// A platform with a messaging worker, and the other side.
struct Post {
    platform: Platform,
    worker: Program,
    receiver: Receiver,
}

impl Post {
    async fn open() -> Self {
        let receiver = Receiver::start().await;
        let platform = Platform::with(&[("FOURMI_EGRESS_ALLOW", receiver.host())], 0).await;
        let worker = platform.messaging_worker();
        Self { platform, worker, receiver }
    }

    fn url(&self) -> String {
        format!("{}/hooks", self.receiver.url())
    }

    /// A webhook, with its secret.
    async fn webhook(&self, more: Value) -> (String, String) {
        let mut wanted = json!({"url": self.url()});
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = answer(self.platform.request("POST", "/webhooks").json(&wanted), 201).await;
        (text(&made["webhook"]["id"]), text(&made["secret"]))
    }

    /// A job that ends at once, because it is cancelled: its id.
    async fn ended(&self, more: Value) -> String {
        let id = self.submitted(more).await;
        answer(self.platform.request("POST", &format!("/jobs/{id}/cancel")), 200).await;
        id
    }

    async fn submitted(&self, more: Value) -> String {
        let mut wanted = later();
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        text(&answer(self.platform.request("POST", "/jobs").json(&wanted), 202).await["id"])
    }

    async fn deliveries(&self, webhook: &str) -> Vec<Value> {
        let list = self.platform.get(&format!("/webhooks/{webhook}/deliveries")).await;
        list["deliveries"].as_array().unwrap().clone()
    }

    /// Waits until a delivery looks so.
    async fn until(&self, webhook: &str, there: impl Fn(&Value) -> bool) -> Value {
        eventually_async("the delivery gets there", async || {
            self.deliveries(webhook).await.into_iter().find(|delivery| there(delivery))
        })
        .await
    }

    /// Lets waiting messages be sent now.
    async fn hurry(&self) {
        answer(
            self.platform.request("POST", "/queues/messaging/promote").json(&json!({"kind": "webhook.deliver"})),
            200,
        )
        .await;
    }
}

fn later() -> Value {
    let source = json!({"source": {"url": "https://example.org/a.mp3"}});
    json!({"kind": "audio.extract", "payload": source, "not_before": "2099-01-01T00:00:00Z"})
}

async fn answer(request: RequestBuilder, status: u16) -> Value {
    let answer = request.send().await.unwrap();
    let (found, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(found, status, "{text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// The jobs that messages tell of, sorted.
fn jobs(messages: &[Received]) -> Vec<String> {
    let mut jobs: Vec<_> = messages.iter().map(|message| text(&message.json()["data"]["id"])).collect();
    jobs.sort();
    jobs
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_job_is_told_with_a_signature() {
    let post = Post::open().await;
    let (webhook, secret) = post.webhook(json!({"description": "the app"})).await;
    let job = post.ended(json!({"tags": ["one"], "correlation_id": "order-7"})).await;
    let message = post.receiver.wait_for(1).await.remove(0);
    assert_eq!(message.path, "/hooks");
    assert!(message.is_signed_by(&secret), "{message:?}");
    assert_eq!(message.headers["content-type"], "application/json");
    let body = message.json();
    assert_eq!(body["type"], "job.cancelled");
    assert_eq!(body["timestamp"], body["data"]["finished_at"]);
    assert_eq!((&body["data"]["id"], &body["data"]["correlation_id"]), (&json!(job), &json!("order-7")));
    assert!(body["data"].get("payload").is_none() && message.body.len() < 20_000);

    let delivery = post.until(&webhook, |delivery| delivery["state"] == "succeeded").await;
    assert_eq!((&delivery["status"], &delivery["event"]), (&json!(200), &json!("job.cancelled")));
    assert_eq!((&delivery["message"], &delivery["body"]), (&json!(message.id()), &json!(message.body)));
    let sent = post.platform.get(&format!("/jobs/{}", text(&delivery["id"]))).await;
    assert_eq!(sent["correlation_id"], "order-7");
    // It is noted that the webhook works, and that what the platform does itself is told nobody.
    eventually_async("a success is noted", async || {
        let webhook = post.platform.get(&format!("/webhooks/{webhook}")).await;
        webhook.get("last_success_at").cloned()
    })
    .await;
    assert_eq!(post.receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_is_what_webhook_and_job_say() {
    let post = Post::open().await;
    let (_, all) = post.webhook(json!({"events": ["job.cancelled"]})).await;
    post.webhook(json!({"events": ["job.failed", "batch.failed"]})).await;
    let (named, of_named) = post.webhook(json!({"events": []})).await;
    let plain = post.ended(json!({})).await;
    let at = format!("{}/hooks/42?token=x", post.receiver.url());
    let naming = post.ended(json!({"webhook": {"id": named, "url": at}})).await;
    let messages = post.receiver.wait_for(3).await;
    let mut expected = vec![plain, naming.clone(), naming.clone()];
    expected.sort();
    assert_eq!(jobs(&messages), expected);
    let special: Vec<_> = messages.iter().filter(|message| message.path == "/hooks/42?token=x").collect();
    assert!(special.len() == 1 && special[0].is_signed_by(&of_named) && !special[0].is_signed_by(&all));
    assert_eq!(special[0].json()["data"]["id"], naming);

    let flow = json!({"batch": true, "webhook": {"id": named}, "jobs": [{
        "name": "a", "kind": "audio.extract", "payload": later()["payload"], "not_before": "2099-01-01T00:00:00Z",
    }]});
    let batch = text(&answer(post.platform.request("POST", "/flows").json(&flow), 202).await["batch"]);
    answer(post.platform.request("POST", &format!("/jobs/{batch}/cancel")), 200).await;
    let messages = post.receiver.wait_for(5).await;
    let of_batch: Vec<_> = messages.iter().filter(|message| message.is_signed_by(&of_named)).skip(1).collect();
    assert_eq!((of_batch.len(), &of_batch[0].json()["type"]), (1, &json!("batch.cancelled")));

    for (wrong, field) in [
        (json!({"id": "hook-00000000000000000000000000000001"}), "webhook.id"),
        (json!({"id": named, "url": "https://elsewhere.example/"}), "webhook.url"),
        (json!({"id": named, "url": "http://127.0.0.1:1/"}), "webhook.url"),
        (json!({"id": named, "url": "nonsense"}), "webhook.url"),
    ] {
        let mut job = later();
        job["webhook"] = wrong;
        let refused = answer(post.platform.request("POST", "/jobs").json(&job), 422).await;
        assert_eq!(refused["errors"][0]["path"], field, "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chores_are_told_to_none_but_the_webhooks_that_they_name() {
    let post = Post::open().await;
    let (all, _) = post.webhook(json!({})).await;
    let (named, of_named) = post.webhook(json!({"events": []})).await;
    let chore = json!({"kind": "health.probe", "payload": {}});
    let mut naming = chore.clone();
    naming["webhook"] = json!({"id": named});
    post.ended(chore).await;
    let told = post.ended(naming).await;
    let plain = post.ended(json!({})).await;
    let messages = post.receiver.wait_for(2).await;
    let of_chore: Vec<_> = messages.into_iter().filter(|message| message.is_signed_by(&of_named)).collect();
    assert_eq!(jobs(&of_chore), [told]);
    let bodies = post.deliveries(&all).await.into_iter().map(|delivery| text(&delivery["body"]));
    let of_all: Vec<Value> = bodies.map(|body| serde_json::from_str(&body).unwrap()).collect();
    assert_eq!((of_all.len(), &of_all[0]["data"]["id"]), (1, &json!(plain)), "{of_all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_tried_again_under_the_same_id() {
    let post = Post::open().await;
    let (webhook, secret) = post.webhook(json!({})).await;
    let moved =
        Reply { headers: vec![("location", format!("{}/elsewhere", post.receiver.url()))], ..Reply::status(307) };
    let busy = Reply { headers: vec![("retry-after", "3600".to_owned())], ..Reply::status(429) };
    post.receiver.reply([Reply::status(500), moved, busy]);
    post.ended(json!({})).await;
    for attempts in 1..=3 {
        let delivery = post.until(&webhook, |it| it["attempts"] == attempts && it["state"] == "retrying").await;
        let code = ["http_500", "http_307", "http_429"][attempts - 1];
        assert_eq!(delivery["error"]["code"], code, "{delivery}");
        if attempts == 3 {
            let due: jiff::Timestamp = text(&delivery["due_at"]).parse().unwrap();
            assert!(due.duration_since(jiff::Timestamp::now()).as_secs() > 3_000, "Retry-After counts: {delivery}");
        }
        post.hurry().await;
    }
    let delivery = post.until(&webhook, |it| it["state"] == "succeeded").await;
    let messages = post.receiver.received();
    assert_eq!(messages.len(), 4);
    assert!(messages.iter().all(|it| it.path == "/hooks" && it.id() == messages[0].id() && it.is_signed_by(&secret)));
    assert!(messages.iter().all(|it| it.body == messages[0].body));
    let runs = post.platform.get(&format!("/jobs/{}/runs", text(&delivery["id"]))).await;
    assert_eq!(runs["runs"].as_array().unwrap().len(), 3, "{runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_without_a_gap() {
    let post = Post::open().await;
    let known = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let (webhook, first) = post.webhook(json!({"secret": known})).await;
    assert_eq!(first, known);
    let path = format!("/webhooks/{webhook}/rotate");
    let rotated = answer(post.platform.request("POST", &path), 200).await;
    let second = text(&rotated["secret"]);
    assert!(rotated["webhook"]["previous_secret_until"].is_string() && second != first);
    answer(post.platform.request("POST", &format!("/webhooks/{webhook}/test")), 202).await;
    let message = post.receiver.wait_for(1).await.remove(0);
    assert!(message.is_signed_by(&first) && message.is_signed_by(&second));
    assert_eq!(message.json()["type"], "webhook.test");
    // A secret that has become known signs nothing more.
    let third = text(&answer(post.platform.request("POST", &path).json(&json!({"grace_s": 0})), 200).await["secret"]);
    let message = eventually_async("the new secret counts", async || {
        // All that were sent before have come.
        let before = post.receiver.count();
        answer(post.platform.request("POST", &format!("/webhooks/{webhook}/test")), 202).await;
        let messages = post.receiver.wait_for(before + 1).await;
        messages.into_iter().next_back().filter(|message| message.is_signed_by(&third))
    })
    .await;
    assert!(!message.is_signed_by(&first) && !message.is_signed_by(&second));
    for wrong in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!"] {
        let wanted = json!({"url": post.url(), "secret": wrong});
        let refused = answer(post.platform.request("POST", "/webhooks").json(&wanted), 422).await;
        assert_eq!(refused["errors"][0]["path"], "secret", "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_gone_is_not_asked_again_and_its_owner_is_told() {
    let post = Post::open().await;
    post.platform.add_tenant("acme").await;
    let ada = post.platform.add_person("ada", "admin", Some("acme")).await;
    let as_ada = |method: &str, path: &str| post.platform.request_as(&ada.token, method, path);
    let made = answer(as_ada("POST", "/webhooks").json(&json!({"url": post.url()})), 201).await;
    let webhook = text(&made["webhook"]["id"]);
    post.receiver.reply([Reply::status(410)]);
    let job = text(&answer(as_ada("POST", "/jobs").json(&later()), 202).await["id"]);
    answer(as_ada("POST", &format!("/jobs/{job}/cancel")), 200).await;
    eventually_async("it is disabled", async || {
        let webhook = answer(as_ada("GET", &format!("/webhooks/{webhook}")), 200).await;
        (webhook["disabled_for"] == "gone" && webhook["enabled"] == false).then_some(())
    })
    .await;
    eventually_async("its owner is told", async || {
        let mails = post.platform.get("/jobs?kind=mail.notice").await;
        let mails = mails["jobs"].as_array().unwrap().clone();
        mails.into_iter().find(|mail| mail["payload"]["notice"] == "webhook_disabled")
    })
    .await;
    let events = post.platform.get(&format!("/audit?target={webhook}&action=webhook.disabled")).await;
    assert_eq!(events["events"][0]["details"]["reason"], "gone", "{events}");

    // Nothing more is sent, until it is enabled; then what was given up can be sent again.
    let test = as_ada("POST", &format!("/webhooks/{webhook}/test")).send().await.unwrap();
    assert_eq!(problem(test, 409).await, "webhook_disabled");
    let untold = text(&answer(as_ada("POST", "/jobs").json(&later()), 202).await["id"]);
    answer(as_ada("POST", &format!("/jobs/{untold}/cancel")), 200).await;
    let change = json!({"enabled": true});
    let changed = answer(as_ada("PATCH", &format!("/webhooks/{webhook}")).json(&change), 200).await;
    assert_eq!((&changed["enabled"], changed.get("disabled_for")), (&json!(true), None));
    let again = json!({"since": "2020-01-01T00:00:00Z"});
    let redelivered = answer(as_ada("POST", &format!("/webhooks/{webhook}/redeliver")).json(&again), 202).await;
    assert_eq!(redelivered["redelivered"], 1, "{redelivered}");
    let messages = post.receiver.wait_for(2).await;
    assert_eq!(messages[0].id(), messages[1].id());
    assert_eq!(jobs(&messages), [job.clone(), job]);
    let taken = post.until(&webhook, |delivery| delivery["state"] == "succeeded").await;
    let one = json!({"delivery": taken["id"]});
    answer(as_ada("POST", &format!("/webhooks/{webhook}/redeliver")).json(&one), 202).await;
    assert_eq!(post.receiver.wait_for(3).await[2].id(), messages[0].id());
    for (wrong, status) in [(json!({}), 422), (json!({"delivery": untold}), 404), (json!({"since": "x"}), 422)] {
        answer(as_ada("POST", &format!("/webhooks/{webhook}/redeliver")).json(&wrong), status).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inside_is_never_written_to() {
    let post = Post::open().await;
    let inside = Receiver::start().await;
    for url in [inside.url(), "http://localhost:1/", "https://127.0.0.1/", "https://[::1]/x", "http://2130706433/"] {
        let made = answer(post.platform.request("POST", "/webhooks").json(&json!({"url": url})), 201).await;
        let webhook = text(&made["webhook"]["id"]);
        answer(post.platform.request("POST", &format!("/webhooks/{webhook}/test")), 202).await;
        let delivery = post.until(&webhook, |delivery| delivery["state"] == "failed").await;
        assert_eq!(delivery["error"]["code"], "webhook_address", "{url}: {delivery}");
    }
    assert_eq!(inside.count(), 0);
    for wrong in ["", "nonsense", "ftp://example.org/", "https://user@example.org/", "https://example.org/#x", "/hooks"]
    {
        let refused = answer(post.platform.request("POST", "/webhooks").json(&json!({"url": wrong})), 422).await;
        assert_eq!(refused["errors"][0]["path"], "url", "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_of_their_own_jobs_and_tenants_of_theirs() {
    let post = Post::open().await;
    for tenant in ["acme", "other"] {
        post.platform.add_tenant(tenant).await;
    }
    let ada = post.platform.add_person("ada", "user", Some("acme")).await;
    let ben = post.platform.add_person("ben", "user", Some("acme")).await;
    let cleo = post.platform.add_person("cleo", "admin", Some("acme")).await;
    let dan = post.platform.add_person("dan", "admin", Some("other")).await;
    let mut secrets = Vec::new();
    for person in [&ada, &ben, &cleo, &dan] {
        let request = post.platform.request_as(&person.token, "POST", "/webhooks").json(&json!({"url": post.url()}));
        secrets.push(text(&answer(request, 201).await["secret"]));
    }
    let job = text(&answer(post.platform.request_as(&ada.token, "POST", "/jobs").json(&later()), 202).await["id"]);
    answer(post.platform.request_as(&ada.token, "POST", &format!("/jobs/{job}/cancel")), 200).await;
    let of_other = post.platform.request_as(&dan.token, "POST", "/jobs").json(&later());
    let of_other = text(&answer(of_other, 202).await["id"]);
    answer(post.platform.request_as(&dan.token, "POST", &format!("/jobs/{of_other}/cancel")), 200).await;
    let messages = post.receiver.wait_for(3).await;
    let told = |secret: &str| {
        let theirs: Vec<_> = messages.iter().filter(|message| message.is_signed_by(secret)).cloned().collect();
        jobs(&theirs)
    };
    assert_eq!([told(&secrets[0]), told(&secrets[1]), told(&secrets[2])], [vec![job.clone()], vec![], vec![job]]);
    assert_eq!(told(&secrets[3]), [of_other]);

    // Who may not read jobs is not told of them.
    let key = json!({"name": "app", "scopes": ["webhooks:write", "jobs:submit"], "tenant": "acme"});
    let key = text(&answer(post.platform.request("POST", "/keys").json(&key), 201).await["secret"]);
    let refused = post.platform.request_as(&key, "POST", "/webhooks").json(&json!({"url": post.url()}));
    assert_eq!(problem(refused.send().await.unwrap(), 403).await, "scope_missing");
    // With a person go the webhooks of their own jobs.
    answer(post.platform.request("DELETE", &format!("/users/{}", ada.info.id)), 204).await;
    let left = post.platform.get("/webhooks").await;
    assert_eq!(left["webhooks"].as_array().unwrap().len(), 3, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_end_is_lost_when_everything_is_killed() {
    let mut post = Post::open().await;
    post.webhook(json!({})).await;
    let other: OtherApi = post.platform.another_api();
    let mut expected = Vec::new();
    for round in 0..6 {
        for _ in 0..20 {
            expected.push(post.submitted(json!({})).await);
        }
        let all = json!({"action": "cancel", "filter": {"kind": "audio.extract", "state": ["scheduled"]}});
        answer(post.platform.request("POST", "/jobs/actions").json(&all), 200).await;
        match round % 3 {
            0 => {
                post.worker.kill();
                post.worker = post.platform.messaging_worker();
            }
            1 => {
                post.platform.api.kill();
                post.platform.restart_api();
            }
            _ => {}
        }
    }
    drop(other);
    expected.sort();
    eventually_async("everything is told", async || {
        let mut told = jobs(&post.receiver.received());
        told.dedup();
        (told == expected).then_some(())
    })
    .await;
    // What came twice has the same id: an attempt whose answer nobody read.
    let received = post.receiver.received();
    let mut ids: Vec<_> = received.iter().map(|message| message.id().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), expected.len());
    assert!(
        received.len() <= expected.len() + 2 * 64,
        "at most what was on its way at the two kills: {}",
        received.len()
    );
}
