//! Making an account, confirming it, losing its password.

use fourmi_tests::GOOD_PASSWORD;
use serde_json::{Value, json};

use super::{mails, platform, post, post_as, register, status};
use crate::problem;

#[tokio::test(flavor = "multi_thread")]
async fn somebody_makes_an_account_confirms_it_and_logs_in() {
    let platform = platform().await;
    let wanted = json!({"tenant": "acme", "email": " Ada@Example.ORG ", "password": GOOD_PASSWORD, "name": "Ada", "language": "fr"});
    assert_eq!(post(&platform, "/auth/register", wanted).await.status(), 202);
    assert_eq!(problem(platform.try_login("ada@example.org", GOOD_PASSWORD).await, 403).await, "email_unconfirmed");

    let id = platform.user_id("ada@example.org").await;
    assert_eq!(mails(&platform).await, [(id.clone(), "confirm_email".to_owned())]);
    let token = platform.link_token(&id, "confirm_email").await;
    // Reading the mail is not enough: the password that was chosen is asked for, and a wrong one uses nothing up.
    let confirm = async |body: Value| post(&platform, "/auth/confirm-email", body).await;
    assert_eq!(problem(confirm(json!({"token": token})).await, 401).await, "credentials_invalid");
    assert_eq!(confirm(json!({"token": token, "password": GOOD_PASSWORD})).await.status(), 204);
    assert_eq!(problem(confirm(json!({"token": token, "password": GOOD_PASSWORD})).await, 422).await, "token_invalid");

    let ada = platform.login("ADA@example.org").await;
    assert_eq!((ada.info.email.as_deref(), ada.info.profile.name.as_deref()), (Some("ada@example.org"), Some("Ada")));
    assert_eq!(ada.info.tenant.as_ref().unwrap().as_str(), "acme");
    let job = json!({"kind": "audio.extract", "payload": {"source": {"url": "https://example.org/a.mp3"}}, "not_before": "2099-01-01T00:00:00Z"});
    let job: Value = post_as(&platform, &ada.token, "/jobs", job).await.json().await.unwrap();
    assert_eq!((&job["tenant"], &job["submitted_by"]), (&json!("acme"), &json!(ada.info.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_registers_learns_nothing_of_others() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    let (known, new) = (
        register(&platform, "ada@example.org", "a stranger's password 7").await,
        register(&platform, "new@example.org", "a stranger's password 7").await,
    );
    assert_eq!((known.status().as_u16(), new.status().as_u16()), (202, 202));
    assert_eq!(known.text().await.unwrap(), new.text().await.unwrap());
    // Whoever reads the mail is told, and the password is what it was.
    assert!(mails(&platform).await.contains(&(ada.info.id.to_string(), "already_registered".to_owned())));
    platform.login("ada@example.org").await;

    // Of two who take an address that nobody has confirmed, the one who reads its mail gets the account.
    let id = platform.user_id("new@example.org").await;
    let of_stranger = platform.link_token(&id, "confirm_email").await;
    assert_eq!(register(&platform, "new@example.org", GOOD_PASSWORD).await.status(), 202);
    let confirm = async |token: &str, password: &str| {
        post(&platform, "/auth/confirm-email", json!({"token": token, "password": password})).await
    };
    assert_eq!(problem(confirm(&of_stranger, "a stranger's password 7").await, 401).await, "credentials_invalid");
    assert_eq!(confirm(&of_stranger, GOOD_PASSWORD).await.status(), 204);
    platform.login("new@example.org").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_can_be_switched_off() {
    let platform = platform().await;
    let closed = json!({"registration": false});
    assert_eq!(platform.request("PATCH", "/tenants/acme").json(&closed).send().await.unwrap().status(), 200);
    assert_eq!(problem(register(&platform, "ada@example.org", GOOD_PASSWORD).await, 403).await, "registration_closed");
    let nowhere = json!({"tenant": "nowhere", "email": "ada@example.org", "password": GOOD_PASSWORD});
    assert_eq!(problem(post(&platform, "/auth/register", nowhere).await, 403).await, "registration_closed");

    let platform = fourmi_tests::Platform::with(&[("FOURMI_REGISTRATION", "off")], 0).await;
    platform.add_tenant("acme").await;
    assert_eq!(problem(register(&platform, "ada@example.org", GOOD_PASSWORD).await, 403).await, "registration_closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn weak_passwords_and_odd_addresses_are_refused() {
    let platform = platform().await;
    for password in ["short", "password1234", "acme2026", "ada@example.org", "aaaaaaaaaaaaaaaa", &"long ".repeat(30)] {
        assert_eq!(
            problem(register(&platform, "ada@example.org", password).await, 422).await,
            "weak_password",
            "{password}"
        );
    }
    // Look-alikes, headers of mails, and what is no address.
    for email in [
        "\u{430}da@example.org",
        "ada@example.org\r\nBcc: all@example.org",
        "ada\n@example.org",
        "ada@\u{202e}gro.elpmaxe",
        "ada\0@example.org",
        "ada",
        "ada@localhost",
        "ada@[127.0.0.1]",
        "a b@example.org",
        "",
    ] {
        assert_eq!(problem(register(&platform, email, GOOD_PASSWORD).await, 422).await, "invalid_request", "{email:?}");
    }
    for name in ["Ada\r\nBcc: all@example.org", "\u{202e}adA", ""] {
        let body = json!({"tenant": "acme", "email": "ada@example.org", "password": GOOD_PASSWORD, "name": name});
        assert_eq!(problem(post(&platform, "/auth/register", body).await, 422).await, "invalid_request", "{name:?}");
    }
    // A megabyte is not hashed.
    let huge = register(&platform, "ada@example.org", &"x".repeat(1 << 20)).await;
    assert_eq!(problem(huge, 413).await, "payload_too_large");
    assert_eq!(
        problem(platform.try_login("ada@example.org", &"x".repeat(200_000)).await, 401).await,
        "credentials_invalid"
    );
    assert!(mails(&platform).await.is_empty());
    // An address of another script has one form, in which nobody takes it for another.
    assert_eq!(register(&platform, "ada@\u{435}xample.org", GOOD_PASSWORD).await.status(), 202);
    let found = platform.get("/users?search=ada").await;
    assert_eq!(found["users"][0]["email"], "ada@xn--xample-2of.org");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_forgotten_is_chosen_anew() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    for email in ["ada@example.org", "nobody@example.org"] {
        let answer = post(&platform, "/auth/forgot-password", json!({"email": email})).await;
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (202, String::new()));
    }
    let id = ada.info.id.as_str();
    assert_eq!(mails(&platform).await[0], (id.to_owned(), "reset_password".to_owned()));
    let first = platform.link_token(id, "reset_password").await;
    // Nobody's letter box is filled by strangers; an admin may send it again, and then the newest works.
    let before = mails(&platform).await.len();
    assert_eq!(post(&platform, "/auth/forgot-password", json!({"email": "ada@example.org"})).await.status(), 202);
    assert_eq!(mails(&platform).await.len(), before);
    assert_eq!(platform.request("POST", &format!("/users/{id}/links")).send().await.unwrap().status(), 202);
    let newest = platform.link_token(id, "reset_password").await;
    let reset = async |token: &str, password: &str| {
        post(&platform, "/auth/reset-password", json!({"token": token, "password": password})).await
    };
    let (half, _) = newest.split_once('.').unwrap();
    for token in [first.as_str(), half, &format!("{half}.AAAA"), &format!("{newest}A"), "", "."] {
        assert_eq!(problem(reset(token, "another forty-two ants").await, 422).await, "token_invalid", "{token}");
    }
    assert_eq!(problem(reset(&newest, "ada12345").await, 422).await, "weak_password");
    assert_eq!(reset(&newest, "another forty-two ants").await.status(), 204);
    assert_eq!(problem(reset(&newest, "a third forty-two ants").await, 422).await, "token_invalid");

    assert_eq!(status(&platform, &ada.token).await, 401);
    let renewed = post(&platform, "/auth/refresh", json!({"refresh_token": ada.refresh})).await;
    assert_eq!(problem(renewed, 401).await, "session_over");
    assert_eq!(problem(platform.try_login("ada@example.org", GOOD_PASSWORD).await, 401).await, "credentials_invalid");
    assert_eq!(platform.try_login("ada@example.org", "another forty-two ants").await.status(), 200);
    let log = platform.api.lines().join("\n");
    for secret in [GOOD_PASSWORD, "another forty-two", &newest, &ada.token, &ada.refresh] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_ends_other_sessions() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    let elsewhere = platform.login("ada@example.org").await;
    let change = async |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        post_as(&platform, &ada.token, "/auth/change-password", body).await
    };
    assert_eq!(problem(change("wrong", "another forty-two ants").await, 401).await, "credentials_invalid");
    assert_eq!(problem(change(GOOD_PASSWORD, "12345678").await, 422).await, "weak_password");
    assert_eq!(change(GOOD_PASSWORD, "another forty-two ants").await.status(), 204);
    assert_eq!((status(&platform, &ada.token).await, status(&platform, &elsewhere.token).await), (200, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_changed_by_who_reads_the_new_one() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    platform.add_person("bob", "user", Some("acme")).await;
    let change = async |email: &str| {
        let body = json!({"email": email, "password": GOOD_PASSWORD});
        assert_eq!(post_as(&platform, &ada.token, "/auth/change-email", body).await.status(), 202);
    };
    // Whether an address is another's is not told.
    change("bob@example.org").await;
    change("lovelace@example.org").await;
    platform.login("ada@example.org").await;
    let token = platform.link_token(ada.info.id.as_str(), "confirm_email").await;
    assert_eq!(post(&platform, "/auth/confirm-email", json!({"token": token})).await.status(), 204);
    platform.login("lovelace@example.org").await;
    assert_eq!(problem(platform.try_login("ada@example.org", GOOD_PASSWORD).await, 401).await, "credentials_invalid");
    assert_eq!(mails(&platform).await[0], (ada.info.id.to_string(), "email_changed".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_of_earlier_systems_open_and_are_renewed() {
    let platform = platform().await;
    // Of GOOD_PASSWORD, made by the C library.
    let hash = "$2b$10$N9qo8uLOickgx2ZMRZoMyerOJikhBVOBH4T9rhmKneEye0yxLzsPa";
    let body = json!({"email": "old@example.org", "tenant": "acme", "password_hash": hash});
    assert_eq!(platform.request("POST", "/users").json(&body).send().await.unwrap().status(), 201);
    assert_eq!(problem(platform.try_login("old@example.org", "wrong").await, 401).await, "credentials_invalid");
    let first = platform.login("old@example.org").await;
    assert!(first.info.email_confirmed && mails(&platform).await.is_empty());
    platform.login("old@example.org").await;
    for hash in ["$2b$10$short", "md5:abc", "", "$argon2id$v=19$m=1,t=1,p=1$AAAA$AAAA"] {
        let body = json!({"email": "other@example.org", "tenant": "acme", "password_hash": hash});
        let answer = platform.request("POST", "/users").json(&body).send().await.unwrap();
        assert_eq!(problem(answer, 422).await, "invalid_request", "{hash}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_say_of_themselves_what_they_like() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    let change =
        async |body: Value| platform.request_as(&ada.token, "PATCH", "/auth/me").json(&body).send().await.unwrap();
    let wanted = json!({
        "username": "Ada.L", "name": "Ada Lovelace", "language": "fr", "time_zone": "Europe/Paris",
        "phone": "+33612345678", "preferences": {"notifications": {"push": true}},
    });
    let changed: Value = change(wanted).await.json().await.unwrap();
    assert_eq!((&changed["username"], &changed["phone"]), (&json!("ada.l"), &json!("+33612345678")));
    assert_eq!(changed["preferences"]["notifications"]["push"], true);
    platform.login("ADA.L").await;
    for body in [
        json!({"time_zone": "Mars/Olympus"}),
        json!({"phone": "0612345678"}),
        json!({"username": "a@b"}),
        json!({"username": "x"}),
        json!({"role": "admin"}),
        json!({"preferences": {"long": "x".repeat(17_000)}}),
    ] {
        assert_eq!(problem(change(body.clone()).await, 422).await, "invalid_request", "{body}");
    }
    let bob = platform.add_person("bob", "user", Some("acme")).await;
    let taken = platform.request_as(&bob.token, "PATCH", "/auth/me").json(&json!({"username": "ADA.l"}));
    assert_eq!(problem(taken.send().await.unwrap(), 409).await, "name_taken");
    let cleared: Value = change(json!({"username": "", "name": "", "phone": ""})).await.json().await.unwrap();
    assert_eq!((&cleared["username"], &cleared["name"]), (&json!("ada@example.org"), &Value::Null));
}
