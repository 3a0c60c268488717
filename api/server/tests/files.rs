//! Files, keys and errors over real HTTP; no Redis is needed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{path::Path, sync::Arc};

use fourmi_api::{
    Keys, Server,
    routes::{
        files::{self, Files},
        kinds,
    },
    service,
};
use fourmi_blobs::Blobs;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::Value;
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
    http: reqwest::Client,
    _stop: DropGuard,
}

impl TestApi {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).await.unwrap();
        let files = files::group(Files { blobs, max_upload_bytes: MAX_UPLOAD_BYTES as u64 });
        let service = service(Arc::new(Keys::only(KEY)), vec![files, kinds::group()]);
        let stop = CancellationToken::new();
        let server = Server::of(TcpListener::bind("127.0.0.1:0").await.unwrap(), service, stop.clone());
        let url = format!("http://{}", server.address().unwrap());
        tokio::spawn(server.run());
        let _chosen_already = rustls::crypto::ring::default_provider().install_default();
        Self { url, folder, http: reqwest::Client::new(), _stop: stop.drop_guard() }
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
        count(self.folder.path())
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
    expect_problem(upload().header("content-type", "multipart/form-data"), 415, "unsupported_media_type").await;
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
