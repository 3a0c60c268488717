//! Push notifications, from the job to the device, by a server that is as strict as Google's.

use std::{collections::HashMap, time::Duration};

use fourmi_model::{Channel, DeviceId, DevicePlatform, SuppressionReason, TokenKind};
use fourmi_records::{Device, Records, Suppression};
use fourmi_tests::{Act, FcmServer, Platform, Program, eventually_async};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::write_secret;

/// The most messages of a broadcast that are on their way at once, which is what may be sent twice when a worker dies.
const IN_FLIGHT: u64 = 400;

/// A platform with a messaging worker, and the other side.
struct Post {
    platform: Platform,
    worker: Program,
    fcm: FcmServer,
}

impl Post {
    /// With the account already there.
    async fn open() -> Self {
        let post = Self::open_without_account().await;
        post.write_account();
        post
    }

    async fn open_without_account() -> Self {
        let fcm = FcmServer::start().await;
        let settings = [("FOURMI_EGRESS_ALLOW", fcm.host()), ("FOURMI_RATE_LIMITS", "submit=off,read=off,any=off")];
        let platform = Platform::with(&settings, 0).await;
        let worker = platform.messaging_worker();
        Self { platform, worker, fcm }
    }

    fn write_account(&self) {
        write_secret(&self.platform, "fcm", &self.fcm.account());
    }

    /// Sends broadcasts with this quota from now on.
    fn write_quota(&self, messages_per_minute: u32) {
        let mut account = self.fcm.account();
        account["messages_per_minute"] = json!(messages_per_minute);
        write_secret(&self.platform, "fcm", &account);
    }

    async fn register(&self, token: &str, owner: &str) -> String {
        let device = json!({"token": token, "platform": "android", "owner": owner});
        let answer = self.platform.request("POST", "/devices").json(&device).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        text(&answer.json::<Value>().await.unwrap()["id"])
    }

    /// Waits until the worker has said again that it lives, which it does every second.
    async fn until_the_worker_is_seen_again(&self) {
        let last_seen = async || self.platform.get("/workers").await["workers"][0]["last_seen"].clone();
        let before = last_seen().await;
        eventually_async("the worker says that it lives", async || (last_seen().await != before).then_some(())).await;
    }

    /// Registers this many devices, each of an owner of its own, behind the back of the API.
    async fn register_many(&self, count: usize) -> Vec<Device> {
        let now = Timestamp::now().round(jiff::Unit::Millisecond).unwrap();
        let device = |number| Device {
            id: DeviceId::random(),
            tenant: None,
            token: format!("token-{number}"),
            token_kind: TokenKind::Registration,
            platform: DevicePlatform::Android,
            owner: format!("owner-{number}"),
            app_version: None,
            locale: None,
            failures: 0,
            created_at: now,
            seen_at: now,
        };
        let devices: Vec<_> = (0..count).map(device).collect();
        self.records().await.register_devices(&devices).await.unwrap()
    }

    async fn records(&self) -> Records {
        Records::open(&self.platform.data().join("records.db")).await.unwrap()
    }

    /// Whether a device is still registered.
    async fn is_there(&self, owner: &str) -> bool {
        let list = self.platform.get(&format!("/devices?owner={owner}")).await;
        !list["devices"].as_array().unwrap().is_empty()
    }

    async fn submit(&self, kind: &str, payload: Value) -> String {
        let answer = self.platform.submit(kind, payload).await;
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
        text(&answer.json::<Value>().await.unwrap()["id"])
    }

    async fn send(&self, to: Value) -> String {
        self.submit("push.send", json!({"to": to, "title": "Salut", "body": "Ça va ?"})).await
    }

    /// Not held back by the time of day.
    async fn broadcast(&self, audience: Value) -> String {
        self.submit("push.fanout", json!({"audience": audience, "title": "Salut", "priority": "high"})).await
    }

    /// Waits until a job is in one of these states (`parked` among them).
    async fn until(&self, job: &str, states: &[&str]) -> Value {
        eventually_async(&format!("{job} becomes {states:?}"), async || {
            let job = self.platform.get(&format!("/jobs/{job}")).await;
            states.contains(&job["state"].as_str().unwrap()).then_some(job)
        })
        .await
    }

    /// Lets waiting jobs run now.
    async fn hurry(&self, kind: &str) {
        let request = self.platform.request("POST", "/queues/messaging/promote").json(&json!({"kind": kind}));
        assert!(request.send().await.unwrap().status().is_success());
    }

    /// Waits until the other side has taken so many messages.
    async fn until_taken(&self, count: u64) {
        eventually_async("messages are taken", async || (self.fcm.count() >= count).then_some(())).await;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// How long a job waits for its next attempt, in seconds.
fn wait_s(job: &Value) -> i64 {
    let due: Timestamp = text(&job["due_at"]).parse().unwrap();
    due.as_second() - Timestamp::now().as_second()
}

fn counts(result: &Value) -> [u64; 6] {
    ["targeted", "sent", "failed", "invalid", "skipped", "repeated"].map(|name| result[name].as_u64().expect(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_table_of_errors_is_acted_on() {
    let post = Post::open().await;
    let field = |field| Act::Error { status: 400, code: Some("INVALID_ARGUMENT"), field: Some(field), after_s: None };
    // The act, the error of the job, and whether the device stays.
    for (row, (act, code, stays)) in [
        (field("message.token"), "token_invalid", false),
        (field("message.data"), "payload_refused", true),
        (Act::error(404, "UNREGISTERED"), "token_invalid", false),
        (Act::error(403, "SENDER_ID_MISMATCH"), "sender_mismatch", false),
        (Act::error(401, "THIRD_PARTY_AUTH_ERROR"), "third_party_auth", true),
    ]
    .into_iter()
    .enumerate()
    {
        let (token, owner) = (format!("token-{row}"), format!("owner-{row}"));
        let device = post.register(&token, &owner).await;
        post.fcm.on(&token, [act]);
        let before = post.fcm.requests();
        let id = post.send(json!({"device": device})).await;
        let job = post.until(&id, &["failed", "succeeded"]).await;
        assert_eq!((&job["error"]["code"], &job["attempts"]), (&json!(code), &json!(1)), "{job}");
        assert_eq!((post.is_there(&owner).await, post.fcm.requests() - before), (stays, 1), "{code}");
    }
    let alerts = post.worker.lines().iter().filter(|line| line.contains("ERROR")).count();
    assert_eq!(alerts, 2, "a foreign token, and wrong credentials");

    // What is tried again: the act, and how long it waits.
    let limited = |after_s| Act::Error { status: 429, code: Some("QUOTA_EXCEEDED"), field: None, after_s };
    let unavailable = |after_s| Act::Error { status: 503, code: Some("UNAVAILABLE"), field: None, after_s };
    for (row, (act, code, shortest, longest)) in [
        (limited(Some(20)), "rate_limited", 15, 20),
        (limited(None), "rate_limited", 56, 85),
        (unavailable(Some(120)), "provider_unavailable", 116, 120),
        (unavailable(None), "provider_unavailable", 6, 14),
        (Act::error(500, "INTERNAL"), "provider_unavailable", 6, 14),
        (Act::google(502), "provider_unavailable", 6, 14),
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("again-{row}");
        let device = post.register(&token, &token).await;
        post.fcm.on(&token, [act]);
        let id = post.send(json!({"device": device})).await;
        let job = post.until(&id, &["retrying"]).await;
        assert_eq!(job["error"]["code"], code);
        assert!((shortest..=longest).contains(&wait_s(&job)), "{code}: {}", wait_s(&job));
        post.hurry("push.send").await;
        let job = post.until(&id, &["succeeded"]).await;
        assert_eq!((post.fcm.taken(&token), &job["result"]["devices"][0]["state"]), (1, &json!("sent")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_hour_of_waiting_a_message_is_given_up() {
    let post = Post::open().await;
    let limited =
        |after_s| Act::Error { status: 429, code: Some("QUOTA_EXCEEDED"), field: None, after_s: Some(after_s) };
    post.fcm.on("busy", [limited(u32::MAX), limited(10)]);
    let id = post.send(json!({"token": "busy"})).await;
    let job = post.until(&id, &["retrying"]).await;
    assert!((3_590..=3_600).contains(&wait_s(&job)), "an hour is the most: {}", wait_s(&job));
    post.hurry("push.send").await;
    let job = post.until(&id, &["failed", "succeeded"]).await;
    assert_eq!((&job["error"]["code"], &job["attempts"]), (&json!("rate_limited"), &json!(2)), "{job}");

    // Whoever has it done anew has another hour.
    let retry = post.platform.request("POST", &format!("/jobs/{id}/retry"));
    assert!(retry.send().await.unwrap().status().is_success());
    post.until(&id, &["succeeded"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_google_is_got_once_and_anew_when_it_does_not_open() {
    let post = Post::open().await;
    post.register_many(300).await;
    let id = post.broadcast(json!("all")).await;
    let job = post.until(&id, &["succeeded"]).await;
    assert_eq!(counts(&job["result"]), [300, 300, 0, 0, 0, 0]);
    assert_eq!(post.fcm.token_requests(), 1);

    post.fcm.revoke_tokens();
    let id = post.send(json!({"token": "by-token"})).await;
    post.until(&id, &["succeeded"]).await;
    assert_eq!((post.fcm.token_requests(), post.fcm.taken("by-token")), (2, 1));

    // One that never opens is no reason to ask for ever: somebody has to do something.
    post.fcm.on("refused", [Act::google(401), Act::google(401)]);
    let id = post.send(json!({"token": "refused"})).await;
    let job = post.until(&id, &["parked"]).await;
    assert_eq!((&job["parked_reason"], post.fcm.token_requests()), (&json!("not_configured"), 3));
    post.write_account();
    post.until(&id, &["succeeded"]).await;

    // Nor is one good for ever, whatever is said of it.
    post.fcm.token_life(u64::MAX);
    post.fcm.revoke_tokens();
    let id = post.send(json!({"token": "for-ever"})).await;
    post.until(&id, &["succeeded"]).await;

    // The same where the account may not send, or its project is unknown.
    for (token, status) in [("forbidden", 403), ("unknown", 404)] {
        post.fcm.on(token, [Act::google(status)]);
        let id = post.send(json!({"token": token})).await;
        let job = post.until(&id, &["parked"]).await;
        assert_eq!(job["parked_reason"], "not_configured", "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_an_account_waits_for_one() {
    let post = Post::open_without_account().await;
    let id = post.send(json!({"token": "a-token"})).await;
    let job = post.until(&id, &["parked"]).await;
    assert_eq!(job["parked_reason"], "not_configured");
    assert!(text(&job["error"]["message"]).contains("secrets/fcm"), "{job}");
    post.write_account();
    let job = post.until(&id, &["succeeded"]).await;
    assert_eq!((post.fcm.taken("a-token"), &job["attempts"]), (1, &json!(1)), "parking was no attempt");
    let message = post.fcm.messages().remove(0);
    assert_eq!(message["message"]["notification"], json!({"title": "Salut", "body": "Ça va ?"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_has_it_does_not_get_it_again() {
    let post = Post::open().await;
    for token in ["first", "second", "third"] {
        post.register(token, "anna").await;
    }
    post.fcm.on("second", [Act::error(503, "UNAVAILABLE"), Act::error(500, "INTERNAL")]);
    post.fcm.on("third", [Act::error(404, "UNREGISTERED")]);
    let id = post.send(json!({"owner": "anna"})).await;
    for attempt in 1..=2 {
        let job = eventually_async("it is tried", async || {
            let job = post.platform.get(&format!("/jobs/{id}")).await;
            (job["state"] == "retrying" && job["attempts"] == attempt).then_some(job)
        })
        .await;
        assert_eq!(job["error"]["code"], "provider_unavailable");
        post.hurry("push.send").await;
    }
    let job = post.until(&id, &["succeeded"]).await;
    let taken = ["first", "second", "third"].map(|token| post.fcm.taken(token));
    assert_eq!((taken, post.fcm.requests()), ([1, 1, 0], 5));
    let states: Vec<_> = job["result"]["devices"].as_array().unwrap().iter().map(|one| text(&one["state"])).collect();
    assert_eq!((states.iter().filter(|state| *state == "sent").count(), states.len()), (2, 3), "{states:?}");

    // Nobody, and somebody who wants nothing.
    let id = post.send(json!({"owner": "nobody"})).await;
    assert_eq!(post.until(&id, &["failed"]).await["error"]["code"], "no_devices");
    suppress(&post.records().await, "anna").await;
    let id = post.send(json!({"owner": "anna"})).await;
    assert_eq!(post.until(&id, &["failed"]).await["error"]["code"], "suppressed_by_preference");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_done_anew_sends_again_to_whom_fcm_has_refused() {
    let post = Post::open().await;
    for token in ["first", "second"] {
        post.register(token, "anna").await;
    }
    let refusal = || Act::error(401, "THIRD_PARTY_AUTH_ERROR");
    post.fcm.on("first", [refusal()]);
    post.fcm.on("second", [Act::error(503, "UNAVAILABLE"), refusal()]);
    let id = post.send(json!({"owner": "anna"})).await;
    post.until(&id, &["retrying"]).await;
    post.hurry("push.send").await;
    let job = post.until(&id, &["failed", "succeeded"]).await;
    assert_eq!((&job["error"]["code"], post.fcm.requests()), (&json!("third_party_auth"), 3), "{job}");

    let retry = post.platform.request("POST", &format!("/jobs/{id}/retry"));
    assert!(retry.send().await.unwrap().status().is_success());
    let job = post.until(&id, &["succeeded"]).await;
    assert_eq!(["first", "second"].map(|token| post.fcm.taken(token)), [1, 1], "{job}");
    assert_eq!((job["result"]["devices"].as_array().unwrap().len(), post.fcm.requests()), (2, 5), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_named_by_their_token_is_a_device_all_the_same() {
    let post = Post::open().await;
    post.register("old", "anna").await;
    post.fcm.on("old", [Act::error(404, "UNREGISTERED")]);
    let id = post.send(json!({"token": "old"})).await;
    assert_eq!(post.until(&id, &["failed", "succeeded"]).await["error"]["code"], "token_invalid");
    assert!(!post.is_there("anna").await, "FCM does not know it any more");

    post.register("quiet", "ben").await;
    let id = post.send(json!({"token": "quiet"})).await;
    let job = post.until(&id, &["failed", "succeeded"]).await;
    let outcome = &job["result"]["devices"][0];
    assert_eq!((&outcome["state"], outcome.get("device")), (&json!("sent"), None), "it was named by its token");
    suppress(&post.records().await, "ben").await;
    let id = post.send(json!({"token": "quiet"})).await;
    let job = post.until(&id, &["failed", "succeeded"]).await;
    assert_eq!((&job["error"]["code"], post.fcm.taken("quiet")), (&json!("suppressed_by_preference"), 1), "{job}");
}

async fn suppress(records: &Records, owner: &str) {
    let suppression = Suppression {
        tenant: None,
        channel: Channel::Push,
        address: owner.to_owned(),
        reason: SuppressionReason::OptedOut,
        note: None,
        created_at: Timestamp::now(),
        created_by: None,
    };
    assert!(records.add_suppression(&suppression).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_loses_no_message() {
    let post = Post::open().await;
    for (token, act, taken) in [("before", Act::CutBefore, 1), ("after", Act::CutAfter, 2), ("silent", Act::Hang, 1)] {
        post.fcm.on(token, [act]);
        let id = post.send(json!({"token": token})).await;
        let job = post.until(&id, &["retrying"]).await;
        assert_eq!(job["error"]["code"], "provider_unavailable", "{token}");
        post.hurry("push.send").await;
        post.until(&id, &["succeeded"]).await;
        assert_eq!(post.fcm.taken(token), taken, "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_goes_on_where_its_worker_was_killed() {
    const DEVICES: usize = 3_000;
    let mut post = Post::open().await;
    post.register_many(DEVICES).await;
    let id = post.broadcast(json!({"platform": "android"})).await;
    for count in [700, 1_800] {
        post.until_taken(count).await;
        post.worker.kill();
        post.worker = post.platform.messaging_worker();
    }
    let job = post.until(&id, &["succeeded", "failed"]).await;
    let [targeted, sent, failed, invalid, skipped, repeated] = counts(&job["result"]);
    assert_eq!([targeted, sent, failed, invalid, skipped], [3_000, 3_000, 0, 0, 0], "{job}");
    let taken = post.fcm.all_taken();
    assert_eq!(taken.len(), DEVICES, "everybody has it");
    let again: u64 = taken.values().map(|times| u64::from(times - 1)).sum();
    assert!(again <= repeated && repeated <= 2 * IN_FLIGHT, "{again} came twice; {repeated} were said");
    assert_eq!(post.fcm.count(), sent + again);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_on_its_way_than_is_said_to_come_again() {
    let mut post = Post::open().await;
    post.write_quota(6_000_000);
    post.register_many(1_000).await;
    post.fcm.always(Some(Act::Hang));
    let id = post.broadcast(json!("all")).await;
    eventually_async("all are on their way", async || (post.fcm.requests() >= IN_FLIGHT).then_some(())).await;
    post.until_the_worker_is_seen_again().await;
    assert_eq!(post.fcm.requests(), IN_FLIGHT);
    post.worker.kill();
    post.fcm.always(None);
    post.worker = post.platform.messaging_worker();
    let job = post.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(counts(&job["result"]), [1_000, 1_000, 0, 0, 0, IN_FLIGHT], "{job}");
    assert_eq!((post.fcm.count(), post.fcm.requests()), (1_000, 1_000 + IN_FLIGHT));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_message_begins_when_it_is_sent() {
    let post = Post::open().await;
    // So few a second that the last comes after the life of the first.
    post.write_quota(6_000);
    post.register_many(30).await;
    let message = json!({"audience": "all", "title": "Salut", "priority": "high", "ttl_s": 3});
    let id = post.submit("push.fanout", message).await;
    let job = post.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(counts(&job["result"]), [30, 30, 0, 0, 0, 0], "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_device_of_a_broadcast_is_counted_once() {
    let post = Post::open().await;
    post.register_many(1_200).await;
    for number in 0..5 {
        post.fcm.on(&format!("token-{}", number * 100), [Act::error(404, "UNREGISTERED")]);
    }
    post.fcm.on("token-7", [Act::error(403, "SENDER_ID_MISMATCH")]);
    for number in [8, 1_008] {
        post.fcm.on(&format!("token-{number}"), [Act::error(401, "THIRD_PARTY_AUTH_ERROR")]);
    }
    // These are tried again while the others go on.
    post.fcm.on("token-9", [Act::error(503, "UNAVAILABLE")]);
    post.fcm.on("token-10", [Act::Error { status: 429, code: Some("QUOTA_EXCEEDED"), field: None, after_s: Some(11) }]);
    let records = post.records().await;
    for number in [11, 511, 1_111] {
        suppress(&records, &format!("owner-{number}")).await;
    }
    post.fcm.always(Some(Act::Slowly(Duration::from_millis(200))));
    let id = post.broadcast(json!("all")).await;
    let job = post.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(counts(&job["result"]), [1_200, 1_189, 2, 6, 3, 0], "{job}");
    let progress = &job["progress"]["counters"];
    assert_eq!((&progress["sent"], &progress["targeted"]), (&json!(1_189.0), &json!(1_200.0)), "{job}");
    let taken: HashMap<_, _> = post.fcm.all_taken();
    assert!(taken.len() == 1_189 && taken.values().all(|times| *times == 1));
    assert!(!post.is_there("owner-7").await && post.is_there("owner-8").await);
    assert!(post.fcm.most_in_flight() >= 50, "{} at once", post.fcm.most_in_flight());

    let id = post.broadcast(json!({"owners": ["owner-1", "owner-2", "nobody"]})).await;
    let job = post.until(&id, &["succeeded"]).await;
    assert_eq!(counts(&job["result"]), [2, 2, 0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_given_up_that_fcm_can_read_for_nobody_and_not_for_one() {
    let post = Post::open().await;
    post.register_many(1_000).await;
    let refusal =
        || Act::Error { status: 400, code: Some("INVALID_ARGUMENT"), field: Some("message.data"), after_s: None };
    let three = json!({"owners": ["owner-0", "owner-1", "owner-2"]});
    // The first verdict of all is a refusal; the others come later.
    post.fcm.on("token-0", [refusal()]);
    for token in ["token-1", "token-2"] {
        post.fcm.on(token, [Act::Error { status: 429, code: Some("QUOTA_EXCEEDED"), field: None, after_s: Some(10) }]);
    }
    let id = post.broadcast(three.clone()).await;
    let job = post.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(counts(&job["result"]), [3, 2, 1, 0, 0, 0], "{job}");

    for number in 0..3 {
        post.fcm.on(&format!("token-{number}"), [refusal()]);
    }
    let id = post.broadcast(three).await;
    let job = post.until(&id, &["succeeded", "failed"]).await;
    assert_eq!((&job["error"]["code"], &job["attempts"]), (&json!("payload_refused"), &json!(1)), "{job}");

    let before = post.fcm.requests();
    post.fcm.always(Some(refusal()));
    let id = post.broadcast(json!("all")).await;
    let job = post.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(job["error"]["code"], "payload_refused", "{job}");
    assert!(post.fcm.requests() - before <= IN_FLIGHT, "the others are spared it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_waits_while_fcm_is_down_and_sends_what_is_left() {
    let post = Post::open().await;
    post.register_many(700).await;
    // Of the first page, nobody wants anything.
    let records = post.records().await;
    for number in 0..IN_FLIGHT {
        suppress(&records, &format!("owner-{number}")).await;
    }
    post.fcm.always(Some(Act::error(503, "UNAVAILABLE")));
    let id = post.broadcast(json!("all")).await;
    let job = post.until(&id, &["parked"]).await;
    assert_eq!(job["parked_reason"], "provider_down");
    assert!(post.fcm.requests() < 200, "{}: it is not asked in vain", post.fcm.requests());
    post.fcm.always(None);
    // Half a minute passes before somebody may try again.
    let job = post.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(counts(&job["result"]), [700, 300, 0, 0, 400, 0], "{job}");
    assert_eq!(post.fcm.count(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_can_be_paused_and_cancelled_and_goes_on() {
    let post = Post::open().await;
    post.register_many(3_000).await;
    let id = post.broadcast(json!("all")).await;
    post.until_taken(300).await;
    let steer = |paused| post.platform.request("PATCH", "/queues/messaging").json(&json!({"paused": paused}));
    assert!(steer(true).send().await.unwrap().status().is_success());
    eventually_async("it pauses", async || {
        let job = post.platform.get(&format!("/jobs/{id}")).await;
        (job["progress"]["stage"] == "paused").then_some(())
    })
    .await;
    let before = post.fcm.requests();
    post.until_the_worker_is_seen_again().await;
    assert_eq!(post.fcm.requests(), before, "nothing is sent");
    // Whose turn would be next.
    suppress(&post.records().await, &format!("owner-{before}")).await;
    assert!(steer(false).send().await.unwrap().status().is_success());
    post.until_taken(before + 300).await;

    let cancel = post.platform.request("POST", &format!("/jobs/{id}/cancel"));
    assert!(cancel.send().await.unwrap().status().is_success());
    post.until(&id, &["cancelled"]).await;
    assert!(post.fcm.count() < 3_000, "there is something left");
    let retry = post.platform.request("POST", &format!("/jobs/{id}/retry"));
    assert!(retry.send().await.unwrap().status().is_success());
    let job = post.until(&id, &["succeeded"]).await;
    assert_eq!(counts(&job["result"]), [3_000, 2_999, 0, 0, 1, 0], "nobody got it twice, or wanted nothing any more");
    assert_eq!(post.fcm.count(), 2_999);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_moves_and_is_shown_to_nobody() {
    let post = Post::open().await;
    let token = "dGhpcyBpcyBhIHRva2Vu:APA91bFsecretsecretsecret";
    let first = post.register(token, "anna").await;
    let again = post.register(token, "ben").await;
    assert_eq!(first, again);
    assert!(!post.is_there("anna").await);
    let list = post.platform.get("/devices?owner=ben").await;
    assert_eq!((&list["devices"][0]["token"], &list["devices"][0]["failures"]), (&json!("dGhp…cret"), &json!(0)));
    post.fcm.on(token, [Act::error(500, "INTERNAL")]);
    let id = post.send(json!({"owner": "ben"})).await;
    post.until(&id, &["retrying"]).await;
    post.hurry("push.send").await;
    let job = post.until(&id, &["succeeded"]).await;
    assert!(!job.to_string().contains(token));
    for line in post.worker.lines().iter().chain(&post.platform.api.lines()) {
        assert!(!line.contains("secretsecret") && !line.contains("ya29"), "{line}");
    }
    let delete = || post.platform.request("DELETE", &format!("/devices/{first}")).send();
    assert_eq!(delete().await.unwrap().status(), 204);
    assert_eq!(delete().await.unwrap().status(), 404);
    // What FCM would refuse is refused at once.
    let long = json!({"to": {"owner": "ben"}, "body": "x".repeat(4_097)});
    let answer = post.platform.submit("push.send", long).await;
    assert_eq!(answer.status(), 422);
    assert!(answer.text().await.unwrap().contains("payload_too_large"));
}
