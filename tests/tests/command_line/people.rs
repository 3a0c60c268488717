//! People, tenants and the audit log, as whoever runs a platform looks after them.

use super::*;

/// A hash of bcrypt; nobody logs in with it here.
const HASH: &str = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW";

#[tokio::test]
async fn people_are_invited_found_changed_and_deleted() {
    let platform = Platform::with(&[], 0).await;
    assert_eq!(error(&platform, &["users", "invite", "ada@example.org", "--tenant", "acme"], 4), "unknown_tenant");
    document(&platform, &["tenants", "create", "acme", "--app-url", "https://app.example.org"]);
    let invited = text(
        &platform,
        &["users", "invite", "ada@example.org", "--tenant", "acme", "--role", "admin", "--name", "Ada"],
    );
    assert!(invited.contains("ada@example.org is invited"), "{invited}");

    // The address in other letters, and an id, name the same person.
    let ada = document(&platform, &["users", "show", "Ada@Example.org"]);
    let id = ada["id"].as_str().unwrap();
    assert_eq!((&ada["role"], &ada["tenant"], &ada["has_password"]), (&json!("admin"), &json!("acme"), &json!(false)));
    assert_eq!(document(&platform, &["users", "show", id])["email"], "ada@example.org");
    // Part of a name is nobody's name.
    assert_eq!(error(&platform, &["users", "show", "ada"], 4), "unknown_user");
    let absent = "user-0198c0de000070008000000000000001";
    assert_eq!(error(&platform, &["users", "show", absent], 4), "unknown_user");

    let links = document(&platform, &["users", "links", "ada@example.org"]);
    let link = &links["links"][0];
    assert_eq!((&link["purpose"], &link["email"]), (&json!("invitation"), &json!("ada@example.org")));
    let url = link["url"].as_str().unwrap();
    assert!(url.starts_with("https://app.example.org/accept-invitation?token="), "{url}");
    // Only the newest works.
    document(&platform, &["users", "send-link", "ada@example.org"]);
    let again = document(&platform, &["users", "links", id])["links"].clone();
    assert_eq!(again.as_array().unwrap().len(), 1);
    assert_ne!(again[0]["url"], link["url"]);
    assert!(text(&platform, &["users", "links", id]).contains(again[0]["url"].as_str().unwrap()));

    assert_eq!(error(&platform, &["users", "change", "ada@example.org"], 2), "usage");
    let changed = document(
        &platform,
        &["users", "change", "ada@example.org", "--username", "ada", "--language", "fr", "--role", "user"],
    );
    assert_eq!(
        (&changed["username"], &changed["language"], &changed["role"]),
        (&json!("ada"), &json!("fr"), &json!("user"))
    );
    assert_eq!(document(&platform, &["users", "deactivate", "ADA"])["active"], false);
    let found = |arguments: &[&str]| {
        let list = document(&platform, &[&["users", "list", "--search", "ADA"], arguments].concat());
        list["users"].as_array().unwrap().len()
    };
    let counts = [&["--active"][..], &["--inactive"], &["--role", "admin"], &["--tenant", "acme"]].map(found);
    assert_eq!(counts, [0, 1, 0, 1]);
    let table = text(&platform, &["users", "list"]);
    assert!(table.lines().any(|line| line.starts_with(id) && line.ends_with("deactivated")), "{table}");
    assert_eq!(document(&platform, &["users", "activate", "ada"])["active"], true);
    assert_eq!(document(&platform, &["users", "sessions", "ada"])["sessions"], json!([]));
    document(&platform, &["users", "logout", "ada"]);
    assert_eq!(error(&platform, &["users", "remove-second-factor", "ada"], 4), "second_factor_missing");

    // Nobody is deleted unasked.
    assert_eq!(error(&platform, &["users", "delete", "ada"], 2), "usage");
    assert_eq!(document(&platform, &["users", "delete", "ada", "--yes"]), json!({"deleted": id, "data": "keep"}));
    assert_eq!(error(&platform, &["users", "show", id], 4), "unknown_user");

    let events = document(&platform, &["audit", "--target", id, "--all"])["events"].clone();
    let actions: Vec<_> = events.as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(actions.first(), Some(&"user.deleted"), "newest first");
    for action in
        ["user.created", "link.read", "link.requested", "user.role_changed", "user.deactivated", "user.activated"]
    {
        assert!(actions.contains(&action), "{action}: {actions:?}");
    }
    let listed = |arguments: &[&str]| {
        let page = document(&platform, &[&["audit", "--target", id], arguments].concat());
        page["events"].as_array().unwrap().len()
    };
    assert_eq!(listed(&["--action", "user.deleted", "--since", "1h", "--outcome", "success"]), 1);
    assert_eq!((listed(&["--until", "1h"]), listed(&["--outcome", "denied"]), listed(&["--limit", "2"])), (0, 0, 2));
    let table = text(&platform, &["audit", "--action", "user", "--tenant", "acme"]);
    assert!(table.contains("user.role_changed") && table.contains("from=admin to=user"), "{table}");
    assert!(!table.contains("link.read"), "{table}");
}

#[tokio::test]
async fn people_of_another_system_are_taken_but_for_lines_that_are_wrong() {
    let platform = Platform::with(&[], 0).await;
    document(&platform, &["tenants", "create", "acme"]);
    let file = platform.data().join("people.ndjson");
    let person = |email: &str| json!({"tenant": "acme", "email": email, "password_hash": HASH}).to_string();
    let lines = [
        person("ada@example.org"),
        String::new(),
        person("nobody"),
        r#"{"tenant": "acme", "mail": "x@example.org"}"#.to_owned(),
        person("bob@example.org"),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let import = ["users", "import", file.to_str().unwrap()];
    let output = run(&platform, &import);
    assert_eq!(code(&output), 1, "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let refused: Vec<_> = said.lines().filter(|line| line.starts_with("line ")).collect();
    assert!(refused[0].starts_with("line 3: ") && refused[0].contains("email"), "{said}");
    assert!(refused[1].starts_with("line 4: ") && refused[1].contains("mail"), "{said}");
    assert!(refused.len() == 2 && said.contains("2 people taken, 2 refused."), "{said}");
    assert!(!said.contains(HASH), "{said}");

    // What was taken is there, without an invitation.
    let ids: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    let bob = document(&platform, &["users", "show", "bob@example.org"]);
    assert_eq!(
        (&bob["id"], &bob["has_password"], &bob["email_confirmed"]),
        (&json!(ids[1]), &json!(true), &json!(true))
    );
    assert_eq!(document(&platform, &["users", "links", ids[0]])["links"], json!([]));

    // Nobody is taken twice.
    let again = run(&platform, &[&import[..], &["--json"]].concat());
    let lines = again.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let said: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    let codes: Vec<_> =
        said.iter().map(|line| (line["line"].as_u64().unwrap(), line["error"]["code"].as_str().unwrap())).collect();
    assert_eq!(codes, [(1, "name_taken"), (3, "invalid_request"), (4, "invalid_json"), (5, "name_taken")]);
    assert_eq!(error(&platform, &["users", "import", "/nowhere/people.ndjson"], 2), "usage");
}

#[tokio::test]
async fn tenants_are_made_changed_suspended_and_deleted() {
    let platform = Platform::with(&[], 0).await;
    let made = document(&platform, &["tenants", "create", "acme", "--title", "Acme Corp.", "--registration"]);
    assert_eq!((&made["title"], &made["registration"]), (&json!("Acme Corp."), &json!(true)));
    assert_eq!(error(&platform, &["tenants", "create", "acme"], 4), "name_taken");
    assert_eq!(error(&platform, &["tenants", "change", "acme"], 2), "usage");
    let changed = document(&platform, &["tenants", "change", "acme", "--registration", "off", "--title", ""]);
    assert_eq!((&changed["title"], &changed["registration"]), (&Value::Null, &json!(false)));
    assert!(document(&platform, &["tenants", "suspend", "acme"])["suspended_at"].is_string());
    assert!(text(&platform, &["tenants", "list"]).contains("suspended"));
    assert!(text(&platform, &["tenants", "resume", "acme"]).contains("goes on"));

    document(&platform, &["users", "invite", "ada@example.org", "--tenant", "acme"]);
    document(&platform, &["limits", "weight", "media", "acme", "3"]);
    let shown = document(&platform, &["tenants", "show", "acme"]);
    assert_eq!((&shown["people"], &shown["keys"]), (&json!(1), &json!(0)));
    let media = shown["queues"].as_array().unwrap().iter().find(|place| place["queue"] == "media").unwrap();
    assert_eq!(media["weight"], 3);
    let used = document(&platform, &["tenants", "usage", "acme", "--days", "7"]);
    assert_eq!((&used["succeeded"], &used["kinds"]), (&json!(0), &json!([])));
    assert!(text(&platform, &["tenants", "usage", "acme"]).contains("0 jobs succeeded"));

    assert_eq!(error(&platform, &["tenants", "delete", "acme"], 4), "tenant_not_empty");
    document(&platform, &["users", "delete", "ada@example.org", "--erase", "--yes"]);
    assert_eq!(document(&platform, &["tenants", "delete", "acme"]), json!({"deleted": "acme"}));
    assert_eq!(error(&platform, &["tenants", "show", "acme"], 4), "unknown_tenant");
    assert_eq!(document(&platform, &["tenants", "list"])["tenants"], json!([]));
}
