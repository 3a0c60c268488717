//! Mails, from the job to a server that takes them, and back from the link that they carry.

use fourmi_tests::{Platform, Program, SmtpMode, SmtpServer, eventually_async};
use serde_json::{Value, json};

use crate::{answer, write_secret};

const PUBLIC_URL: &str = "https://fourmi.example.org";

/// A platform with a messaging worker, and a server that takes mails.
struct House {
    platform: Platform,
    _worker: Program,
    server: SmtpServer,
}

impl House {
    async fn open(mode: SmtpMode) -> Self {
        let server = SmtpServer::start(mode);
        let house = Self::without_account(server).await;
        write_secret(&house.platform, "smtp", &house.server.account());
        house
    }

    async fn without_account(server: SmtpServer) -> Self {
        let settings = [("FOURMI_PUBLIC_URL", PUBLIC_URL), ("FOURMI_RATE_LIMITS", "login=off,guess=off")];
        let platform = Platform::with(&settings, 0).await;
        let worker = platform.messaging_worker();
        Self { platform, _worker: worker, server }
    }

    /// Submits a mail, and gives the id of its job.
    async fn submit(&self, more: Value) -> String {
        let mut payload =
            json!({"to": ["ada@example.org"], "subject": "Hello", "text": "Hello Ada,\n\nhow are you?\n"});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let job = json!({"kind": "mail.send", "payload": payload});
        let job = answer(self.platform.request("POST", "/jobs").json(&job), 202).await;
        job["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a job looks so.
    async fn until(&self, id: &str, there: impl Fn(&Value) -> bool) -> Value {
        eventually_async(&format!("{id} gets there"), async || {
            Some(self.platform.get(&format!("/jobs/{id}")).await).filter(|job| there(job))
        })
        .await
    }

    /// Waits until a job is over.
    async fn ended(&self, id: &str) -> Value {
        self.until(id, |job| ["succeeded", "failed", "cancelled"].contains(&job["state"].as_str().unwrap())).await
    }

    async fn result(&self, id: &str) -> Value {
        let job = self.ended(id).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        job["result"].clone()
    }

    /// Waits for a failed attempt, and lets the next one come now.
    async fn hurry(&self, id: &str, code: &str) -> Value {
        let job = self.until(id, |job| job["state"] == "retrying").await;
        assert_eq!(job["error"]["code"], code, "{job}");
        let mails = json!({"ids": [id]});
        answer(self.platform.request("POST", "/queues/messaging/promote").json(&mails), 200).await;
        job
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_comes_once_with_all_its_parts() {
    let house = House::open(SmtpMode::Plain).await;
    let picture = [b"\x89PNG\r\n\x1a\n".as_slice(), &[0, 255, 13, 10, 46, 13, 10]].concat();
    let photo = house.platform.upload_bytes("photo.png", picture.clone()).await;
    let report = house.platform.upload_bytes("report.txt", "..\nlines\r\n.\r\nand dots\n").await;
    let id = house
        .submit(json!({
            "to": ["Ada Lovelace <Ada@example.org>"], "cc": ["bob@example.org"], "bcc": ["eve@example.org"],
            "subject": "Votre photo — élégante", "html": "<p>é <img src=\"cid:photo\">", "reply_to": "Desk <desk@example.org>",
            "attachments": [{"file": photo, "content_id": "photo"}, {"file": report, "name": "rapport été.txt"}],
            "headers": {"X-Ref": "7"},
        }))
        .await;
    let result = house.result(&id).await;
    let uuid = id.strip_prefix("messaging-").unwrap();
    assert_eq!(result["message_id"], format!("<{uuid}@mail.test>"), "{result}");
    assert_eq!(result["accepted"], json!(["ada@example.org", "bob@example.org", "eve@example.org"]));
    assert_eq!(result["suppressed"], json!([]));

    let mails = house.server.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let (mail, headers) = (&mails[0], &mails[0]["headers"]);
    assert_eq!(mail["from"], "fourmi@mail.test");
    assert_eq!(mail["to"], json!(["Ada@example.org", "bob@example.org", "eve@example.org"]));
    for (name, value) in [
        ("from", "Fourmi <fourmi@mail.test>"),
        ("to", "Ada Lovelace <Ada@example.org>"),
        ("cc", "bob@example.org"),
        ("reply-to", "Desk <desk@example.org>"),
        ("subject", "Votre photo — élégante"),
        ("x-ref", "7"),
        ("message-id", &format!("<{uuid}@mail.test>")),
    ] {
        assert_eq!(headers[name].as_str().unwrap().replace('"', ""), value, "{name}");
    }
    assert!(headers.get("bcc").is_none() && headers.get("list-unsubscribe").is_none(), "{headers}");
    assert!(headers["date"].is_string(), "{headers}");
    let parts = mail["parts"].as_array().unwrap();
    let types: Vec<_> = parts.iter().map(|part| part["type"].as_str().unwrap()).collect();
    assert_eq!((mail["type"].as_str().unwrap(), types.len()), ("multipart/mixed", 4), "{types:?}");
    assert_eq!(types[..3], ["text/plain", "text/html", "image/png"]);
    assert_eq!(parts[0]["text"].as_str().unwrap().replace("\r\n", "\n"), "Hello Ada,\n\nhow are you?\n");
    assert_eq!(parts[1]["text"].as_str().unwrap().trim(), "<p>é <img src=\"cid:photo\">");
    assert_eq!((&parts[2]["content_id"], &parts[2]["disposition"]), (&json!("<photo>"), &json!("inline")));
    assert_eq!((&parts[3]["name"], &parts[3]["disposition"]), (&json!("rapport été.txt"), &json!("attachment")));
    for (part, file) in [(&parts[2], photo), (&parts[3], report)] {
        let stored = house.platform.get(&format!("/files/{file}/info")).await;
        assert_eq!(part["sha256"], stored["sha256"], "{part}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_mails_come_through_servers_that_a_private_authority_vouches_for() {
    for mode in [SmtpMode::StartTls, SmtpMode::Implicit] {
        let house = House::open(mode).await;
        house.result(&house.submit(json!({})).await).await;
        let mails = house.server.mails();
        assert_eq!((&mails[0]["tls"], &mails[0]["user"]), (&json!(true), &json!("ada")), "{mode:?}");

        // Whoever nobody vouches for is told nothing.
        let mut account = house.server.account();
        account.as_object_mut().unwrap().remove("ca");
        write_secret(&house.platform, "strange", &account);
        let id = house.submit(json!({"account": "strange"})).await;
        house.until(&id, |job| job["error"]["code"] == "mail_unreachable").await;
        assert_eq!(house.server.mails().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_waits_for_an_account_that_works() {
    let house = House::without_account(SmtpServer::start(SmtpMode::StartTls)).await;
    let id = house.submit(json!({})).await;
    let parked = house.until(&id, |job| job["state"] == "parked").await;
    assert_eq!((&parked["parked_reason"], &parked["attempts"]), (&json!("not_configured"), &json!(0)), "{parked}");
    assert!(parked["error"]["message"].as_str().unwrap().contains("secrets/smtp"), "{parked}");

    // A wrong password is no reason to give up either, and stands nowhere.
    write_secret(&house.platform, "smtp", &house.server.account_with("wrong-password"));
    let refused = house
        .until(&id, |job| {
            job["state"] == "parked" && job["error"]["message"].as_str().unwrap().contains("user and password")
        })
        .await;
    assert!(refused["error"]["cause"].as_str().unwrap().starts_with("535 "), "{refused}");
    assert!(!refused.to_string().contains("wrong-password"), "{refused}");

    // Nor is none at all.
    let mut account = house.server.account();
    account["url"] = json!(format!("smtp://localhost:{}?tls=required", house.server.port()));
    write_secret(&house.platform, "smtp", &account);
    house
        .until(&id, |job| {
            job["state"] == "parked" && job["error"]["cause"].as_str().is_some_and(|cause| cause.starts_with("530 "))
        })
        .await;
    write_secret(&house.platform, "smtp", &house.server.account());
    house.result(&id).await;
    assert_eq!(house.server.mails().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_not_now_is_asked_again() {
    let house = House::open(SmtpMode::Plain).await;
    for (recipient, code) in [
        ("grey@example.org", "mail_deferred"),
        ("later@example.org", "mail_deferred"),
        ("cut@example.org", "mail_unreachable"),
    ] {
        let id = house.submit(json!({"to": [recipient]})).await;
        let waiting = house.hurry(&id, code).await;
        if recipient.starts_with("grey") {
            let due: jiff::Timestamp = waiting["due_at"].as_str().unwrap().parse().unwrap();
            let wait = due.duration_since(jiff::Timestamp::now()).as_secs();
            assert!(wait > 280, "a grey list wants five minutes: {waiting}");
        }
        let result = house.result(&id).await;
        assert_eq!(result["accepted"], json!([recipient]));
        let of_it: Vec<_> = house.server.mails().into_iter().filter(|mail| mail["to"] == json!([recipient])).collect();
        assert_eq!((of_it.len(), &of_it[0]["headers"]["message-id"]), (1, &result["message_id"]), "{recipient}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_whose_answer_was_lost_comes_again_under_the_same_id() {
    let house = House::open(SmtpMode::Plain).await;
    let id = house.submit(json!({"to": ["cutlate@example.org"]})).await;
    house.hurry(&id, "mail_unanswered").await;
    let result = house.result(&id).await;
    let mails = house.server.mails();
    assert_eq!(mails.len(), 2, "{mails:?}");
    assert!(mails.iter().all(|mail| mail["headers"]["message-id"] == result["message_id"]), "{mails:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_mail_was_taken_for_does_not_get_it_again() {
    let house = House::open(SmtpMode::Plain).await;
    let all = ["ada@example.org", "grey@example.org", "nobody@example.org", "policy@example.org"];
    let id = house.submit(json!({"to": all})).await;
    let waiting = house.hurry(&id, "mail_deferred").await;
    assert!(waiting["error"]["cause"].as_str().unwrap().starts_with("grey@example.org: 450 "), "{waiting}");
    let result = house.result(&id).await;
    assert_eq!(result["accepted"], json!(["ada@example.org", "grey@example.org"]));
    // Who is not there is known by now; who is not wanted was asked again.
    assert_eq!(result["suppressed"], json!(["nobody@example.org"]));
    assert_eq!(result["refused"][0]["address"], "policy@example.org");
    let sent: Vec<_> = house.server.mails().into_iter().map(|mail| mail["to"].clone()).collect();
    assert_eq!(sent, [json!(["ada@example.org"]), json!(["grey@example.org"])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_good_is_given_up_and_who_is_not_there_gets_nothing_more() {
    let house = House::open(SmtpMode::Plain).await;
    for (recipient, reply) in [
        ("nobody@example.org", "550 5.1.1"),
        ("bare@example.org", "550 not here"),
        ("policy@example.org", "550 5.7.1"),
        ("refuse@example.org", "554 5.6.0"),
    ] {
        let job = house.ended(&house.submit(json!({"to": [recipient]})).await).await;
        assert_eq!((&job["state"], &job["attempts"]), (&json!("failed"), &json!(1)), "{job}");
        assert_eq!(job["error"]["code"], "mail_refused", "{job}");
        assert!(job["error"]["cause"].as_str().unwrap().contains(reply), "{job}");
    }
    let list = house.platform.get("/suppressions?channel=mail").await;
    let list = list["suppressions"].as_array().unwrap().clone();
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!((&list[0]["address"], &list[0]["reason"]), (&json!("nobody@example.org"), &json!("bounced")));
    assert!(list[0]["note"].as_str().unwrap().starts_with("550 5.1.1"), "{list:?}");
    assert_eq!(house.server.mails().len(), 0);

    // It is not asked again, until somebody says that it is there.
    let again = house.submit(json!({"to": ["Nobody@example.org", "ada@example.org"]})).await;
    let result = house.result(&again).await;
    assert_eq!(
        (&result["suppressed"], &result["accepted"]),
        (&json!(["nobody@example.org"]), &json!(["ada@example.org"]))
    );
    assert_eq!(house.server.mails()[0]["headers"]["to"], "ada@example.org");
    let only = house.submit(json!({"to": ["nobody@example.org"]})).await;
    assert_eq!(house.result(&only).await["accepted"], json!([]));
    let path = "/suppressions?channel=mail&address=nobody@example.org";
    answer(house.platform.request("DELETE", path), 204).await;
    let job = house.ended(&house.submit(json!({"to": ["nobody@example.org"]})).await).await;
    assert_eq!(job["error"]["code"], "mail_refused", "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_that_are_down_wait_until_their_server_is_back() {
    let server = SmtpServer::start(SmtpMode::Plain);
    let (port, account) = (server.port(), server.account());
    let mut house = House::without_account(server).await;
    house.server = SmtpServer::start(SmtpMode::Plain);
    write_secret(&house.platform, "smtp", &account);
    let mut jobs = Vec::new();
    for _ in 0..5 {
        let id = house.submit(json!({})).await;
        house.until(&id, |job| job["error"]["code"] == "mail_unreachable").await;
        jobs.push(id);
    }
    // Five outages in a row are enough: the next is not tried.
    let next = house.submit(json!({})).await;
    let parked = house.until(&next, |job| job["state"] == "parked").await;
    assert_eq!((&parked["parked_reason"], &parked["attempts"]), (&json!("provider_down"), &json!(0)), "{parked}");
    house.server = SmtpServer::on(SmtpMode::Plain, port);
    house.result(&next).await;
    let all = json!({"ids": jobs});
    answer(house.platform.request("POST", "/queues/messaging/promote").json(&all), 200).await;
    for id in &jobs {
        house.result(id).await;
    }
    assert_eq!(house.server.mails().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_hangs_can_be_cancelled() {
    let house = House::open(SmtpMode::Plain).await;
    let id = house.submit(json!({"to": ["hang@example.org"]})).await;
    house.server.hangs().await;
    answer(house.platform.request("POST", &format!("/jobs/{id}/cancel")), 202).await;
    assert_eq!(house.ended(&id).await["state"], "cancelled");
    house.result(&house.submit(json!({})).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_that_are_too_large_are_refused_before_they_are_read() {
    let house = House::open(SmtpMode::Plain).await;
    let half = house.platform.upload_bytes("a.bin", vec![7; (10 << 20) + 1]).await;
    let two = json!({"attachments": [{"file": half}, {"file": half}]});
    let job = house.ended(&house.submit(two).await).await;
    assert_eq!((&job["error"]["code"], &job["attempts"]), (&json!("attachments_too_large"), &json!(1)), "{job}");
    let one = json!({"attachments": [{"file": half}]});
    house.result(&house.submit(one).await).await;
    let stored = house.platform.get(&format!("/files/{half}/info")).await;
    assert_eq!(house.server.mails()[0]["parts"][1]["sha256"], stored["sha256"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_the_link_of_bulk_mail_gets_no_more_of_it() {
    let house = House::open(SmtpMode::Plain).await;
    house.platform.add_tenant("acme").await;
    let bulk = json!({
        "kind": "mail.send", "tenant": "acme",
        "payload": {"to": ["Ada <ada@example.org>"], "subject": "News", "text": "News", "bulk": true},
    });
    let submit = async || {
        let job = answer(house.platform.request("POST", "/jobs").json(&bulk), 202).await;
        house.result(job["id"].as_str().unwrap()).await
    };
    submit().await;
    let headers = house.server.mails()[0]["headers"].clone();
    assert_eq!(headers["list-unsubscribe-post"], "List-Unsubscribe=One-Click");
    let link = headers["list-unsubscribe"].as_str().unwrap().replace(char::is_whitespace, "");
    let path = link.strip_prefix(&format!("<{PUBLIC_URL}")).unwrap().strip_suffix('>').unwrap();
    assert!(!path.contains("ada"), "the address stands in no log: {path}");

    // Looking at the page changes nothing: programs look at links before people do.
    let page =
        house.platform.open_request("GET", path).header("accept-language", "fr-FR, en;q=0.5").send().await.unwrap();
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    assert!(page.contains("<form method=\"post\">") && page.contains("Se désabonner"), "{page}");
    submit().await;
    for wrong in [format!("{path}x"), "/api/v1/unsubscribe/v1.AAAA".to_owned()] {
        let refused = house.platform.open_request("POST", &wrong).send().await.unwrap();
        assert_eq!(refused.status(), 403, "{wrong}");
    }
    for _ in 0..2 {
        let post = house.platform.open_request("POST", path).body("List-Unsubscribe=One-Click");
        let post = post.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
        assert_eq!(post.status(), 200);
        assert!(
            post.text().await.unwrap().contains("You will get no more"),
            "English is for whoever names no language"
        );
    }
    let result = submit().await;
    assert_eq!((&result["suppressed"], &result["accepted"]), (&json!(["ada@example.org"]), &json!([])));
    assert_eq!(house.server.mails().len(), 2);
    let list = house.platform.get("/suppressions?channel=mail&tenant=acme").await;
    assert_eq!(list["suppressions"][0]["reason"], "opted_out", "{list}");
    // Other tenants have not asked.
    let mut other = bulk.clone();
    other.as_object_mut().unwrap().remove("tenant");
    let job = answer(house.platform.request("POST", "/jobs").json(&other), 202).await;
    assert_eq!(house.result(job["id"].as_str().unwrap()).await["accepted"], json!(["ada@example.org"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_writes_to_its_people_in_their_language() {
    let house = House::without_account(SmtpServer::start(SmtpMode::Plain)).await;
    let tenant = json!({"name": "acme", "title": "Acme", "registration": true, "app_url": "https://app.acme.example/"});
    answer(house.platform.request("POST", "/tenants").json(&tenant), 201).await;
    let person = json!({"email": "ada@example.org", "name": "Ada", "tenant": "acme", "language": "fr"});
    let person = answer(house.platform.request("POST", "/users").json(&person), 201).await;
    let mails = house.platform.get("/jobs?kind=mail.notice").await;
    let id = mails["jobs"][0]["id"].as_str().unwrap().to_owned();
    // Without an account it waits, and the admin reads the link.
    house.until(&id, |job| job["state"] == "parked" && job["parked_reason"] == "not_configured").await;
    let link = house.platform.link_token(person["id"].as_str().unwrap(), "invitation").await;
    write_secret(&house.platform, "smtp", &house.server.account());
    let mail = house.server.wait_for(1).await.remove(0);
    assert_eq!(
        (&mail["to"], &mail["headers"]["auto-submitted"]),
        (&json!(["ada@example.org"]), &json!("auto-generated"))
    );
    assert_eq!(mail["headers"]["subject"], "Acme: vous êtes invité(e)");
    let text = mail["parts"][0]["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("Bonjour Ada,"), "{text}");
    let url = text.lines().find(|line| line.starts_with("https://")).unwrap().trim();
    let token = url.strip_prefix("https://app.acme.example/accept-invitation?token=").unwrap();
    assert_eq!(token, link);
    assert_eq!(house.result(&id).await["message_id"], mail["headers"]["message-id"]);
    let chosen = json!({"token": token, "password": fourmi_tests::GOOD_PASSWORD});
    answer(house.platform.open_request("POST", "/api/v1/auth/reset-password").json(&chosen), 204).await;
    let ada = house.platform.login("ada@example.org").await;

    // The old address is told that it is another now.
    let change = json!({"email": "countess@example.org", "password": fourmi_tests::GOOD_PASSWORD});
    let change = house.platform.request_as(&ada.token, "POST", "/auth/change-email").json(&change);
    assert_eq!(change.send().await.unwrap().status(), 202);
    let mail = house.server.wait_for(2).await.remove(1);
    assert_eq!(mail["to"], json!(["countess@example.org"]));
    let text = mail["parts"][0]["text"].as_str().unwrap().to_owned();
    let token = text.lines().find_map(|line| line.trim().split_once("confirm-email?token=")).unwrap().1;
    let confirm = house.platform.open_request("POST", "/api/v1/auth/confirm-email").json(&json!({"token": token}));
    answer(confirm, 204).await;
    let mail = house.server.wait_for(3).await.remove(2);
    assert_eq!(mail["to"], json!(["ada@example.org"]));
    assert_eq!(mail["headers"]["subject"], "Acme: votre adresse e-mail a été changée");
    let notices = house.platform.get("/jobs?kind=mail.notice").await;
    assert!(!notices.to_string().contains("@example.org"), "no address stands in a payload: {notices}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_works_no_more_is_not_sent() {
    let house = House::without_account(SmtpServer::start(SmtpMode::Plain)).await;
    house.platform.add_tenant("acme").await;
    let invite = json!({"email": "ada@example.org", "tenant": "acme"});
    let person = answer(house.platform.request("POST", "/users").json(&invite), 201).await;
    let user = person["id"].as_str().unwrap();
    let first = house.platform.get("/jobs?kind=mail.notice").await["jobs"][0]["id"].as_str().unwrap().to_owned();
    house.until(&first, |job| job["state"] == "parked").await;
    // Only the newest works.
    answer(house.platform.request("POST", &format!("/users/{user}/links")), 202).await;
    write_secret(&house.platform, "smtp", &house.server.account());
    assert_eq!(house.ended(&first).await["error"]["code"], "link_over");
    house.server.wait_for(1).await;

    std::fs::remove_file(house.platform.data().join("secrets/smtp")).unwrap();
    answer(house.platform.request("POST", &format!("/users/{user}/links")), 202).await;
    let mails = house.platform.get("/jobs?kind=mail.notice&state=parked&state=waiting&state=running").await;
    let id = mails["jobs"][0]["id"].as_str().unwrap().to_owned();
    house.until(&id, |job| job["state"] == "parked").await;
    answer(house.platform.request("DELETE", &format!("/users/{user}")), 204).await;
    write_secret(&house.platform, "smtp", &house.server.account());
    assert_eq!(house.ended(&id).await["error"]["code"], "person_gone");
    assert_eq!(house.server.mails().len(), 1);
}
