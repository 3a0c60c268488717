//! Whose files are: what tenants and devices see of them, also of those that jobs make.

use fourmi_model::{BlobId, State};
use fourmi_tests::{Platform, Recording, eventually_async};
use serde_json::{Value, json};

use crate::{
    keys::{APP, app, make, with},
    problem,
};

/// Uploads with a key and gives the id.
async fn upload(platform: &Platform, key: &str, content: impl Into<reqwest::Body>) -> String {
    let answer = with(platform, key, "POST", "/files?name=a.txt").body(content).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

/// Status and body of what a key is told, without the file's id.
async fn told(platform: &Platform, key: &str, method: &str, path: &str, id: &str) -> (u16, String) {
    let mut call = with(platform, key, method, &path.replace("ID", id));
    if path.starts_with("/uploads") {
        call = call.header("tus-resumable", "1.0.0").header("upload-offset", 2);
        call = call.header("content-type", "application/offset+octet-stream");
    } else if path.ends_with("/links") {
        call = call.json(&json!({}));
    }
    let answer = call.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap().replace(id, "ID"))
}

const NONE: &str = "file-6f9619ff8b86d011b42d00c04fc964ff";

/// What anybody may try with a file.
const TRIED: [(&str, &str); 6] = [
    ("GET", "/files/ID"),
    ("HEAD", "/files/ID"),
    ("GET", "/files/ID/content/a.txt"),
    ("GET", "/files/ID/info"),
    ("POST", "/files/ID/links"),
    ("DELETE", "/files/ID"),
];

#[tokio::test(flavor = "multi_thread")]
async fn files_are_seen_by_their_tenant_and_by_keys_of_all() {
    let platform = Platform::with(&[], 0).await;
    let (acme, other) = (app(&platform, "acme").await, app(&platform, "other").await);
    let device = json!({"name": "kiosk", "scopes": APP, "tenant": "acme", "device": true});
    let (_, kiosk) = make(&platform, device).await;
    let id = upload(&platform, &acme, "hello").await;
    let nobodys = platform.upload_bytes("a.txt", "hello").await.to_string();
    let own = upload(&platform, &kiosk, "hello").await;

    for (method, path) in TRIED {
        for (key, id) in [(&other, &id), (&other, &nobodys), (&acme, &nobodys), (&kiosk, &id), (&other, &own)] {
            let found = told(&platform, key, method, path, id).await;
            assert_eq!(found.0, 404, "{method} {path}");
            assert_eq!(found, told(&platform, key, method, path, NONE).await, "{method} {path}");
        }
    }
    for (key, id) in [(&acme, &id), (&acme, &own), (&kiosk, &own), (&platform.key().to_owned(), &id)] {
        assert_eq!(told(&platform, key, "GET", "/files/ID", id).await, (200, "hello".to_owned()));
    }
    let info = platform.get(&format!("/files/{id}/info")).await;
    assert_eq!(info["tenant"], "acme");

    // A link was made by somebody who saw the file, and is for everybody.
    let link = with(&platform, &acme, "POST", &format!("/files/{id}/links")).json(&json!({})).send().await.unwrap();
    let link: Value = link.json().await.unwrap();
    let opened = platform.open_request("GET", link["url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(opened.text().await.unwrap(), "hello");

    // A payload that names a foreign file names none.
    let submit = async |key: &str, file: &str| {
        let job = json!({"kind": "media.probe", "payload": {"source": {"upload": file}}});
        with(&platform, key, "POST", "/jobs").json(&job).send().await.unwrap()
    };
    for (key, file) in [(&other, &id), (&kiosk, &id), (&acme, &nobodys), (&acme, &NONE.to_owned())] {
        assert_eq!(problem(submit(key, file).await, 422).await, "unknown_file");
    }
    for (key, file) in [(&acme, &id), (&acme, &own), (&kiosk, &own)] {
        assert_eq!(submit(key, file).await.status(), 202);
    }
    assert_eq!(told(&platform, &acme, "DELETE", "/files/ID", &id).await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_its_tenants() {
    let platform = Platform::with(&[], 0).await;
    let (acme, other) = (app(&platform, "acme").await, app(&platform, "other").await);
    let made = with(&platform, &acme, "POST", "/uploads").header("tus-resumable", "1.0.0").header("upload-length", 5);
    let made = made.send().await.unwrap();
    let place = made.headers()["location"].to_str().unwrap().to_owned();
    let id = place.rsplit('/').next().unwrap();
    let piece = |key: &str, at: u64, content: &'static str| {
        let call = with(&platform, key, "PATCH", &format!("/uploads/{id}")).header("tus-resumable", "1.0.0");
        call.header("upload-offset", at).header("content-type", "application/offset+octet-stream").body(content).send()
    };
    assert_eq!(piece(&acme, 0, "he").await.unwrap().status(), 204);
    for method in ["HEAD", "PATCH", "DELETE"] {
        let found = told(&platform, &other, method, "/uploads/ID", id).await;
        assert_eq!(found.0, 404, "{method}");
        assert_eq!(found, told(&platform, &other, method, "/uploads/ID", NONE).await, "{method}");
    }
    assert_eq!(piece(&acme, 2, "llo").await.unwrap().status(), 204);
    assert_eq!(told(&platform, &acme, "GET", "/files/ID", id).await, (200, "hello".to_owned()));
    assert_eq!(told(&platform, &other, "GET", "/files/ID", id).await.0, 404);

    // Who only sends files need not be allowed to read them.
    let (_, sender) = make(&platform, json!({"name": "sender", "scopes": ["files:write"], "tenant": "acme"})).await;
    assert_eq!(told(&platform, &sender, "GET", "/files/ID/info", id).await.0, 200);
    assert_eq!(told(&platform, &sender, "GET", "/files/ID", id).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_jobs_make_is_of_who_submitted_them_also_if_it_was_made_before() {
    let platform = Platform::start().await;
    let (acme, other) = (app(&platform, "acme").await, app(&platform, "other").await);
    let recording = Recording { seconds: 3, picture: None, ..Recording::default() };
    let recording = std::fs::read(recording.make(platform.data(), "a.mp3")).unwrap();
    // The files of an extraction, by role.
    let extracted = async |key: &str| {
        let source = upload(&platform, key, recording.clone()).await;
        let payload = json!({"source": {"upload": source}, "format": "opus", "hls": {}});
        let job = with(&platform, key, "POST", "/jobs").json(&json!({"kind": "audio.extract", "payload": payload}));
        let job: Value = job.send().await.unwrap().json().await.unwrap();
        let path = format!("/jobs/{}", job["id"].as_str().unwrap());
        let job = eventually_async("the job ends", async || {
            let job: Value = with(&platform, key, "GET", &path).send().await.unwrap().json().await.unwrap();
            let state: State = serde_json::from_value(job["state"].clone()).unwrap();
            state.is_final().then_some(job)
        })
        .await;
        assert_eq!(job["state"], "succeeded", "{job}");
        job["result"].clone()
    };
    let ids = |result: &Value| -> Vec<BlobId> {
        let files = result["files"].as_array().unwrap();
        files.iter().map(|file| serde_json::from_value(file["file"].clone()).unwrap()).collect()
    };
    let first = extracted(&acme).await;
    assert_ne!(first["reused"], true);
    assert_eq!(ids(&extracted(&acme).await), ids(&first));

    let second = extracted(&other).await;
    assert_eq!(second["reused"], true);
    assert_eq!(ids(&second).len(), ids(&first).len());
    for (own, foreign, result) in [(&acme, &other, &first), (&other, &acme, &second)] {
        for id in ids(result) {
            assert_eq!(told(&platform, own, "GET", "/files/ID/info", &id.to_string()).await.0, 200);
            assert_eq!(told(&platform, foreign, "GET", "/files/ID/info", &id.to_string()).await.0, 404);
        }
    }
    // Its playlists name its own files, so that it still plays when the first owner has deleted all.
    for id in ids(&first) {
        assert_eq!(told(&platform, &acme, "DELETE", "/files/ID", &id.to_string()).await.0, 204);
    }
    let playlist = second["files"].as_array().unwrap().iter().find(|file| file["role"] == "hls").unwrap();
    let path = format!("/files/{}/links", playlist["file"].as_str().unwrap());
    let link = with(&platform, &other, "POST", &path).json(&json!({})).send().await.unwrap();
    let link: Value = link.json().await.unwrap();
    let mut address: reqwest::Url = format!("{}{}", platform.url(), link["url"].as_str().unwrap()).parse().unwrap();
    for step in 0..3 {
        let answer = reqwest::get(address.clone()).await.unwrap();
        assert_eq!(answer.status(), 200, "{address}");
        if step < 2 {
            let text = answer.text().await.unwrap();
            address = address.join(text.lines().rfind(|line| line.starts_with("../")).unwrap()).unwrap();
        }
    }
}
