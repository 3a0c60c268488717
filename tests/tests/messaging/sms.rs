//! Text messages, of which none must be sent twice.

use std::{fs, process::Command, time::Duration};

use fourmi_kinds::{MaintenanceRetention, RetentionReport, sms_tag};
use fourmi_model::{JobId, RetentionClass, SmsState};
use fourmi_records::{NewSms, Records, SmsBegin, SmsIntent};
use fourmi_tests::{Platform, Program, SmsFault, SmsServer, eventually_async};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const MOBILE: &str = "+33612345678";

/// A platform with a messaging worker and an account, and a provider.
struct Post {
    platform: Platform,
    worker: Program,
    server: SmsServer,
}

impl Post {
    /// With an account with OVHcloud, which is asked for messages for ten minutes.
    async fn open() -> Self {
        let post = Self::without_account().await;
        post.write_account(&post.server.account(json!({})));
        post
    }

    /// The same, which is asked for messages for a moment only.
    async fn impatient() -> Self {
        let post = Self::without_account().await;
        post.write_account(&post.server.account(json!({"lookup_window_s": 0.5})));
        post
    }

    async fn without_account() -> Self {
        let server = SmsServer::start().await;
        let platform = Platform::with(&[("FOURMI_EGRESS_ALLOW", "127.0.0.1")], 0).await;
        let worker = platform.messaging_worker();
        Self { platform, worker, server }
    }

    fn write_account(&self, account: &Value) {
        let folder = self.platform.data().join("secrets");
        fs::create_dir_all(&folder).unwrap();
        // At once, so that nobody reads half of it.
        fs::write(folder.join("sms.new"), account.to_string()).unwrap();
        fs::rename(folder.join("sms.new"), folder.join("sms")).unwrap();
    }

    /// Submits a message and gives its job.
    async fn submit(&self, more: Value) -> String {
        let mut payload = json!({"to": MOBILE, "text": "Hello", "purpose": "transactional"});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.platform.submit("sms.send", payload).await;
        let (status, job) = (answer.status(), answer.json::<Value>().await.unwrap());
        assert_eq!(status, 202, "{job}");
        job["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a job is over, or waits for somebody.
    async fn settled(&self, id: &str) -> Value {
        eventually_async("the job is over or parked", async || {
            let job = self.platform.get(&format!("/jobs/{id}")).await;
            let state = job["state"].as_str().unwrap();
            matches!(state, "succeeded" | "failed" | "cancelled" | "parked").then_some(job)
        })
        .await
    }

    /// Waits until a message is sent, and gives the result.
    async fn sent(&self, id: &str) -> Value {
        let job = self.settled(id).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        job["result"].clone()
    }

    /// Waits until a job has failed, and gives the code of its error.
    async fn failed(&self, id: &str) -> String {
        let job = self.settled(id).await;
        assert_eq!(job["state"], "failed", "{job}");
        job["error"]["code"].as_str().unwrap().to_owned()
    }

    /// Waits until it is up to a person.
    async fn uncertain(&self, id: &str) {
        let job = self.settled(id).await;
        assert_eq!((&job["state"], &job["parked_reason"]), (&json!("parked"), &json!("uncertain")), "{job}");
    }

    async fn act(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self.platform.request("POST", path).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn decide(&self, id: &str, sent: bool) -> (u16, Value) {
        self.act(&format!("/sms/{id}/decision"), json!({"sent": sent})).await
    }

    /// How often the provider has a message.
    fn times(&self, id: &str) -> usize {
        self.server.count(&tag(id))
    }

    /// Waits until a job asks for the receipt of a message, which is the only one, and gives its id.
    async fn receipt(&self) -> String {
        eventually_async("there is a job for the receipt", async || {
            let list = self.platform.get("/jobs?kind=sms.receipt").await;
            list["jobs"].as_array().unwrap().first().map(|job| job["id"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// The records, as another program opens them.
    async fn records(&self) -> Records {
        Records::open(&self.platform.data().join("records.db")).await.unwrap()
    }

    fn command(&self, arguments: &[&str]) -> (bool, String) {
        let done = Command::new(Program::path("fourmi"))
            .args(arguments)
            .args(["--url", self.platform.url()])
            .envs(self.platform.settings().iter().map(|(name, value)| (*name, value.as_str())))
            .output()
            .unwrap();
        let text = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(text).unwrap())
    }
}

/// What a message is known by at the provider.
fn tag(id: &str) -> String {
    sms_tag(&id.parse().unwrap())
}

/// Notes that a run of a job sends a message.
async fn note(records: &Records, job: &str, run: u64, now: Timestamp) -> SmsIntent {
    let new = NewSms {
        job: job.parse::<JobId>().unwrap(),
        run,
        tenant: None,
        account: "sms".to_owned(),
        recipient: MOBILE.to_owned(),
        tag: tag(job),
        credits: 1_000,
        limit: None,
        number_limits: Vec::new(),
        now,
    };
    let SmsBegin::Send(intent) = records.begin_sms(&new).await.unwrap() else { panic!("it is noted already") };
    intent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_once_and_says_what_it_costs() {
    let post = Post::open().await;
    let id = post.submit(json!({"text": "Prêt : l’œuvre", "transliterate": true})).await;
    let result = post.sent(&id).await;
    assert_eq!(
        result,
        json!({
            "provider": "ovh", "ids": ["1000"], "encoding": "gsm7", "characters": 15, "segments": 1, "credits": 1.5,
            "recipient": MOBILE, "state": "accepted",
        })
    );
    let taken = post.server.taken();
    assert_eq!((taken.len(), &taken[0].tag), (1, &tag(&id)));
    let body = &taken[0].body;
    assert_eq!((&body["message"], &body["receivers"]), (&json!("Pret : l'oeuvre"), &json!([MOBILE])));
    assert_eq!((&body["sender"], &body["noStopClause"]), (&json!("Fourmi"), &json!(true)));
    // It has nothing to be decided.
    let (status, problem) = post.decide(&id, false).await;
    assert_eq!((status, &problem["code"]), (409, &json!("not_uncertain")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_does_no_harm() {
    let post = Post::open().await;
    post.server.set_ahead(5_000);
    post.sent(&post.submit(json!({})).await).await;
    assert_eq!(post.server.times(), 1);
    // It is set while the worker runs.
    post.server.set_ahead(-5_000);
    post.sent(&post.submit(json!({})).await).await;
    assert_eq!((post.server.times(), post.server.taken().len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_took_before_it_failed_is_found_by_its_tag() {
    let post = Post::open().await;
    for fault in [SmsFault::TakenWith(500), SmsFault::TakenWith(503), SmsFault::TakenAndCut] {
        let posts = post.server.posts();
        post.server.misbehave([fault.clone()]);
        let id = post.submit(json!({})).await;
        let result = post.sent(&id).await;
        assert_eq!((post.times(&id), post.server.posts()), (1, posts + 1), "{fault:?}");
        assert_eq!((&result["state"], &result["credits"]), (&json!("accepted"), &json!(1.5)), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_shows_late_is_waited_for() {
    let post = Post::open().await;
    post.server.hide_tags(true);
    post.server.misbehave([SmsFault::TakenAndCut]);
    let id = post.submit(json!({})).await;
    post.server.wait_for_lookups(1).await;
    post.server.hide_tags(false);
    post.sent(&id).await;
    assert_eq!((post.times(&id), post.server.posts()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_silent_is_asked_for_what_it_has() {
    let post = Post::impatient().await;
    post.server.misbehave([SmsFault::TakenAndSilent, SmsFault::Silent]);
    let first = post.submit(json!({})).await;
    post.server.wait_for_posts(1).await;
    let second = post.submit(json!({})).await;
    post.sent(&first).await;
    post.uncertain(&second).await;
    assert_eq!((post.times(&first), post.times(&second), post.server.posts()), (1, 0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_in_between_leaves_one_message() {
    let mut post = Post::open().await;
    post.server.misbehave([SmsFault::TakenAndSilent]);
    let id = post.submit(json!({})).await;
    post.server.wait_for_posts(1).await;
    post.worker.kill();
    post.worker = post.platform.messaging_worker();
    post.sent(&id).await;
    assert_eq!((post.times(&id), post.server.posts()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_decides_what_nobody_knows() {
    let post = Post::impatient().await;
    for (fault, was_sent) in [(SmsFault::Cut, true), (SmsFault::Outage(500), false)] {
        let posts = post.server.posts();
        post.server.misbehave([fault.clone()]);
        let id = post.submit(json!({})).await;
        post.uncertain(&id).await;
        // Letting it run decides nothing.
        assert_eq!(post.act(&format!("/jobs/{id}/retry"), json!({})).await.0, 200);
        post.uncertain(&id).await;
        assert_eq!((post.times(&id), post.server.posts()), (0, posts + 1), "{fault:?}");
        let (status, job) = post.decide(&id, was_sent).await;
        assert_eq!(status, 200, "{job}");
        let ids = post.sent(&id).await["ids"].as_array().unwrap().len();
        let sent_now = usize::from(!was_sent);
        assert_eq!((ids, post.times(&id)), (sent_now, sent_now), "{fault:?}");
        assert_eq!(post.server.posts(), posts + 1 + sent_now, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_is_wrong_has_no_message_sent_twice() {
    let post = Post::impatient().await;
    post.server.hide_tags(true);
    post.server.misbehave([SmsFault::TakenAndCut]);
    let id = post.submit(json!({})).await;
    post.uncertain(&id).await;
    post.server.hide_tags(false);
    assert_eq!(post.decide(&id, false).await.0, 200);
    let result = post.sent(&id).await;
    assert_eq!((post.times(&id), post.server.posts()), (1, 1));
    assert_eq!(
        (&result["ids"], &result["credits"], &result["state"]),
        (&json!(["1000"]), &json!(1.5), &json!("accepted"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_decides_on_a_job_that_goes_on_by_itself() {
    let post = Post::open().await;
    post.server.hide_tags(true);
    post.server.misbehave([SmsFault::TakenAndCut]);
    let id = post.submit(json!({})).await;
    post.server.wait_for_lookups(1).await;
    fs::remove_file(post.platform.data().join("secrets").join("sms")).unwrap();
    let job = post.settled(&id).await;
    assert_eq!((&job["state"], &job["parked_reason"]), (&json!("parked"), &json!("not_configured")), "{job}");
    let (status, problem) = post.decide(&id, false).await;
    assert_eq!((status, &problem["code"]), (409, &json!("not_uncertain")));

    post.server.hide_tags(false);
    post.write_account(&post.server.account(json!({})));
    eventually_async("it is over", async || {
        (post.platform.get(&format!("/jobs/{id}")).await["state"] == "succeeded").then_some(())
    })
    .await;
    assert_eq!((post.times(&id), post.server.posts()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_doubt_is_not_given_up_with_its_last_attempt() {
    let post = Post::open().await;
    for (fault, was_sent) in [(SmsFault::TakenWith(500), true), (SmsFault::Outage(500), false)] {
        post.server.misbehave([fault]);
        let payload = json!({"to": MOBILE, "text": "Hello", "purpose": "transactional"});
        let job = json!({"kind": "sms.send", "payload": payload, "policy": {"attempts": 1}});
        let answer = post.platform.request("POST", "/jobs").json(&job).send().await.unwrap();
        let job: Value = answer.json().await.unwrap();
        let id = job["id"].as_str().unwrap();
        post.uncertain(id).await;
        assert_eq!(post.decide(id, was_sent).await.0, 200);
        post.sent(id).await;
        assert_eq!(post.times(id), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_number_fell_back_does_not_take_a_message_for_sent() {
    let post = Post::without_account().await;
    let id = post.submit(json!({})).await;
    let run = post.settled(&id).await["run"].as_u64().unwrap();
    // Redis has forgotten the run after this one, which could not send the message.
    let records = post.records().await;
    let intent = note(&records, &id, run + 1, Timestamp::now()).await;
    assert!(records.settle_sms(&intent, SmsState::Unsent, None, 0).await.unwrap());
    post.write_account(&post.server.account(json!({})));
    let job = eventually_async("it is over", async || {
        let job = post.platform.get(&format!("/jobs/{id}")).await;
        (job["state"] == "succeeded").then_some(job)
    })
    .await;
    assert_eq!((post.times(&id), post.server.posts(), &job["run"]), (1, 1, &json!(run + 2)), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_certainly_not_sent_is_sent_later() {
    let post = Post::open().await;
    post.server.misbehave([SmsFault::TooMany(1)]);
    let id = post.submit(json!({})).await;
    post.sent(&id).await;
    assert_eq!((post.times(&id), post.server.posts(), post.server.lookups()), (1, 2, 0));

    // Nobody listens there: nothing is sent, and nobody is asked.
    post.write_account(&post.server.account(json!({"endpoint": "http://127.0.0.1:1/1.0"})));
    let id = post.submit(json!({})).await;
    eventually_async("the attempt fails", async || {
        let job = post.platform.get(&format!("/jobs/{id}")).await;
        (job["error"]["code"] == "provider_unavailable").then_some(())
    })
    .await;
    post.write_account(&post.server.account(json!({})));
    post.sent(&id).await;
    assert_eq!((post.times(&id), post.server.posts(), post.server.lookups()), (1, 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_refuses_is_given_up_and_can_be_sent_again() {
    let post = Post::open().await;
    for (fault, code) in [
        (SmsFault::InvalidReceiver, "invalid_number"),
        (SmsFault::Free, "no_credit"),
        (SmsFault::Refuse(402, "PAYMENT", "Not enough credits"), "no_credit"),
        (SmsFault::Refuse(403, "CLIENT_FORBIDDEN", "Sender Fourmi is not validated"), "sender_not_validated"),
        (SmsFault::Refuse(400, "BAD_REQUEST", "message is malformed"), "provider_refused"),
    ] {
        post.server.misbehave([fault]);
        let id = post.submit(json!({})).await;
        assert_eq!(post.failed(&id).await, code);
        assert_eq!(post.times(&id), 0);
        assert_eq!(post.act(&format!("/jobs/{id}/retry"), json!({})).await.0, 200);
        post.sent(&id).await;
        assert_eq!(post.times(&id), 1, "{code}");
    }
    assert_eq!(post.server.lookups(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_an_account_and_for_keys_that_are_right() {
    let post = Post::without_account().await;
    let id = post.submit(json!({})).await;
    let job = post.settled(&id).await;
    assert_eq!((&job["state"], &job["parked_reason"]), (&json!("parked"), &json!("not_configured")));
    let (_, said) = post.command(&["sms", "test", "--to", MOBILE]);
    assert!(said.contains("the message waits") && said.contains("secrets/sms"), "{said}");

    // The key is one of another application.
    let before = post.server.times();
    post.write_account(&post.server.account(json!({"consumer_key": "of-somebody-else"})));
    eventually_async("the keys are refused", async || {
        let job = post.platform.get(&format!("/jobs/{id}")).await;
        let message = job["error"]["message"].as_str().unwrap_or_default().to_owned();
        (job["state"] == "parked" && message.contains("renew the consumer key")).then_some(())
    })
    .await;
    assert!(post.server.times() > before && post.server.posts() == 0);
    post.write_account(&post.server.account(json!({})));
    eventually_async("both are sent", async || (post.server.taken().len() == 2).then_some(())).await;
    eventually_async("it is over", async || {
        (post.platform.get(&format!("/jobs/{id}")).await["state"] == "succeeded").then_some(())
    })
    .await;
    assert_eq!(post.times(&id), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_sent_is_not() {
    let post = Post::without_account().await;
    let landline = json!({"to": "+33123456789", "text": "Hello", "purpose": "transactional"});
    let refused = post.platform.submit("sms.send", landline).await;
    assert_eq!(refused.status(), 422);
    let problem = refused.json::<Value>().await.unwrap();
    assert_eq!(problem["errors"][0]["path"], "payload.to", "{problem}");

    // Without a sender, and with little to spend.
    post.write_account(&post.server.account(json!({"sender": null, "monthly_limit": 2, "daily_per_number": 1})));
    for text in ["See https://example.org/x", "See example.org/x"] {
        let code = post.failed(&post.submit(json!({"text": text})).await).await;
        assert_eq!(code, "url_not_allowed_with_short_number", "{text}");
    }
    let code = post.failed(&post.submit(json!({"expires_at": "2020-01-01T00:00:00Z"})).await).await;
    assert_eq!(code, "expired");
    let code = post.failed(&post.submit(json!({"text": "a".repeat(400)})).await).await;
    assert_eq!(code, "spending_limit");
    post.sent(&post.submit(json!({})).await).await;
    assert_eq!(post.failed(&post.submit(json!({})).await).await, "number_limit");
    // It has cost 1.5 of 2.
    assert_eq!(post.failed(&post.submit(json!({"to": "+33756789012"})).await).await, "spending_limit");
    assert_eq!(post.server.posts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_confirmed_and_dead_numbers_get_nothing_more() {
    let post = Post::open().await;
    let id = post.submit(json!({})).await;
    let ids = post.sent(&id).await["ids"].clone();
    let receipt = post.receipt().await;
    let (is_done, path) = post.command(&["sms", "receipts"]);
    assert!(is_done && path.starts_with("/api/v1/sms/receipts/sms."), "{path}");
    let call = async |path: &str| {
        let query =
            format!("{path}?id={}&ptt=4&date=20261129&description=1&descriptionDlr=x", ids[0].as_str().unwrap());
        post.platform.open_request("GET", &query).send().await.unwrap().status().as_u16()
    };
    assert_eq!(call("/api/v1/sms/receipts/sms.AAAA").await, 404);
    // What it says is a hint: the message has not arrived.
    assert_eq!(call(path.trim()).await, 200);
    post.server.wait_for_receipts(1).await;
    eventually_async("it is asked again later", async || {
        (post.platform.get(&format!("/jobs/{receipt}")).await["state"] == "retrying").then_some(())
    })
    .await;
    post.server.set_ptt(23);
    assert_eq!(call(path.trim()).await, 200);
    let job = post.settled(&receipt).await;
    assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("undelivered")), "{job}");

    let code = post.failed(&post.submit(json!({})).await).await;
    assert_eq!((code.as_str(), post.server.posts()), ("opted_out", 1));
    post.server.set_ptt(4);
    post.sent(&post.submit(json!({"to": "+33756789012"})).await).await;
    eventually_async("the second has arrived", async || {
        let list = post.platform.get("/jobs?kind=sms.receipt&state=succeeded").await;
        list["jobs"].as_array().unwrap().first().filter(|job| job["result"]["state"] == "delivered").map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_pending_is_asked_for_again() {
    let post = Post::open().await;
    post.server.set_ptt(4);
    post.server.delay_tags(Duration::from_secs(3_600));
    post.sent(&post.submit(json!({})).await).await;
    let receipt = post.receipt().await;
    let ask_now = async || assert_eq!(post.act("/queues/messaging/promote", json!({"ids": [receipt]})).await.0, 200);
    ask_now().await;
    post.server.wait_for_receipts(1).await;
    let waiting = eventually_async("it is asked again later", async || {
        let job = post.platform.get(&format!("/jobs/{receipt}")).await;
        (job["state"] == "retrying").then_some(job)
    })
    .await;
    assert_eq!(waiting["error"]["code"], "not_delivered_yet", "{waiting}");
    post.server.show();
    ask_now().await;
    let job = post.settled(&receipt).await;
    assert_eq!((&job["state"], &job["result"]["state"]), (&json!("succeeded"), &json!("delivered")), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_the_provider_does_not_know_is_for_the_operator() {
    let post = Post::without_account().await;
    post.write_account(&post.server.account(json!({"service": "sms-yy67890-1"})));
    let id = post.submit(json!({})).await;
    let job = post.settled(&id).await;
    assert_eq!((&job["state"], &job["parked_reason"]), (&json!("parked"), &json!("not_configured")), "{job}");
    assert!(job["error"]["message"].as_str().unwrap().contains("sms-yy67890-1"), "{job}");
    post.write_account(&post.server.account(json!({})));
    eventually_async("it is over", async || {
        (post.platform.get(&format!("/jobs/{id}")).await["state"] == "succeeded").then_some(())
    })
    .await;
    assert_eq!((post.times(&id), post.server.posts(), post.server.lookups()), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_plain_json_sends_too() {
    let post = Post::without_account().await;
    post.write_account(&post.server.plain_account(json!({"lookup_window_s": 0.5})));
    let faults = [SmsFault::TakenWith(500), SmsFault::TakenWith(302), SmsFault::TakenAndCut, SmsFault::TooMany(1)];
    for fault in [None].into_iter().chain(faults.map(Some)) {
        post.server.misbehave(fault.clone());
        let id = post.submit(json!({})).await;
        let result = post.sent(&id).await;
        assert_eq!((&result["provider"], post.times(&id)), (&json!("http"), 1), "{fault:?}");
    }
    let end = "2099-01-01T00:00:00Z";
    post.sent(&post.submit(json!({"expires_at": end})).await).await;
    let taken = post.server.taken();
    let (first, last) = (&taken[0].body, &taken[taken.len() - 1].body);
    assert_eq!((&first["purpose"], first.get("expires_at")), (&json!("transactional"), None), "{first}");
    assert_eq!(last["expires_at"], end, "{last}");
    post.server.misbehave([SmsFault::Cut]);
    let id = post.submit(json!({})).await;
    post.uncertain(&id).await;
    assert!(post.command(&["sms", "decide", &id, "--not-sent"]).0);
    post.sent(&id).await;
    assert_eq!(post.times(&id), 1);
    post.server.misbehave([SmsFault::Refuse(422, "not_mobile", "no mobile telephone")]);
    assert_eq!(post.failed(&post.submit(json!({})).await).await, "not_mobile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_counted_before_it_is_sent() {
    let post = Post::open().await;
    let (status, plain) = post.act("/sms/estimate", json!({"text": "Fête"})).await;
    let size = json!({"encoding": "ucs2", "characters": 4, "segments": 1, "credits": 1.0, "text": "Fête"});
    assert_eq!((status, plain), (200, size));
    let (status, of_nobody) = post.act("/sms/estimate", json!({"text": "Fête", "account": "nobody"})).await;
    assert_eq!((status, of_nobody.get("credits")), (200, None), "{of_nobody}");
    assert_eq!(post.act("/sms/estimate", json!({"text": "Fête", "account": "../api-key"})).await.0, 422);
    let (is_done, said) = post.command(&["sms", "estimate", "Fête", "--transliterate"]);
    assert!(
        is_done && said.contains("1 part, 4 characters of GSM 03.38, 1 credit\n") && said.contains("Fete"),
        "{said}"
    );
    post.write_account(&post.server.account(json!({"credits_per_segment": 1.4})));
    let (_, long) = post.act("/sms/estimate", json!({"text": "a".repeat(400)})).await;
    assert_eq!((&long["segments"], &long["credits"]), (&json!(3), &json!(4.2)), "{long}");
    let (is_done, said) = post.command(&["sms", "test", "--to", MOBILE]);
    assert!(is_done && said.contains("ovh has the message for +33612345678 as 1000: 1 part, 1.5 credits"), "{said}");
    assert!(!post.command(&["sms", "test", "--to", "+33123456789"]).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_some_tenants_is_for_their_jobs_alone() {
    let post = Post::without_account().await;
    post.write_account(&post.server.account(json!({"tenants": ["kiosks"]})));
    let refused = post.settled(&post.submit(json!({})).await).await;
    assert_eq!((&refused["state"], &refused["error"]["code"]), (&json!("failed"), &json!("account_forbidden")));

    let payload = json!({"to": MOBILE, "text": "Hello", "purpose": "transactional"});
    let job = json!({"kind": "sms.send", "tenant": "kiosks", "payload": payload});
    let answer = post.platform.request("POST", "/jobs").json(&job).send().await.unwrap();
    let job: Value = answer.json().await.unwrap();
    let sent = post.settled(job["id"].as_str().unwrap()).await;
    assert_eq!(sent["state"], "succeeded", "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_may_still_ask_for_outlives_retention() {
    let post = Post::without_account().await;
    let _maintenance = post.platform.maintenance_worker();
    let (records, long_ago) = (post.records().await, Timestamp::now() - SignedDuration::from_hours(100 * 24));
    // One whose job is in its queue, one whose job nobody knows any more, and one in doubt.
    let waiting = post.submit(json!({})).await;
    post.settled(&waiting).await;
    let [gone, in_doubt] = [1, 2].map(|number| format!("messaging-0198c0de-0000-7000-8000-00000000000{number}"));
    for job in [&waiting, &gone] {
        let intent = note(&records, job, 1, long_ago).await;
        assert!(records.settle_sms(&intent, SmsState::Accepted, Some(job), 1_000).await.unwrap());
    }
    note(&records, &in_doubt, 1, long_ago).await;
    for dry_run in [true, false] {
        let retention = MaintenanceRetention { only: vec![RetentionClass::Messages], days: Some(30), dry_run };
        let handle = post.platform.client.submit(&retention).send().await.unwrap();
        let RetentionReport { classes, .. } = handle.output().await.unwrap();
        assert_eq!((classes.len(), classes[0].deleted, classes[0].held), (1, 1, 2), "{classes:?}");
        for (job, is_known) in [(&waiting, true), (&gone, dry_run), (&in_doubt, true)] {
            let intent = records.sms(&job.parse().unwrap()).await.unwrap();
            assert_eq!(intent.is_some(), is_known, "{job}");
        }
    }
}
