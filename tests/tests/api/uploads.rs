//! Files that arrive in pieces: tus 1.0.

use std::{
    fs::File,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use fourmi_model::BlobId;
use fourmi_tests::{Platform, eventually, eventually_async};
use reqwest::{RequestBuilder, Response, header::HeaderMap};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use crate::forms::stored;

const PIECE: &str = "application/offset+octet-stream";

/// The API's side of tus, on any of the platform's servers.
struct Tus<'a> {
    platform: &'a Platform,
    url: String,
    key: String,
}

impl<'a> Tus<'a> {
    fn new(platform: &'a Platform) -> Self {
        Self::at(platform, platform.url().to_owned())
    }

    fn at(platform: &'a Platform, url: String) -> Self {
        Self { platform, url, key: platform.key().to_owned() }
    }

    fn call(&self, method: &str, path: &str) -> RequestBuilder {
        let client = reqwest::Client::new().request(method.parse().unwrap(), format!("{}/api/v1{path}", self.url));
        client.bearer_auth(&self.key).header("tus-resumable", "1.0.0")
    }

    fn create(&self, bytes: impl ToString) -> RequestBuilder {
        self.call("POST", "/uploads").header("upload-length", bytes.to_string())
    }

    /// Makes an upload and gives its id.
    async fn created(&self, bytes: u64) -> String {
        let answer = self.create(bytes).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        id(&answer)
    }

    fn append(&self, id: &str, at: impl ToString, content: impl Into<reqwest::Body>) -> RequestBuilder {
        let call = self.call("PATCH", &format!("/uploads/{id}")).header("content-type", PIECE);
        call.header("upload-offset", at.to_string()).body(content)
    }

    async fn head(&self, id: &str) -> Response {
        self.call("HEAD", &format!("/uploads/{id}")).send().await.unwrap()
    }

    async fn offset(&self, id: &str) -> u64 {
        let answer = self.head(id).await;
        assert_eq!(answer.status(), 200);
        number(answer.headers(), "upload-offset")
    }

    /// Sends the beginning of a piece and leaves the rest open.
    async fn begin(&self, id: &str, bytes: usize, beginning: &[u8]) -> TcpStream {
        let mut connection = TcpStream::connect(self.url.trim_start_matches("http://")).await.unwrap();
        let head = format!(
            "PATCH /api/v1/uploads/{id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ntus-resumable: 1.0.0\r\n\
             upload-offset: 0\r\ncontent-type: {PIECE}\r\ncontent-length: {bytes}\r\n\r\n",
            self.key
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(beginning).await.unwrap();
        eventually_async("the beginning is there", async || {
            (self.offset(id).await == beginning.len() as u64).then_some(())
        })
        .await;
        connection
    }

    async fn content(&self, file: &str) -> Vec<u8> {
        let answer = self.platform.request("GET", &format!("/files/{file}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap().to_vec()
    }

    /// Where what has arrived lies.
    fn place(&self, id: &str) -> PathBuf {
        self.platform.data().join("files/uploads").join(id)
    }
}

fn id(answer: &Response) -> String {
    let place = answer.headers()["location"].to_str().unwrap();
    place.strip_prefix("/api/v1/uploads/").unwrap().to_owned()
}

fn text<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers()[name].to_str().unwrap()
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    headers[name].to_str().unwrap().parse().unwrap()
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64).map(|n| ((n * 2_654_435_761) >> 7) as u8).collect()
}

async fn refused(call: RequestBuilder, status: u16, code: &str) {
    let answer = call.send().await.unwrap();
    let version = answer.headers().get("tus-resumable").cloned();
    assert_eq!(crate::problem(answer, status).await, code);
    assert_eq!(version.unwrap(), "1.0.0");
}

#[tokio::test]
async fn an_upload_is_described_made_sent_and_ended() {
    let platform = Platform::with(&[("FOURMI_MAX_UPLOAD_BYTES", "1MiB")], 0).await;
    let tus = Tus::new(&platform);
    let about = platform.open_request("OPTIONS", "/api/v1/uploads").send().await.unwrap();
    assert_eq!((about.status().as_u16(), number(about.headers(), "tus-max-size")), (204, 1 << 20));
    assert_eq!(about.headers()["tus-version"], "1.0.0");
    assert_eq!(about.headers()["tus-extension"], "creation,creation-with-upload,expiration,termination");

    // `filename` is "../Été.txt".
    let metadata = "filename Li4vw4l0w6kudHh0,filetype dmlkZW8vbXA0,is_private";
    let made = tus.create(11).header("upload-metadata", metadata).send().await.unwrap();
    assert_eq!((made.status().as_u16(), number(made.headers(), "upload-offset")), (201, 0));
    let expires = made.headers()["upload-expires"].to_str().unwrap();
    let expires = jiff::fmt::rfc2822::parse(expires).unwrap().timestamp().as_second();
    assert!((expires - jiff::Timestamp::now().as_second() - 24 * 3600).abs() < 60);
    let id = id(&made);

    let piece = tus.append(&id, 0, "hello ").send().await.unwrap();
    assert_eq!((piece.status().as_u16(), number(piece.headers(), "upload-offset")), (204, 6));
    assert!(piece.headers().contains_key("upload-expires") && !piece.headers().contains_key("upload-file"));
    let head = tus.head(&id).await;
    assert_eq!((number(head.headers(), "upload-offset"), number(head.headers(), "upload-length")), (6, 11));
    assert_eq!((text(&head, "upload-metadata"), text(&head, "cache-control")), (metadata, "no-store"));
    let unknown = platform.request("GET", &format!("/files/{id}/info")).send().await.unwrap();
    assert_eq!(unknown.status(), 404, "it is no file yet");

    // As a program that can only POST.
    let last = tus.call("POST", &format!("/uploads/{id}")).header("x-http-method-override", "PATCH");
    let last = last.header("content-type", PIECE).header("upload-offset", 6).body("world").send().await.unwrap();
    assert_eq!((last.status().as_u16(), text(&last, "upload-file")), (204, id.as_str()));
    assert!(!last.headers().contains_key("upload-expires"));
    let file = platform.get(&format!("/files/{id}/info")).await;
    assert_eq!((&file["name"], &file["media_type"]), (&"Été.txt".into(), &"text/plain; charset=utf-8".into()));
    assert_eq!(tus.content(&id).await, b"hello world");

    // It is said once more to who did not hear it.
    let head = tus.head(&id).await;
    assert_eq!((text(&head, "upload-file"), number(head.headers(), "upload-offset")), (id.as_str(), 11));
    assert_eq!(tus.append(&id, 11, "").send().await.unwrap().status(), 204);
    refused(tus.append(&id, 11, "more"), 413, "file_too_large").await;
    let end = || tus.call("DELETE", &format!("/uploads/{id}"));
    assert_eq!(end().send().await.unwrap().status(), 204);
    refused(end(), 404, "unknown_upload").await;
    assert_eq!(tus.content(&id).await, b"hello world", "the file stays");

    let half = tus.created(5).await;
    tus.append(&half, 0, "ha").send().await.unwrap();
    assert_eq!(tus.call("DELETE", &format!("/uploads/{half}")).send().await.unwrap().status(), 204);
    assert_eq!(tus.head(&half).await.status(), 404);
    assert_eq!(stored(&platform.data().join("files")).len(), 2);
}

#[tokio::test]
async fn the_first_piece_may_come_with_the_announcement() {
    let platform = Platform::with(&[], 0).await;
    let tus = Tus::new(&platform);
    let with = |bytes: u64, body: &'static str| tus.create(bytes).header("content-type", PIECE).body(body);
    let half = with(11, "hello ").send().await.unwrap();
    assert_eq!((half.status().as_u16(), number(half.headers(), "upload-offset")), (201, 6));
    let whole = with(5, "hello").send().await.unwrap();
    assert_eq!(whole.headers()["upload-file"], id(&whole).as_str());
    let empty = tus.create(0).send().await.unwrap();
    assert_eq!(tus.content(&id(&empty)).await, b"");

    let before = stored(&platform.data().join("files")).len();
    refused(with(4, "hello"), 413, "file_too_large").await;
    refused(tus.create(5).body("hello"), 415, "unsupported_media_type").await;
    refused(
        with(5, "hello").header("content-digest", format!("sha-256=:{}=:", "A".repeat(43))),
        422,
        "checksum_mismatch",
    )
    .await;
    assert_eq!(stored(&platform.data().join("files")).len(), before);
}

#[tokio::test]
async fn a_checksum_is_checked_of_a_piece_and_of_the_whole() {
    let platform = Platform::with(&[], 0).await;
    let tus = Tus::new(&platform);
    // The metadata's sha256 is that of "hello", in hexadecimal digits.
    let sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let metadata = "sha256 MmNmMjRkYmE1ZmIwYTMwZTI2ZTgzYjJhYzViOWUyOWUxYjE2MWU1YzFmYTc0MjVlNzMwNDMzNjI5MzhiOTgyNA==";
    for (content, status) in [("hello", 204), ("hallo", 422)] {
        let id = id(&tus.create(5).header("upload-metadata", metadata).send().await.unwrap());
        let sent = tus.append(&id, 0, content).send().await.unwrap();
        assert_eq!(sent.status(), status);
        assert_eq!(tus.head(&id).await.status(), if status == 204 { 200 } else { 404 });
    }
    let id = tus.created(10).await;
    refused(tus.append(&id, 0, "hallo").header("content-sha256", sum), 422, "checksum_mismatch").await;
    refused(tus.append(&id, 0, "hello").header("content-sha256", "x"), 400, "invalid_header").await;
    assert_eq!(tus.offset(&id).await, 0);
    assert_eq!(tus.append(&id, 0, "hello").header("content-sha256", sum).send().await.unwrap().status(), 204);
    assert_eq!(tus.offset(&id).await, 5);
}

#[tokio::test]
async fn nonsense_is_refused() {
    let platform = Platform::with(&[("FOURMI_MAX_UPLOAD_BYTES", "1MiB")], 0).await;
    let tus = Tus::new(&platform);
    for length in ["-1", "+1", "1.5", "0x1", "18446744073709551616", "many", ""] {
        refused(tus.create(length), 400, "invalid_header").await;
    }
    refused(tus.call("POST", "/uploads"), 400, "invalid_header").await;
    refused(tus.call("POST", "/uploads").header("upload-defer-length", 1), 400, "invalid_header").await;
    refused(tus.create(1).header("upload-concat", "partial"), 400, "invalid_header").await;
    for length in [(1_u64 << 20) + 1, u64::MAX] {
        refused(tus.create(length), 413, "file_too_large").await;
    }
    for metadata in [
        "filename ===",
        "filename /w==",
        "filename YQ==,filename YQ==",
        ",",
        &format!("filename {}", "YWFh".repeat(25_000)),
    ] {
        refused(tus.create(1).header("upload-metadata", metadata), 400, "invalid_header").await;
    }
    // `filename` is "a\r\n\u{1b}[31mb".
    let odd = tus.create(0).header("upload-metadata", "filename YQ0KG1szMW1i").send().await.unwrap();
    assert_eq!(platform.get(&format!("/files/{}/info", id(&odd))).await["name"], "a[31mb");

    let id = tus.created(10).await;
    tus.append(&id, 0, "0123").send().await.unwrap();
    for at in ["-1", "4x", "18446744073709551616", ""] {
        refused(tus.append(&id, at, "4"), 400, "invalid_header").await;
    }
    for at in [0, 3, 5, 10, u64::MAX] {
        let wrong = tus.append(&id, at, "4").send().await.unwrap();
        assert_eq!((wrong.status().as_u16(), number(wrong.headers(), "upload-offset")), (409, 4));
    }
    refused(tus.append(&id, 4, "4567890"), 413, "file_too_large").await;
    let chunked = futures_util::stream::iter([Ok::<_, std::io::Error>("456"), Ok("789"), Ok("too much")]);
    refused(tus.append(&id, 4, reqwest::Body::wrap_stream(chunked)), 413, "file_too_large").await;
    assert_eq!(tus.offset(&id).await, 4);
    let path = format!("/uploads/{id}");
    let typed = tus.call("PATCH", &path).header("upload-offset", 4).header("content-type", "application/octet-stream");
    refused(typed.body("4"), 415, "unsupported_media_type").await;
    refused(tus.call("PATCH", &path).header("upload-offset", 4).body("4"), 415, "unsupported_media_type").await;
    refused(tus.append(&id, 4, "4").header("content-encoding", "gzip"), 415, "unsupported_media_type").await;
    refused(tus.append(&id, 4, "4").header("upload-checksum", "sha1 x"), 400, "invalid_header").await;
    let put = tus.call("POST", &path).header("x-http-method-override", "PUT").send().await.unwrap();
    assert_eq!(crate::problem(put, 405).await, "method_not_allowed");

    for unknown in ["x", "file-", "file-6f9619ff8b86d011b42d00c04fc964ff"] {
        refused(tus.append(unknown, 0, "x"), 404, "unknown_upload").await;
        refused(tus.call("DELETE", &format!("/uploads/{unknown}")), 404, "unknown_upload").await;
        assert_eq!(tus.head(unknown).await.status(), 404);
    }
    for version in [None, Some("0.2.2"), Some("2")] {
        let call = platform.request("PATCH", &path);
        let call = version.into_iter().fold(call, |call, version| call.header("tus-resumable", version));
        let answer = call.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), text(&answer, "tus-version")), (412, "1.0.0"));
    }
    let anonymous = platform.open_request("POST", "/api/v1/uploads").header("tus-resumable", "1.0.0");
    assert_eq!(anonymous.header("upload-length", 1).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_server_dies_in_the_middle_and_another_goes_on() {
    let mut platform = Platform::with(&[], 0).await;
    let other = platform.another_api();
    let url = other.url().to_owned();
    let content = bytes(3_000_000);
    let id = {
        let (first, second) = (Tus::new(&platform), Tus::at(&platform, url.clone()));
        let id = first.created(content.len() as u64).await;
        let _open = first.begin(&id, content.len(), &content[..2_000_000]).await;
        // One piece at a time, whichever server takes it.
        for tus in [&first, &second] {
            refused(tus.append(&id, 2_000_000, "x"), 423, "upload_locked").await;
            refused(tus.call("DELETE", &format!("/uploads/{id}")), 423, "upload_locked").await;
        }
        id
    };
    platform.api.kill();
    let second = Tus::at(&platform, url);
    assert_eq!(second.offset(&id).await, 2_000_000);
    let rest = second.append(&id, 2_000_000, content[2_000_000..].to_vec()).send().await.unwrap();
    assert_eq!(rest.headers()["upload-file"], id.as_str());
    let got = second.call("GET", &format!("/files/{id}")).send().await.unwrap().bytes().await.unwrap();
    assert!(got == content);
    // The content, what is known of it, and that the upload is done.
    assert_eq!(stored(&platform.data().join("files")).len(), 3);
}

#[tokio::test]
async fn what_is_abandoned_expires() {
    let platform = Platform::with(&[("FOURMI_UPLOAD_EXPIRY_HOURS", "1")], 0).await;
    let tus = Tus::new(&platform);
    let (id, other) = (tus.created(10).await, tus.created(10).await);
    tus.append(&id, 0, "half").send().await.unwrap();
    let old = SystemTime::now() - Duration::from_secs(3601);
    File::open(tus.place(&id)).unwrap().set_modified(old).unwrap();
    assert_eq!(tus.head(&id).await.status(), 410);
    refused(tus.append(&id, 4, "x"), 410, "upload_expired").await;

    // A server removes it, also what a dead one left half written; here when it starts.
    let left = platform.data().join("files/incoming").join(BlobId::random().to_string());
    std::fs::write(&left, "half").unwrap();
    let _other = platform.another_api();
    eventually("it is removed", || !tus.place(&id).exists() && !left.exists());
    assert_eq!(tus.head(&id).await.status(), 410);
    assert_eq!(tus.offset(&other).await, 0);
}

/// Half a minute of silence is what a body may have.
#[tokio::test]
async fn a_body_that_stops_coming_is_answered_and_a_piece_keeps_what_arrived() {
    let platform = Platform::with(&[], 0).await;
    let tus = Tus::new(&platform);
    let id = tus.created(10).await;
    let mut piece = tus.begin(&id, 10, b"01234").await;
    let mut answer = vec![0; 12];
    piece.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
    assert_eq!(tus.offset(&id).await, 5);
    assert_eq!(tus.append(&id, 5, "56789").send().await.unwrap().status(), 204);
    assert_eq!(tus.content(&id).await, b"0123456789");
}

#[tokio::test]
async fn tus_js_client_goes_on_where_it_was() {
    let platform = Platform::with(&[], 0).await;
    let tus = Tus::new(&platform);
    let content = bytes(20 * 1024 * 1024);
    let path = platform.data().join("upload.bin");
    std::fs::write(&path, &content).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/tus.js");
    let done = Command::new("node").args([script, platform.url(), &tus.key]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}; is FOURMI_CLIENTS set, as scripts/environment.sh does?");
    let id = String::from_utf8(done.stdout).unwrap().trim().rsplit('/').next().unwrap().to_owned();
    let file = platform.get(&format!("/files/{id}/info")).await;
    assert_eq!((&file["name"], &file["bytes"]), (&"Été.bin".into(), &content.len().into()));
    assert!(tus.content(&id).await == content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_goes_on_when_the_server_is_back() {
    let mut platform = Platform::with(&[], 0).await;
    let path = platform.data().join("upload.bin");
    let content = bytes(64 * 1024 * 1024);
    std::fs::write(&path, &content).unwrap();
    let (half, killed) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let client = platform.client.clone();
    let sending = tokio::spawn({
        let (path, half, killed) = (path.clone(), half.clone(), killed.clone());
        async move {
            let told = move |bytes| {
                if bytes > 32 * 1024 * 1024 {
                    half.notify_one();
                    // What is sent before the server is gone is as good as all.
                    while !killed.load(Relaxed) {
                        std::thread::yield_now();
                    }
                }
            };
            client.upload(&path).name("b.bin").resumable().on_progress(told).send().await
        }
    });
    half.notified().await;
    platform.api.kill();
    killed.store(true, Relaxed);
    platform.restart_api();
    let stored = sending.await.unwrap().unwrap();
    assert_eq!((stored.name.as_str(), stored.bytes), ("b.bin", content.len() as u64));
    assert!(Tus::new(&platform).content(&stored.id.to_string()).await == content);
    // An empty one, too.
    std::fs::write(&path, "").unwrap();
    assert_eq!(platform.client.upload(&path).resumable().send().await.unwrap().bytes, 0);
}
