//! Callers who mean no good, or do not know what they do: a problem with a code, never a fault of ours, never a hang.

use std::time::{Duration, Instant};

use fourmi_tests::{Platform, descriptors, eventually_async};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CROWD: usize = 10_000;

async fn connect(platform: &Platform) -> TcpStream {
    TcpStream::connect(platform.url().trim_start_matches("http://")).await.unwrap()
}

/// Sends bytes and gives the status of the answer; `None` if the connection is closed without one.
async fn raw(platform: &Platform, bytes: &[u8]) -> Option<u16> {
    let mut stream = connect(platform).await;
    // The server may close before it has read everything.
    let _closed = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer).await;
    let line = String::from_utf8_lossy(&answer).into_owned();
    line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let platform = Platform::with(&[], 0).await;
    let pid = platform.api.pid();
    let mut crowd = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        crowd.push(connect(&platform).await);
    }
    let asked = Instant::now();
    assert_eq!(platform.request("GET", "/jobs").send().await.unwrap().status(), 200);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    drop(crowd);
    eventually_async("the connections are closed", async || (descriptors(pid).len() < 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_wire_is_refused() {
    let platform = Platform::with(&[], 0).await;
    let key = platform.key();
    let head = |line: &str, more: &str| {
        format!("{line}\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n{more}\r\n").into_bytes()
    };
    let post = |more: &str, body: &[u8]| [head("POST /api/v1/jobs HTTP/1.1", more), body.to_vec()].concat();
    let huge = format!("X-Huge: {}\r\n", "x".repeat(1 << 20));
    let many = "X-Many: x\r\n".repeat(10_000);
    let json = "Content-Type: application/json\r\n";
    for (what, bytes, allowed) in [
        ("a huge header", head("GET /api/v1/jobs HTTP/1.1", &huge), &[Some(431), Some(400), None][..]),
        ("many headers", head("GET /api/v1/jobs HTTP/1.1", &many), &[Some(431), Some(400), None]),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), &[Some(400), None]),
        (
            "a long address",
            head(&format!("GET /api/v1/{} HTTP/1.1", "a".repeat(70_000)), ""),
            &[Some(414), Some(404), None],
        ),
        ("no UTF-8 in the path", head("GET /api/v1/jobs/%ff%fe HTTP/1.1", ""), &[Some(400), Some(404)]),
        ("no UTF-8 in the query", head("GET /api/v1/jobs?tag=%ff%fe HTTP/1.1", ""), &[Some(200), Some(400)]),
        ("a zero in the path", head("GET /api/v1/jobs/a%00b HTTP/1.1", ""), &[Some(400), Some(404)]),
        ("a climb", head("GET /api/v1/files/../../etc/passwd HTTP/1.1", ""), &[Some(400), Some(404)]),
        (
            "no UTF-8 in the body",
            post(&format!("{json}Content-Length: 4\r\n"), b"\"\xff\xfe\""),
            &[Some(400), Some(422)],
        ),
        ("a wrong type", post("Content-Type: text/plain\r\nContent-Length: 2\r\n", b"{}"), &[Some(415)]),
        ("a negative length", post(&format!("{json}Content-Length: -1\r\n"), b"{}"), &[Some(400), None]),
        ("two lengths", post(&format!("{json}Content-Length: 2\r\nContent-Length: 3\r\n"), b"{}"), &[Some(400), None]),
        (
            "a length and chunks",
            post(&format!("{json}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"), b"0\r\n\r\n"),
            &[Some(400), Some(422), None],
        ),
        (
            "deep JSON",
            post(&format!("{json}Content-Length: 100000\r\n"), "[".repeat(100_000).as_bytes()),
            &[Some(400), Some(422)],
        ),
        ("two keys", head("GET /api/v1/jobs HTTP/1.1", "Authorization: Bearer x\r\n"), &[Some(401)]),
        ("a strange cursor", head("GET /api/v1/jobs?cursor=..%2f..%2f HTTP/1.1", ""), &[Some(400)]),
    ] {
        let status = raw(&platform, &bytes).await;
        assert!(allowed.contains(&status), "{what}: {status:?}");
    }
    assert_eq!(platform.request("GET", "/jobs").send().await.unwrap().status(), 200);
    let log = platform.api.lines().join("\n");
    assert!(!log.contains("panic"), "{log}");
}

/// JSON that has the words of the API in it, and anything else.
fn any_json() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "kind",
        "payload",
        "priority",
        "not_before",
        "policy",
        "tags",
        "after",
        "unique",
        "until",
        "by",
        "limits",
        "tenant",
        "jobs",
        "name",
        "batch",
        "then",
        "scopes",
        "rate_limit",
        "expires_at",
        "action",
        "filter",
        "ids",
        "dry_run",
        "cursor",
        "audio.extract",
        "media.probe",
        "source",
        "url",
        "upload",
        "jobs:read",
        "2099-01-01T00:00:00Z",
        "cancel",
        "media",
    ]);
    let text = prop_oneof![word.prop_map(str::to_owned), any::<String>()];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|it| it.to_string()),
        any::<i64>().prop_map(|it| it.to_string()),
        any::<f64>().prop_map(|it| it.to_string()),
        Just("1e999".to_owned()),
        text.clone().prop_map(|it| serde_json::to_string(&it).unwrap()),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let pair = (text.clone(), inner.clone());
        let pair = pair.prop_map(|(name, value)| format!("{}:{value}", serde_json::to_string(&name).unwrap()));
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(pair, 0..8).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_is_our_fault() {
    let platform = Platform::with(&[], 0).await;
    let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    let id = "media-0198c0de-0000-7000-8000-000000000001";
    let routes = [
        ("POST", "/jobs".to_owned()),
        ("POST", "/jobs/bulk".to_owned()),
        ("POST", "/flows".to_owned()),
        ("POST", "/keys".to_owned()),
        ("PATCH", format!("/jobs/{id}")),
        ("PATCH", "/queues/media".to_owned()),
        ("PUT", "/queues/media/limits".to_owned()),
        ("POST", "/queues/media/dead/replay".to_owned()),
        ("POST", "/queues/media/promote".to_owned()),
    ];
    for _ in 0..150 {
        let body = any_json().new_tree(&mut runner).unwrap().current();
        for (method, path) in &routes {
            let request = platform.request(method, path).header("Content-Type", "application/json");
            let answer = request.body(body.clone()).send().await.unwrap();
            let status = answer.status().as_u16();
            assert!(status < 500, "{method} {path} {body}: {status} {}", answer.text().await.unwrap());
        }
    }
}
