//! Who may do what, written down: every route of the OpenAPI document, by whoever may come, on what belongs to one tenant.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use fourmi_tests::{GOOD_PASSWORD, Person, Platform};
use futures_util::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

/// A row a route: what it is about (which belongs to `user`, of the tenant acme), and what everybody is answered.
///
/// `nobody` shows nothing; `user` and `peer` are of acme, and so is its `admin`; `stranger` and `foreign` (an admin) are of
/// another tenant; `super` is a super admin. `+` after a status says that the answer names what the row is about, `-` that it
/// does not: lists answer everybody, but not alike. Where a row says 404, the answer must be the one for what does not exist.
const TABLE: &str = "
operation                 about    nobody user peer admin stranger foreign super
submit_job                -        401    202  202  202   202      202     202
submit_jobs               -        401    200  200  200   200      200     200
submit_flow               -        401    202  202  202   202      202     202
list_jobs                 job      401    200+ 200- 200+  200-     200-    200+
get_job                   job      401    200+ 404  200+  404      404     200+
change_job                job      401    200+ 404  200+  404      404     200+
cancel_job                job      401    200+ 404  200+  404      404     200+
retry_job                 job      401    200+ 404  200+  404      404     200+
delete_job                over     401    204  404  204   404      404     204
list_runs                 job      401    200  404  200   404      404     200
read_log                  job      401    200  404  200   404      404     200
explain_job               job      401    200+ 404  200+  404      404     200+
act_on_jobs               job      401    200+ 200- 200+  200-     200-    200+
follow_job                job      401    200  404  200   404      404     200
follow_jobs               -        401    200  200  200   200      200     200
get_flow                  batch    401    200+ 404  200+  404      404     200+
follow_batch              batch    401    200  404  200   404      404     200
upload_file               -        401    201  201  201   201      201     201
download_file             file     401    200  404  200   404      404     200
head_file                 file     401    200  404  200   404      404     200
download_file_named       file     401    200  404  200   404      404     200
head_file_named           file     401    200  404  200   404      404     200
get_file                  file     401    200+ 404  200+  404      404     200+
create_link               file     401    200+ 404  200+  404      404     200+
delete_file               file     401    204  404  204   404      404     204
describe_uploads          -        204    204  204  204   204      204     204
create_upload             -        401    201  201  201   201      201     201
head_upload               upload   401    200  404  200   404      404     200
append_upload             upload   401    204  404  204   404      404     204
override_upload           upload   401    204  404  204   404      404     204
delete_upload             upload   401    204  404  204   404      404     204
create_webhook            -        401    201  201  201   201      201     201
list_webhooks             webhook  401    200+ 200- 200+  200-     200-    200+
get_webhook               webhook  401    200+ 404  200+  404      404     200+
change_webhook            webhook  401    200+ 404  200+  404      404     200+
delete_webhook            webhook  401    204  404  204   404      404     204
rotate_webhook            webhook  401    200+ 404  200+  404      404     200+
test_webhook              webhook  401    202  404  202   404      404     202
list_deliveries           webhook  401    200  404  200   404      404     200
redeliver                 webhook  401    202  404  202   404      404     202
estimate_sms              -        401    200  200  200   200      200     200
decide_sms                job      401    409  404  409   404      404     409
get_sms_receipt_address   -        401    403  403  403   403      403     200
take_sms_receipt          -        404    404  404  404   404      404     404
register_device           -        401    201  201  201   201      201     201
list_devices              device   401    200+ 200- 200+  200-     200-    200-
delete_device             device   401    204  404  204   404      404     204
list_suppressions         suppression 401 403 403 200+ 403     200-    200+
add_suppression           -        401    403  403  201  403      201     201
remove_suppression        suppression 401 403 403 204  403     404     204
ask_to_unsubscribe        -        403    403  403  403  403      403     403
unsubscribe               -        403    403  403  403  403      403     403
create_schedule           -        401    201  201  201   201      201     201
list_schedules            schedule 401    200+ 200- 200+  200-     200-    200+
get_schedule              schedule 401    200+ 404  200+  404      404     200+
replace_schedule          schedule 401    200+ 404  200+  404      404     200+
delete_schedule           schedule 401    204  404  204   404      404     204
pause_schedule            schedule 401    200+ 404  200+  404      404     200+
resume_schedule           schedule 401    200+ 404  200+  404      404     200+
run_schedule              schedule 401    202  404  202   404      404     202
list_ticks                schedule 401    200  404  200   404      404     200
list_fires                schedule 401    200  404  200   404      404     200
get_job_stats             -        401    403  403  200   403      200     200
list_providers            -        401    403  403  403   403      403     200
list_algorithms           -        401    200  200  200   200      200     200
list_kinds                -        401    200  200  200   200      200     200
get_kind                  -        401    200  200  200   200      200     200
register_kind             -        401    403  403  201   403      201     201
remove_kind               kind     401    403  403  204   403      404     404
lease_jobs                kind     401    403  403  200   403      422     422
renew_leases              run      401    403  403  200+  403      200-    200-
report_progress           run      401    403  403  200+  403      200-    200-
write_log                 run      401    403  403  200+  403      200-    200-
settle_runs               run      401    403  403  200+  403      200-    200-
list_queues               -        401    403  403  403   403      403     200
get_queue                 -        401    403  403  403   403      403     200
steer_queue               -        401    403  403  403   403      403     200
replay_dead               -        401    403  403  403   403      403     200
purge_dead                -        401    403  403  403   403      403     200
unpark                    -        401    403  403  403   403      403     200
promote_jobs              -        401    403  403  403   403      403     200
obliterate_queue          -        401    403  403  403   403      403     200
list_limits               -        401    403  403  403   403      403     200
set_limit                 -        401    403  403  403   403      403     200
set_weight                -        401    403  403  403   403      403     200
get_scale                 -        401    403  403  403   403      403     200
set_scale                 -        401    403  403  403   403      403     200
list_workers              -        401    403  403  403   403      403     200
list_workers_of_queue     -        401    403  403  403   403      403     200
drain_worker              -        401    403  403  403   403      403     404
register                  -        202    202  202  202   202      202     202
resend_confirmation       -        202    202  202  202   202      202     202
login                     self     200    200  200  200   200      200     200
refresh                   self     401    200  200  200   200      200     200
logout                    self     401    204  204  204   204      204     204
list_sessions             -        401    200  200  200   200      200     200
end_sessions              self     401    204  204  204   204      204     204
end_session               session  401    204  404  404   404      404     404
change_password           self     401    204  204  204   204      204     204
forgot_password           -        202    202  202  202   202      202     202
reset_password            -        422    422  422  422   422      422     422
confirm_email             -        422    422  422  422   422      422     422
change_email              self     401    202  202  202   202      202     202
enrol_second_factor       self     401    200  200  200   200      200     200
confirm_second_factor     self     401    409  409  409   409      409     409
remove_second_factor      self     401    409  409  409   409      409     409
delete_me                 self     401    204  204  204   204      204     204
get_me                    -        401    200  200  200   200      200     200
change_me                 -        401    200  200  200   200      200     200
list_users                person   401    403  403  200+  403      200-    200+
create_user               -        401    403  403  201   403      403     201
get_user                  person   401    403  403  200+  403      404     200+
change_user               person   401    403  403  200+  403      404     200+
activate_user             person   401    403  403  200+  403      404     200+
deactivate_user           person   401    403  403  200+  403      404     200+
delete_user               person   401    403  403  204   403      404     204
list_user_sessions        person   401    403  403  200   403      404     200
end_user_sessions         person   401    403  403  204   403      404     204
remove_user_second_factor person   401    403  403  409   403      404     409
list_user_links           person   401    403  403  200   403      404     200
send_user_link            person   401    403  403  202   403      404     202
create_tenant             -        401    403  403  403   403      403     201
list_tenants              tenant   401    403  403  200+  403      200-    200+
get_tenant                tenant   401    403  403  200+  403      404     200+
change_tenant             tenant   401    403  403  403   403      403     200+
delete_tenant             tenant   401    403  403  403   403      403     409
get_tenant_usage          tenant   401    403  403  200   403      404     200
create_key                -        401    403  403  201   403      403     201
list_keys                 key      401    403  403  200+  403      200-    200+
get_own_key               -        401    404  404  404   404      404     404
get_key                   key      401    403  403  200+  403      404     200+
change_key                key      401    403  403  200+  403      404     200+
rotate_key                key      401    403  403  200+  403      404     200+
revoke_key                key      401    403  403  204   403      404     204
list_audit_events         person   401    403  403  200+  403      200-    200+
rotate_token_keys         -        401    403  403  403   403      403     200
get_health                -        200    200  200  200   200      200     200
get_health_details        -        401    403  403  403   403      403     200
ping                      -        200    200  200  200   200      200     200
get_metrics               -        401    403  403  403   403      403     200
get_openapi               -        200    200  200  200   200      200     200
get_docs                  -        200    200  200  200   200      200     200
";

/// Everybody, in the order of the columns.
const CALLERS: [&str; 7] = ["nobody", "user", "peer", "admin", "stranger", "foreign", "super"];

struct Row<'a> {
    operation: &'a str,
    about: &'a str,
    answers: Vec<&'a str>,
}

fn rows() -> Vec<Row<'static>> {
    let mut lines = TABLE.trim().lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap()[2..], CALLERS);
    let row = |words: Vec<&'static str>| {
        assert_eq!(words.len(), 2 + CALLERS.len(), "{words:?}");
        Row { operation: words[0], about: words[1], answers: words[2..].to_vec() }
    };
    lines.map(row).collect()
}

/// A route, as the OpenAPI document has it.
struct Route {
    method: String,
    path: String,
}

fn routes(document: &Value) -> Vec<(String, Route)> {
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            routes.push((id, Route { method: method.to_uppercase(), path: path.clone() }));
        }
    }
    routes
}

/// The people, and a number for whatever must have a name of its own.
struct House {
    platform: Platform,
    cast: Vec<Option<Person>>,
    number: AtomicUsize,
}

impl House {
    async fn open() -> Self {
        // Everything comes from one address here, and people may ask as often as they like.
        let limits = "open=off,guess=off,login=off,any=1000000/60";
        let platform = Platform::with(&[("FOURMI_RATE_LIMITS", limits)], 0).await;
        platform.add_tenant("acme").await;
        platform.add_tenant("other").await;
        let mut cast = vec![None];
        for (name, role, tenant) in [
            ("user", "user", Some("acme")),
            ("peer", "user", Some("acme")),
            ("admin", "admin", Some("acme")),
            ("stranger", "user", Some("other")),
            ("foreign", "admin", Some("other")),
            ("super", "super_admin", None),
        ] {
            cast.push(Some(platform.add_person(name, role, tenant).await));
        }
        Self { platform, cast, number: AtomicUsize::new(0) }
    }

    fn token(&self, caller: usize) -> Option<&str> {
        self.cast[caller].as_ref().map(|person| person.token.as_str())
    }

    fn number(&self) -> usize {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// A request of the owner of everything.
    fn of_owner(&self, method: &str, path: &str) -> RequestBuilder {
        self.platform.request_as(self.token(1).unwrap(), method, path)
    }

    /// A request of the admin of the same tenant.
    fn of_admin(&self, method: &str, path: &str) -> RequestBuilder {
        self.platform.request_as(self.token(3).unwrap(), method, path)
    }

    /// Registers a kind for that tenant.
    async fn register(&self, name: &str) {
        let kind = json!({"summary": "Does nothing.", "payload_schema": {}});
        answer_of(self.of_admin("PUT", &format!("/kinds/{name}")).json(&kind)).await;
    }

    /// What a row is about, made anew: its id.
    async fn make(&self, about: &str) -> String {
        match about {
            "job" => id_of(self.of_owner("POST", "/jobs").json(&later())).await,
            "over" => {
                let job = id_of(self.of_owner("POST", "/jobs").json(&later())).await;
                id_of(self.of_owner("POST", &format!("/jobs/{job}/cancel"))).await
            }
            "batch" => {
                let flow = json!({"batch": true, "jobs": [named()]});
                let made = answer_of(self.of_owner("POST", "/flows").json(&flow)).await;
                made["batch"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
            }
            "file" => id_of(self.of_owner("POST", "/files?name=a.txt").body("content")).await,
            "upload" => {
                let made =
                    self.of_owner("POST", "/uploads").header("tus-resumable", "1.0.0").header("upload-length", "4");
                let made = made.send().await.unwrap();
                assert_eq!(made.status(), 201);
                made.headers()["location"].to_str().unwrap().rsplit('/').next().unwrap().to_owned()
            }
            "key" => {
                let key = json!({"name": "app", "scopes": ["jobs:read"], "tenant": "acme"});
                let made = answer_of(self.platform.request("POST", "/keys").json(&key)).await;
                made["key"]["id"].as_str().unwrap().to_owned()
            }
            "person" => {
                let email = format!("person-{}@example.org", self.number());
                let person = json!({"email": email, "tenant": "acme"});
                id_of(self.platform.request("POST", "/users").json(&person)).await
            }
            "session" => {
                self.platform.login("user@example.org").await;
                let sessions = answer_of(self.of_owner("GET", "/auth/sessions")).await;
                let sessions = sessions["sessions"].as_array().unwrap().clone();
                let other = sessions.iter().find(|session| session["current"] == false).unwrap();
                other["id"].as_str().unwrap().to_owned()
            }
            "tenant" => "acme".to_owned(),
            "device" => {
                let made = answer_of(self.of_owner("POST", "/devices").json(&device())).await;
                made["id"].as_str().unwrap().to_owned()
            }
            "webhook" => {
                let made = answer_of(self.of_owner("POST", "/webhooks").json(&webhook())).await;
                made["webhook"]["id"].as_str().unwrap().to_owned()
            }
            "suppression" => {
                let address = format!("suppressed-{}@example.org", self.number());
                let wanted = json!({"channel": "mail", "address": address});
                answer_of(self.of_admin("POST", "/suppressions").json(&wanted)).await;
                address
            }
            "schedule" => {
                let wanted = schedule(&format!("of the owner {}", self.number()));
                id_of(self.of_owner("POST", "/schedules").json(&wanted)).await
            }
            "kind" => {
                let name = format!("x.kind{}", self.number());
                self.register(&name).await;
                name
            }
            "run" => {
                let name = format!("x.kind{}", self.number());
                self.register(&name).await;
                let job = json!({"kind": name, "payload": {}});
                let job = id_of(self.of_owner("POST", "/jobs").json(&job)).await;
                let lease = json!({"worker": "w", "kinds": {name: 1}, "lease_ms": 60_000});
                let leased = answer_of(self.of_admin("POST", "/work/lease").json(&lease)).await;
                assert_eq!(leased["jobs"][0]["id"], json!(job), "{leased}");
                job
            }
            _ => String::new(),
        }
    }

    /// Somebody with an account of their own, like this caller, for what an account does not survive.
    async fn double(&self, caller: usize) -> Option<Person> {
        let info = &self.cast[caller].as_ref()?.info;
        let tenant = info.tenant.as_ref().map(ToString::to_string);
        let name = format!("double-{}", self.number());
        Some(self.platform.add_person(&name, info.role.as_str(), tenant.as_deref()).await)
    }

    /// The request of a row, by a caller, about something.
    fn request(&self, operation: &str, route: &Route, token: Option<&str>, about: &str) -> RequestBuilder {
        let path = address(operation, &route.path, about);
        let request = self.platform.open_request(&route.method, &path);
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// The body that lets it succeed.
    fn with_body(
        &self,
        request: RequestBuilder,
        operation: &str,
        about: &str,
        double: Option<&Person>,
    ) -> RequestBuilder {
        let n = self.number();
        let piece = |request: RequestBuilder| {
            request
                .header("tus-resumable", "1.0.0")
                .header("upload-offset", "0")
                .header("content-type", "application/offset+octet-stream")
                .body("1234")
        };
        match operation {
            "upload_file" => request.body("content"),
            "create_upload" => request.header("tus-resumable", "1.0.0").header("upload-length", "4"),
            "head_upload" | "delete_upload" => request.header("tus-resumable", "1.0.0"),
            "append_upload" => piece(request),
            "override_upload" => piece(request).header("x-http-method-override", "PATCH"),
            _ => match body(operation, about, n, double) {
                Value::Null => request,
                body => request.json(&body),
            },
        }
    }

    /// What a row says of one caller, tried; what is wrong, if something is.
    async fn check(&self, row: &Row<'_>, route: &Route, caller: usize) -> Option<String> {
        let expected = row.answers[caller];
        let is_about_self = matches!(row.about, "self");
        let double = if is_about_self { self.double(caller).await } else { None };
        let token =
            if is_about_self { double.as_ref().map(|person| person.token.as_str()) } else { self.token(caller) };
        let about = self.make(row.about).await;
        let ask = async |about: &str| {
            let request = self.request(row.operation, route, token, about);
            let answer = self.with_body(request, row.operation, about, double.as_ref()).send().await.unwrap();
            let (status, is_stream) = (
                answer.status().as_u16(),
                answer.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream"),
            );
            let text = if is_stream { String::new() } else { answer.text().await.unwrap() };
            (status, text)
        };
        let (status, text) = ask(&about).await;
        let wrong = |what: &str| Some(format!("{} by {}: {what}: {status} {text}", row.operation, CALLERS[caller]));
        if expected.trim_end_matches(['+', '-']) != status.to_string() {
            return wrong(&format!("{expected} is expected"));
        }
        // Many things are answered by their place, not by name.
        let mark = match row.about {
            "run" => "\"status\":200".to_owned(),
            _ if row.operation == "act_on_jobs" => "\"matched\":1".to_owned(),
            _ => about.clone(),
        };
        if expected.ends_with('+') && !text.contains(&mark) {
            return wrong("it should name what it is about");
        }
        if expected.ends_with('-') && text.contains(&mark) {
            return wrong("it should not name what it is about");
        }
        if status == 404 && row.about != "-" {
            let nothing = unknown(row.about);
            let (of_nothing, text_of_nothing) = ask(nothing).await;
            if (of_nothing, text_of_nothing.replace(nothing, "ID")) != (404, text.replace(&about, "ID")) {
                return wrong(&format!("what does not exist is answered otherwise: {of_nothing} {text_of_nothing}"));
            }
        }
        None
    }
}

async fn answer_of(request: RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
    serde_json::from_str(&text).unwrap()
}

async fn id_of(request: RequestBuilder) -> String {
    answer_of(request).await["id"].as_str().unwrap().to_owned()
}

fn later() -> Value {
    let source = json!({"source": {"url": "https://example.org/a.mp3"}});
    json!({"kind": "audio.extract", "payload": source, "not_before": "2099-01-01T00:00:00Z"})
}

/// Each time another.
fn device() -> Value {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    json!({"token": format!("token-{number}"), "platform": "android"})
}

fn webhook() -> Value {
    json!({"url": "https://example.org/hooks", "events": []})
}

fn schedule(name: &str) -> Value {
    let source = json!({"source": {"url": "https://example.org/a.mp3"}});
    json!({"name": name, "cron": "@yearly", "job": {"kind": "audio.extract", "payload": source}})
}

/// The same as a job of a flow.
fn named() -> Value {
    let mut job = later();
    job["name"] = json!("a");
    job
}

/// The address of a route, about this.
fn address(operation: &str, path: &str, about: &str) -> String {
    let path = path.replace("{id}", about).replace("{token}", "v1.nonsense").replace("{queue}", "media").replace(
        "{name}",
        match operation {
            "get_kind" => "audio.extract",
            "register_kind" => "x.echo",
            "drain_worker" => "nobody-1",
            "download_file_named" | "head_file_named" => "a.txt",
            _ => about,
        },
    );
    match operation {
        "list_jobs" => format!("{path}?limit=200"),
        "list_users" => format!("{path}?limit=200"),
        "list_audit_events" => format!("{path}?target={about}"),
        "list_suppressions" => format!("{path}?channel=mail&tenant=acme&limit=200"),
        "remove_suppression" => format!("{path}?channel=mail&tenant=acme&address={about}"),
        _ => path,
    }
}

/// An id of the same sort, which does not exist.
fn unknown(about: &str) -> &'static str {
    match about {
        "job" | "over" | "batch" => "media-0198c0de-0000-7000-8000-000000000001",
        "file" | "upload" => "file-00000000000000000000000000000001",
        "key" => "key-000000000000000000000000",
        "person" => "user-0198c0de000070008000000000000001",
        "kind" => "x.nothing",
        "session" => "session-00000000000000000000000000000001",
        "device" => "device-00000000000000000000000000000001",
        "webhook" => "hook-00000000000000000000000000000001",
        "schedule" => "schedule-00000000000000000000000000000001",
        "suppression" => "nobody@example.org",
        _ => "nowhere",
    }
}

fn body(operation: &str, about: &str, n: usize, double: Option<&Person>) -> Value {
    let refresh = double.map(|person| person.refresh.as_str()).unwrap_or_default();
    let name = double.map_or("user@example.org", |person| person.info.username.as_str());
    let nonsense = "token-00000000000000000000000000000001.x";
    match operation {
        "submit_job" => later(),
        "submit_jobs" => json!([later()]),
        "submit_flow" => json!({"jobs": [named()]}),
        "register_kind" => json!({"summary": "Gives back what it gets.", "payload_schema": {}}),
        "lease_jobs" => json!({"worker": "w", "kinds": {about: 1}}),
        "renew_leases" => json!({"worker": "w", "runs": [{"id": about, "run": 1}]}),
        "report_progress" => json!({"progress": [{"id": about, "run": 1, "stage": "s", "percent": 1}]}),
        "write_log" => json!({"log": [{"id": about, "run": 1, "lines": [{"text": "a"}]}]}),
        "settle_runs" => json!({"outcomes": [{"id": about, "run": 1, "outcome": "succeeded"}]}),
        "change_job" => json!({"priority": "high"}),
        "act_on_jobs" => json!({"action": "cancel", "filter": {"ids": [about]}, "dry_run": true}),
        "create_link" => json!({}),
        "steer_queue" => json!({"cap": 9}),
        "replay_dead" | "purge_dead" => json!({}),
        "unpark" => json!({"reason": "offline"}),
        "promote_jobs" => json!({"kind": "media.probe"}),
        "obliterate_queue" => json!({}),
        "set_limit" => json!({"name": "tenant/acme", "concurrency": 5}),
        "set_weight" => json!({"tenant": "acme", "weight": 2}),
        "set_scale" => json!({"slots": null}),
        "register" => {
            json!({"tenant": "acme", "email": format!("new-{n}@example.org"), "password": GOOD_PASSWORD})
        }
        "resend_confirmation" | "forgot_password" => json!({"email": format!("none-{n}@example.org")}),
        "login" => json!({"username": name, "password": GOOD_PASSWORD}),
        "refresh" => json!({"refresh_token": refresh}),
        "change_password" => json!({"current_password": GOOD_PASSWORD, "new_password": "another forty-two ants"}),
        "reset_password" => json!({"token": nonsense, "password": GOOD_PASSWORD}),
        "confirm_email" => json!({"token": nonsense}),
        "change_email" => json!({"email": format!("moved-{n}@example.org"), "password": GOOD_PASSWORD}),
        "enrol_second_factor" | "delete_me" => json!({"password": GOOD_PASSWORD}),
        "confirm_second_factor" => json!({"code": "123456"}),
        "remove_second_factor" => json!({"password": GOOD_PASSWORD, "code": "123456"}),
        "change_me" => json!({"language": "fr"}),
        "create_user" => json!({"email": format!("invited-{n}@example.org"), "tenant": "acme"}),
        "change_user" => json!({"name": "Somebody Else"}),
        "create_tenant" => json!({"name": format!("tenant-{n}")}),
        "change_tenant" => json!({"title": "Acme"}),
        "create_key" => json!({"name": "app", "scopes": ["jobs:read"], "tenant": "acme"}),
        "change_key" => json!({"name": "app"}),
        "rotate_key" => json!({}),
        "rotate_token_keys" => json!({}),
        "create_schedule" | "replace_schedule" => schedule(&format!("number {n}")),
        "estimate_sms" => json!({"text": "Hello"}),
        "decide_sms" => json!({"sent": true}),
        "register_device" => device(),
        "create_webhook" => webhook(),
        "change_webhook" => json!({"description": "the app"}),
        "rotate_webhook" => json!({}),
        "add_suppression" => json!({"channel": "mail", "address": format!("unwanted-{n}@example.org")}),
        "redeliver" => json!({"since": "2020-01-01T00:00:00Z"}),
        _ => Value::Null,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_do_what_is_written_down_and_nothing_else() {
    let house = House::open().await;
    let rows = rows();
    let routes = routes(&house.platform.get("/openapi.json").await);
    let known: BTreeSet<&str> = rows.iter().map(|row| row.operation).collect();
    assert_eq!(known.len(), rows.len(), "a route has one row");
    let there: BTreeSet<&str> = routes.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(known, there, "every route has a row in the table of this test, and every row a route");

    let mut wrong = Vec::new();
    for row in &rows {
        let (_, route) = routes.iter().find(|(id, _)| id == row.operation).unwrap();
        let checks = (0..CALLERS.len()).map(|caller| house.check(row, route, caller));
        wrong.extend(join_all(checks).await.into_iter().flatten());
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
