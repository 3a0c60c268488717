//! Files, keys and errors over real HTTP; no Redis is needed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{path::Path, sync::Arc, time::Duration};

use fourmi_api::{
    Admission, Disk, Keys, Kinds, Links, Requests, Server,
    routes::{
        files::{self, Files},
        kinds,
    },
    service,
};
use fourmi_blobs::{Blobs, Owner, Uploads};
use fourmi_records::Records;
use fourmi_retention::{Disks, Reserve};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};

const KEY: &str = "a-key-of-the-tests";
const MAX_UPLOAD_BYTES: usize = 100_000;

/// A server of files on a free port, stopped when it is dropped.
struct TestApi {
    url: String,
    folder: TempDir,
    /// The same files, as a worker sees them.
    blobs: Blobs,
    http: reqwest::Client,
    _stop: DropGuard,
}

impl TestApi {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().join("files")).await.unwrap();
        let links = Arc::new(Links::load_or_create(&folder.path().join("link-key")).unwrap());
        let uploads = Uploads::of(&blobs, Duration::from_secs(3600));
        let max_upload_bytes = MAX_UPLOAD_BYTES as u64;
        let disk = Disk::new(Disks::new(Reserve::new(0), []));
        let files = Files { blobs: blobs.clone(), uploads, disk, max_upload_bytes, links: links.clone() };
        let keys = Arc::new(Keys::only(folder.path(), KEY).await.unwrap());
        let admission = Admission { keys, people: None, links, keeper: None };
        let kinds = Arc::new(Kinds::open(Records::open(&folder.path().join("records")).await.unwrap()).await.unwrap());
        let groups = vec![files::group(files), kinds::group(kinds)];
        let service = service(&admission, &Requests::default(), None, groups);
        let stop = CancellationToken::new();
        let server = Server::of(TcpListener::bind("127.0.0.1:0").await.unwrap(), service, stop.clone());
        let url = format!("http://{}", server.address().unwrap());
        tokio::spawn(server.run());
        let _chosen_already = rustls::crypto::ring::default_provider().install_default();
        Self { url, folder, blobs, http: reqwest::Client::new(), _stop: stop.drop_guard() }
    }

    fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(KEY)
    }

    async fn upload(&self, name: &str, content: &[u8]) -> Value {
        let call = self.call(Method::POST, "/api/v1/files").query(&[("name", name)]).body(content.to_vec());
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.json().await.unwrap()
    }

    /// The files that are kept or half kept.
    fn kept(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
            entries.map(|entry| if entry.file_type().unwrap().is_dir() { count(&entry.path()) } else { 1 }).sum()
        }
        count(&self.folder.path().join("files"))
    }

    async fn link(&self, file: &str, options: Value) -> String {
        let call = self.call(Method::POST, &format!("/api/v1/files/{file}/links")).json(&options);
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let link: Value = answer.json().await.unwrap();
        let left = link["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() - jiff::Timestamp::now();
        assert!(left.get_seconds() <= options["expires_in_s"].as_i64().unwrap_or(3600));
        link["url"].as_str().unwrap().to_owned()
    }

    /// A file that a job made.
    async fn made(&self, name: &str, media_type: &str, content: &str) -> String {
        let path = self.folder.path().join("made");
        std::fs::write(&path, content).unwrap();
        self.blobs.import(&path, name, Owner::default(), Some(media_type)).await.unwrap().id.to_string()
    }
}

async fn expect_problem(call: RequestBuilder, status: u16, code: &str) -> Value {
    let answer = call.send().await.unwrap();
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert!(answer.headers().contains_key("x-request-id"));
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()), "{problem}");
    problem
}

fn text<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers()[name].to_str().unwrap()
}

#[tokio::test]
async fn a_key_is_asked_for_and_documentation_is_not() {
    let api = TestApi::start().await;
    for path in ["/api/v1/kinds", "/api/v1/files/x", "/api/v1/files/x/info"] {
        expect_problem(api.anonymous(Method::GET, path), 401, "unauthorized").await;
        expect_problem(api.anonymous(Method::GET, path).bearer_auth("another-key-of-tests"), 401, "unauthorized").await;
    }
    let refused = api.anonymous(Method::POST, "/api/v1/files").body(vec![0; 50_000]).send().await.unwrap();
    assert_eq!((refused.status(), text(&refused, "www-authenticate")), (StatusCode::UNAUTHORIZED, "Bearer"));
    assert_eq!(api.kept(), 0);

    let document = api.anonymous(Method::GET, "/api/v1/openapi.json").send().await.unwrap();
    assert_eq!(document.json::<Value>().await.unwrap()["openapi"], "3.1.0");
    let page = api.anonymous(Method::GET, "/docs").send().await.unwrap();
    assert!(text(&page, "content-security-policy").contains("default-src 'none'"));
    let page = page.text().await.unwrap();
    assert!(page.contains("upload_file") && !page.contains("<script") && !page.contains("src=\"http"));
}

#[tokio::test]
async fn every_mistake_is_a_problem() {
    let api = TestApi::start().await;
    expect_problem(api.call(Method::GET, "/nowhere"), 404, "not_found").await;
    let wrong = api.call(Method::PUT, "/api/v1/files").send().await.unwrap();
    assert_eq!((wrong.status(), text(&wrong, "allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    expect_problem(api.call(Method::PUT, "/api/v1/files"), 405, "method_not_allowed").await;
    expect_problem(api.call(Method::GET, "/api/v1/kinds").header("accept", "text/html"), 406, "not_acceptable").await;
    expect_problem(api.call(Method::GET, "/api/v1/kinds/no.such"), 404, "unknown_kind").await;

    let upload = || api.call(Method::POST, "/api/v1/files").body("hello");
    expect_problem(upload().query(&[("nam", "x")]), 400, "invalid_query").await;
    expect_problem(upload().header("content-type", "multipart/mixed; boundary=x"), 415, "unsupported_media_type").await;
    expect_problem(upload().header("content-encoding", "gzip"), 415, "unsupported_media_type").await;
    expect_problem(upload().header("content-sha256", "zz"), 400, "invalid_header").await;
    let another = hex::encode(Sha256::digest("another"));
    expect_problem(upload().header("content-sha256", another), 422, "checksum_mismatch").await;
    for id in ["x", "file-6f9619ff8b86d011b42d00c04fc964ff"] {
        expect_problem(api.call(Method::GET, &format!("/api/v1/files/{id}")), 404, "unknown_file").await;
        expect_problem(api.call(Method::GET, &format!("/api/v1/files/{id}/info")), 404, "unknown_file").await;
        expect_problem(api.call(Method::DELETE, &format!("/api/v1/files/{id}")), 404, "unknown_file").await;
    }
    assert_eq!(api.kept(), 0);
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_whether_or_not_it_says_so() {
    let api = TestApi::start().await;
    let content = vec![7; MAX_UPLOAD_BYTES + 1];
    expect_problem(api.call(Method::POST, "/api/v1/files").body(content.clone()), 413, "file_too_large").await;
    let chunks: Vec<_> = content.chunks(1_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
    let streamed = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    expect_problem(api.call(Method::POST, "/api/v1/files").body(streamed), 413, "file_too_large").await;
    assert_eq!(api.kept(), 0);
    api.upload("just fits", &content[1..]).await;
}

#[tokio::test]
async fn an_upload_that_is_cut_off_leaves_nothing_behind() {
    let api = TestApi::start().await;
    let mut connection = TcpStream::connect(api.url.trim_start_matches("http://")).await.unwrap();
    let head = "POST /api/v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 9";
    connection.write_all(format!("{head}\r\nauthorization: Bearer {KEY}\r\n\r\nhalf").as_bytes()).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("upload_incomplete"), "{answer}");
    assert_eq!(api.kept(), 0);
}

#[tokio::test]
async fn a_file_comes_back_in_full_and_in_parts() {
    let api = TestApi::start().await;
    let content: Vec<u8> = (0..1_000_u32).map(|n| (n % 251) as u8).collect();
    let file = api.upload("../Été \"1\".bin", &content).await;
    let sum = hex::encode(Sha256::digest(&content));
    assert_eq!((file["name"].as_str(), file["sha256"].as_str()), (Some("Été \"1\".bin"), Some(sum.as_str())));
    let path = format!("/api/v1/files/{}", file["id"].as_str().unwrap());
    let etag = format!("\"{sum}\"");

    for method in [Method::GET, Method::HEAD] {
        let answer = api.call(method.clone(), &path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(text(&answer, "content-length"), "1000");
        assert_eq!((text(&answer, "etag"), text(&answer, "accept-ranges")), (etag.as_str(), "bytes"));
        assert!(text(&answer, "content-disposition").ends_with("filename*=UTF-8''%C3%89t%C3%A9%20%221%22.bin"));
        assert_eq!(text(&answer, "x-content-type-options"), "nosniff");
        let expected = if method == Method::GET { content.clone() } else { Vec::new() };
        assert_eq!(answer.bytes().await.unwrap(), expected);
    }

    for (range, part) in [("bytes=0-9", 0..10), ("bytes=990-", 990..1_000), ("bytes=-5", 995..1_000)] {
        let answer = api.call(Method::GET, &path).header("range", range).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(text(&answer, "content-range"), format!("bytes {}-{}/1000", part.start, part.end - 1));
        assert_eq!(answer.bytes().await.unwrap(), content[part]);
    }
    let outside = api.call(Method::GET, &path).header("range", "bytes=1000-");
    expect_problem(outside, 416, "range_not_satisfiable").await;

    for (if_range, status) in [(etag.as_str(), 206), ("\"another\"", 200), ("W/\"weak\"", 200)] {
        let call = api.call(Method::GET, &path).header("range", "bytes=0-9").header("if-range", if_range);
        assert_eq!(call.send().await.unwrap().status(), status, "{if_range}");
    }
    let dated = api.call(Method::GET, &path).header("range", "bytes=0-9");
    let dated = dated.header("if-range", "Sat, 29 Oct 1994 19:43:31 GMT").send().await.unwrap();
    assert_eq!(dated.status(), StatusCode::OK, "a file has no date to compare with");
    for (if_match, status) in [(etag.as_str(), 200), ("*", 200), ("\"another\"", 412)] {
        let answer = api.call(Method::GET, &path).header("if-match", if_match).send().await.unwrap();
        assert_eq!(answer.status(), status, "{if_match}");
    }
    let known = api.call(Method::GET, &path).header("if-none-match", &etag).send().await.unwrap();
    assert_eq!((known.status(), text(&known, "etag")), (StatusCode::NOT_MODIFIED, etag.as_str()));

    let info = api.call(Method::GET, &format!("{path}/info")).send().await.unwrap();
    assert_eq!(info.json::<Value>().await.unwrap(), file);
    assert_eq!(api.call(Method::DELETE, &path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    expect_problem(api.call(Method::GET, &path), 404, "unknown_file").await;
    assert_eq!(api.kept(), 0);
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let api = TestApi::start().await;
    let file = api.upload("empty", b"").await;
    let path = format!("/api/v1/files/{}", file["id"].as_str().unwrap());
    let answer = api.call(Method::GET, &path).send().await.unwrap();
    assert_eq!((answer.status(), text(&answer, "content-length")), (StatusCode::OK, "0"));
    expect_problem(api.call(Method::GET, &path).header("range", "bytes=0-"), 416, "range_not_satisfiable").await;
}

/// The parts of a `multipart/byteranges` body: their headers and their content.
fn parts(media_type: &str, body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let find = |text: &[u8], what: &str| text.windows(what.len()).position(|window| window == what.as_bytes());
    let mut rest = body.strip_prefix(format!("--{boundary}\r\n").as_bytes()).unwrap();
    let mut parts = Vec::new();
    loop {
        let head = find(rest, "\r\n\r\n").unwrap();
        let end = find(rest, &format!("\r\n--{boundary}")).unwrap();
        parts.push((String::from_utf8(rest[..head].to_vec()).unwrap(), rest[head + 4..end].to_vec()));
        rest = &rest[end + 4 + boundary.len()..];
        let Some(more) = rest.strip_prefix(b"\r\n") else {
            assert_eq!(rest, b"--\r\n");
            return parts;
        };
        rest = more;
    }
}

#[tokio::test]
async fn several_ranges_come_in_one_answer() {
    let api = TestApi::start().await;
    // More than one read of the disk.
    let content: Vec<u8> = (0..90_000_u32).map(|n| (n % 251) as u8).collect();
    let path = format!("/api/v1/files/{}", api.upload("a.bin", &content).await["id"].as_str().unwrap());
    let answer =
        api.call(Method::GET, &path).header("range", "bytes=80000-, 0-9,500-70000,20-29").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert!(!answer.headers().contains_key("content-range"));
    let (length, media_type) = (text(&answer, "content-length").to_owned(), text(&answer, "content-type").to_owned());
    let body = answer.bytes().await.unwrap();
    assert_eq!(length, body.len().to_string());
    let expected = [80_000..90_000, 0..10, 500..70_001, 20..30].map(|range| {
        let place = format!("Content-Range: bytes {}-{}/90000", range.start, range.end - 1);
        (format!("Content-Type: application/octet-stream\r\n{place}"), content[range].to_vec())
    });
    assert_eq!(parts(&media_type, &body), expected);

    // What touches is one, and what is too much is everything.
    let joined = api.call(Method::GET, &path).header("range", "bytes=0-9,5-19,20-29").send().await.unwrap();
    assert_eq!((joined.status().as_u16(), text(&joined, "content-range")), (206, "bytes 0-29/90000"));
    let many: Vec<_> = (0..17).map(|n| format!("{0}-{0}", n * 10)).collect();
    let many = api.call(Method::GET, &path).header("range", format!("bytes={}", many.join(","))).send().await.unwrap();
    assert_eq!((many.status().as_u16(), text(&many, "content-length")), (200, "90000"));
    let outside = api.call(Method::GET, &path).header("range", "bytes=90000-,99999-").send().await.unwrap();
    assert_eq!((outside.status().as_u16(), text(&outside, "content-range")), (416, "bytes */90000"));
}

#[tokio::test]
async fn a_link_opens_its_file_and_nothing_else() {
    let api = TestApi::start().await;
    let file = api.upload("Été #1.txt", b"0123456789").await["id"].as_str().unwrap().to_owned();
    let other = api.upload("other.txt", b"x").await["id"].as_str().unwrap().to_owned();
    let url = api.link(&file, json!({"expires_in_s": 60})).await;
    assert!(url.starts_with(&format!("/api/v1/files/{file}/content/%C3%89t%C3%A9%20%231.txt?expires=")), "{url}");

    for method in [Method::GET, Method::HEAD] {
        let answer = api.anonymous(method.clone(), &url).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), text(&answer, "content-length")), (200, "10"), "{method}");
        assert!(text(&answer, "content-disposition").starts_with("inline; "));
        assert_eq!(text(&answer, "referrer-policy"), "no-referrer");
        assert_eq!(text(&answer, "access-control-allow-origin"), "*");
        let age: u64 = text(&answer, "cache-control").strip_prefix("private, max-age=").unwrap().parse().unwrap();
        assert!((50..=60).contains(&age));
    }
    let part = api.anonymous(Method::GET, &url).header("range", "bytes=2-4").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.text().await.unwrap().as_str()), (206, "234"));
    // The name is decoration, and so is what a player adds.
    let (path, query) = url.split_once('?').unwrap();
    for address in [format!("/api/v1/files/{file}?{query}"), format!("/api/v1/files/{file}/content/x?{query}&utm=1")] {
        assert_eq!(api.anonymous(Method::GET, &address).send().await.unwrap().status(), 200, "{address}");
    }
    let saved = api.link(&file, json!({"download": true})).await;
    let saved = api.anonymous(Method::GET, &saved).send().await.unwrap();
    assert!(text(&saved, "content-disposition").starts_with("attachment; "));

    let expires: u64 = query.strip_prefix("expires=").unwrap().split('&').next().unwrap().parse().unwrap();
    let later = url.replace(&expires.to_string(), &(expires + 1).to_string());
    for wrong in [
        later,
        url.replace(&file, &other),
        format!("{url}&download=true"),
        format!("{url}&expires={expires}"),
        url[..url.len() - 1].to_owned(),
        format!("{path}?expires={expires}&signature="),
        format!("{path}?signature=x"),
        "/api/v1/files/nonsense?signature=x".to_owned(),
    ] {
        let code = if wrong.contains("nonsense") { (404, "unknown_file") } else { (403, "link_invalid") };
        expect_problem(api.anonymous(Method::GET, &wrong), code.0, code.1).await;
        // A key does not make a bad link good.
        expect_problem(api.call(Method::GET, &wrong), code.0, code.1).await;
    }
    let query = query.to_owned();
    for (method, path) in [
        (Method::DELETE, format!("/api/v1/files/{file}?{query}")),
        (Method::GET, format!("/api/v1/files/{file}/info?{query}")),
        (Method::POST, format!("/api/v1/files/{file}/links?{query}")),
        (Method::GET, format!("{path}?expires={expires}")),
    ] {
        expect_problem(api.anonymous(method, &path), 401, "unauthorized").await;
    }
    for expires_in_s in [0, -1, 7 * 24 * 3600 + 1] {
        let call = api.call(Method::POST, &format!("/api/v1/files/{file}/links"));
        expect_problem(call.json(&json!({"expires_in_s": expires_in_s})), 422, "invalid_request").await;
    }
    let nothing = api.call(Method::POST, "/api/v1/files/file-6f9619ff8b86d011b42d00c04fc964ff/links").json(&json!({}));
    expect_problem(nothing, 404, "unknown_file").await;

    assert_eq!(api.call(Method::DELETE, &format!("/api/v1/files/{file}")).send().await.unwrap().status(), 204);
    expect_problem(api.anonymous(Method::GET, &url), 404, "unknown_file").await;
}

#[tokio::test]
async fn a_link_ends() {
    let api = TestApi::start().await;
    let file = api.upload("a.txt", b"a").await["id"].as_str().unwrap().to_owned();
    let url = api.link(&file, json!({"expires_in_s": 1})).await;
    let end = async { while api.anonymous(Method::GET, &url).send().await.unwrap().status() == StatusCode::OK {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), end).await.unwrap();
    expect_problem(api.anonymous(Method::GET, &url), 403, "link_expired").await;
}

#[tokio::test]
async fn the_link_of_a_playlist_opens_what_it_names() {
    let api = TestApi::start().await;
    let sound = api.made("audio.m4s", "audio/mp4", "0123456789").await;
    let playlist = |file: &str, name: &str| {
        format!(
            "#EXTM3U\n#EXT-X-MAP:URI=\"../../{file}/content/{name}\",BYTERANGE=\"2@0\"\n../../{file}/content/{name}\n"
        )
    };
    let mpegurl = "application/vnd.apple.mpegurl";
    let variant = api.made("64k.m3u8", mpegurl, &playlist(&sound, "audio.m4s")).await;
    let master = api.made("talk.m3u8", mpegurl, &playlist(&variant, "64k.m3u8")).await;

    // As a player does: it resolves what a playlist names against the playlist's own address.
    let base: reqwest::Url = api.url.parse().unwrap();
    let mut address = base.join(&api.link(&master, json!({})).await).unwrap();
    for _ in 0..2 {
        let answer = api.http.get(address.clone()).header("range", "bytes=0-5").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), text(&answer, "accept-ranges")), (200, "none"));
        assert_eq!(text(&answer, "content-type"), mpegurl);
        assert!(!answer.headers().contains_key("etag"));
        let head = api.http.head(address.clone()).send().await.unwrap();
        assert_eq!(text(&head, "content-length"), text(&answer, "content-length"));
        let lines = answer.text().await.unwrap();
        let named = lines.lines().last().unwrap().to_owned();
        assert!(lines.contains(&format!("URI=\"{named}\",")), "{lines}");
        address = address.join(&named).unwrap();
    }
    let part = api.http.get(address).header("range", "bytes=0-1").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.text().await.unwrap().as_str()), (206, "01"));

    // By key it comes as it is; and what somebody sent opens nothing.
    let plain = api.call(Method::GET, &format!("/api/v1/files/{master}/content/talk.m3u8")).send().await.unwrap();
    assert_eq!(plain.text().await.unwrap(), playlist(&variant, "64k.m3u8"));
    let sent = api.upload("evil.m3u8", playlist(&sound, "audio.m4s").as_bytes()).await;
    let link = api.link(sent["id"].as_str().unwrap(), json!({})).await;
    let sent = api.anonymous(Method::GET, &link).send().await.unwrap().text().await.unwrap();
    assert_eq!(sent, playlist(&sound, "audio.m4s"));
}

#[tokio::test]
async fn a_growing_file_is_served_as_long_as_it_is() {
    let api = TestApi::start().await;
    let growing = api.blobs.grow("live.aac", Owner::default(), "audio/aac").await.unwrap();
    let path = format!("/api/v1/files/{}", growing.id());
    let info =
        async || api.call(Method::GET, &format!("{path}/info")).send().await.unwrap().json::<Value>().await.unwrap();
    std::fs::write(growing.path(), "01234").unwrap();
    let now = info().await;
    assert_eq!((&now["growing"], &now["bytes"], now.get("sha256")), (&json!(true), &json!(5), None));
    let link = api.link(&growing.id().to_string(), json!({})).await;
    for call in [api.call(Method::GET, &path), api.anonymous(Method::GET, &link)] {
        let answer = call.header("range", "bytes=3-").send().await.unwrap();
        assert_eq!((text(&answer, "content-range"), text(&answer, "cache-control")), ("bytes 3-4/5", "no-store"));
        assert!(!answer.headers().contains_key("etag"));
        assert_eq!(answer.text().await.unwrap(), "34");
    }
    let tagged =
        api.call(Method::GET, &path).header("range", "bytes=3-").header("if-range", "\"\"").send().await.unwrap();
    assert_eq!((tagged.status().as_u16(), text(&tagged, "content-length")), (200, "5"));
    std::fs::write(growing.path(), "0123456789").unwrap();
    assert_eq!(info().await["bytes"], 10);
    api.blobs.seal(&growing.id()).await.unwrap();
    let sealed = info().await;
    assert_eq!((sealed.get("growing"), sealed["sha256"].as_str().map(str::len)), (None, Some(64)));
    assert_eq!(api.call(Method::DELETE, &path).send().await.unwrap().status(), 204);
    assert_eq!(api.kept(), 0);
}

#[tokio::test]
async fn the_key_of_links_is_private_and_stays() {
    use std::os::unix::fs::PermissionsExt;
    let api = TestApi::start().await;
    let path = api.folder.path().join("link-key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let key = std::fs::read(&path).unwrap();
    Links::load_or_create(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), key);
    std::fs::write(&path, "short").unwrap();
    assert!(Links::load_or_create(&path).unwrap_err().to_string().contains("is damaged"));
}
