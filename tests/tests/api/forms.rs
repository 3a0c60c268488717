//! Files that arrive in forms, as browsers send them.

use std::path::{Path, PathBuf};

use fourmi_tests::Platform;
use reqwest::{Body, RequestBuilder};
use serde_json::Value;

const FILE: &str = "--XX\r\ncontent-disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\n";
const FIELD: &str = "--XX\r\ncontent-disposition: form-data; name=\"other\"\r\n\r\nvalue\r\n";
const TYPE: &str = "multipart/form-data; boundary=XX";
/// That of `hello`.
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn form(platform: &Platform, body: impl Into<Body>) -> RequestBuilder {
    platform.request("POST", "/files").header("content-type", TYPE).body(body)
}

async fn answer(call: RequestBuilder) -> (u16, Value) {
    let answer = call.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn refused(call: RequestBuilder, status: u16, code: &str) {
    let (found, problem) = answer(call).await;
    assert_eq!((found, &problem["code"]), (status, &Value::from(code)), "{problem}");
}

/// The files that are stored, whole or half.
pub(crate) fn stored(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { stored(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_form_stores_its_file() {
    let platform = Platform::with(&[], 0).await;
    let picture = b"\x89PNG\r\n\x1a\n----------XX";
    let head = "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"../Été \\\"1\\\".mp4\"\r\n\
        Content-Type: video/mp4\r\n\r\n";
    let body = [FIELD.as_bytes(), head.as_bytes(), picture, b"\r\n", FIELD.as_bytes(), b"--XX--\r\n"].concat();
    // However it arrives.
    for size in [1, 7, body.len()] {
        let pieces: Vec<_> = body.chunks(size).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let sent = form(&platform, Body::wrap_stream(futures_util::stream::iter(pieces))).send().await.unwrap();
        let place = sent.headers()["location"].to_str().unwrap().to_owned();
        assert_eq!(sent.status(), 201);
        let file: Value = sent.json().await.unwrap();
        assert_eq!(place, format!("/api/v1/files/{}", file["id"].as_str().unwrap()));
        assert_eq!((&file["name"], &file["media_type"]), (&"Été \"1\".mp4".into(), &"image/png".into()));
        assert!(file["submitted_by"].as_str().unwrap().starts_with("key-"), "{file}");
        let id = file["id"].as_str().unwrap();
        let content = platform.request("GET", &format!("/files/{id}")).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(content, picture.as_slice());
        let (_, named) = answer(form(&platform, body.clone()).query(&[("name", "b.png")])).await;
        assert_eq!(named["name"], "b.png");
    }

    // A checksum stands beside the file.
    let summed = |sum: &str| format!("{}\r\ncontent-sha256: {sum}\r\n\r\nhello\r\n--XX--", FILE.trim_end());
    assert_eq!(answer(form(&platform, summed(HELLO))).await.1["sha256"], HELLO);
    refused(form(&platform, summed(&"0".repeat(64))), 422, "checksum_mismatch").await;
    refused(form(&platform, summed("x")), 400, "invalid_header").await;
    refused(form(&platform, format!("{FILE}hello\r\n--XX--")).header("content-sha256", HELLO), 400, "invalid_header")
        .await;
}

#[tokio::test]
async fn what_is_no_form_leaves_nothing_behind() {
    let platform = Platform::with(&[("FOURMI_MAX_UPLOAD_BYTES", "4KiB")], 0).await;
    let files = platform.data().join("files");
    let good = format!("{FILE}hello\r\n--XX--");
    let names = [&b"--XX\r\ncontent-disposition: form-data; filename=\"\xff\"\r\n\r\n"[..], b"\r\n--XX--"].concat();
    let huge = format!("--XX\r\nx-header: {}\r\n\r\n\r\n--XX--", "x".repeat(100_000));
    for body in [
        Vec::new(),
        b"garbage".to_vec(),
        good.replace("XX", "YY").into(),
        format!("{FILE}cut off").into(),
        format!("{FIELD}--XX--").into(),
        format!("{FILE}one\r\n{FILE}two\r\n--XX--").into(),
        format!("{FILE}hello\r\n--XX garbage").into(),
        format!("{}--XX--", FIELD.repeat(10_000)).into(),
        format!("{FILE}hello\r\n{}--XX--", FIELD.repeat(10_000)).into(),
        huge.clone().into(),
        format!("{FILE}hello\r\n{huge}").into(),
        names,
    ] {
        refused(form(&platform, body), 400, "invalid_form").await;
    }
    for kind in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"\u{1}\""] {
        let call =
            platform.request("POST", "/files").header("content-type", kind.replace('\u{1}', "\t")).body(good.clone());
        refused(call, 400, "invalid_form").await;
    }
    let mixed = platform.request("POST", "/files").header("content-type", "multipart/mixed; boundary=XX");
    refused(mixed.body(good.clone()), 415, "unsupported_media_type").await;

    // Too large, whether or not it says so.
    let large = format!("{FILE}{}\r\n--XX--", "x".repeat(4097));
    refused(form(&platform, large.clone()), 413, "file_too_large").await;
    let pieces: Vec<_> = large.as_bytes().chunks(500).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    refused(form(&platform, Body::wrap_stream(futures_util::stream::iter(pieces))), 413, "file_too_large").await;
    refused(form(&platform, format!("{FILE}{}\r\n--XX--", "x".repeat(8_000_000))), 413, "file_too_large").await;
    assert_eq!(stored(&files), Vec::<PathBuf>::new());

    assert_eq!(answer(form(&platform, large.replacen('x', "", 1))).await.0, 201);
}
