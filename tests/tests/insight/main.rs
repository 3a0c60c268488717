//! The insight worker, from a table to a map of it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail where it stands")]

mod analyze;
mod stop;

use std::time::Duration;

use fourmi_client::{JobHandle, Raw};
use fourmi_kinds::{DatasetAnalyzed, DatasetInfo};
use fourmi_model::{BlobId, Job, State};
use fourmi_tests::{Platform, Program};
use serde_json::{Value, json};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(120);

/// A platform with an insight worker.
struct Laboratory {
    platform: Platform,
    worker: Program,
}

impl Laboratory {
    async fn open() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&'static str, &str)]) -> Self {
        let platform = Platform::with(settings, 0).await;
        let worker = platform.insight_worker();
        Self { platform, worker }
    }

    async fn upload(&self, name: &str, table: impl Into<Vec<u8>>) -> BlobId {
        self.platform.upload_bytes(name, table).await
    }

    async fn submit(&self, file: BlobId, options: Value) -> JobHandle<Raw> {
        let mut payload = json!({"file": file});
        payload.as_object_mut().unwrap().extend(options.as_object().cloned().unwrap_or_default());
        self.platform.client.submit_raw("dataset.analyze", payload).send().await.unwrap()
    }

    async fn analyze(&self, file: BlobId, options: Value) -> Job {
        end(&self.submit(file, options).await).await
    }

    async fn analyzed(&self, file: BlobId, options: Value) -> DatasetAnalyzed {
        result(self.analyze(file, options).await)
    }

    /// What somebody else gets for a table, with everything by default.
    async fn analyzed_by(&self, token: &str, name: &str, table: &str) -> DatasetAnalyzed {
        let request = |path: &str| self.platform.request_as(token, "POST", path);
        let upload = request(&format!("/files?name={name}")).body(table.to_owned()).send().await.unwrap();
        let file: Value = upload.json().await.unwrap();
        let job = json!({"kind": "dataset.analyze", "payload": {"file": file["id"]}});
        let answer = request("/jobs").header("prefer", "wait=60").json(&job).send().await.unwrap();
        result(answer.json().await.unwrap())
    }

    async fn probed(&self, file: BlobId) -> DatasetInfo {
        let handle = self.platform.client.submit_raw("dataset.probe", json!({"file": file})).send().await.unwrap();
        let job = end(&handle).await;
        assert_eq!(job.state, State::Succeeded, "{:#?}", job.error);
        serde_json::from_value(job.result.unwrap()).unwrap()
    }

    /// The content of one of the files of a result.
    async fn content(&self, result: &DatasetAnalyzed, role: &str) -> Vec<u8> {
        let file = result.files.iter().find(|file| file.role == role).unwrap();
        let answer = self.platform.request("GET", &format!("/files/{}", file.file)).send().await.unwrap();
        answer.bytes().await.unwrap().to_vec()
    }

    /// The points as JSON: columns by name.
    async fn points(&self, result: &DatasetAnalyzed) -> Value {
        serde_json::from_slice(&self.content(result, "points_json").await).unwrap()
    }
}

async fn end(handle: &JobHandle<Raw>) -> Job {
    timeout(PATIENCE, handle.wait()).await.expect("the job ends").unwrap()
}

fn result(job: Job) -> DatasetAnalyzed {
    assert_eq!(job.state, State::Succeeded, "{:#?}", job.error);
    serde_json::from_value(job.result.unwrap()).unwrap()
}

/// The names of all files.
fn names(result: &DatasetAnalyzed) -> Vec<&str> {
    result.files.iter().map(|file| file.name.as_str()).collect()
}

/// The hashes of all files: equal files, equal bytes.
fn hashes(result: &DatasetAnalyzed) -> Vec<(String, String)> {
    result.files.iter().map(|file| (file.role.clone(), file.sha256.clone())).collect()
}

/// Three round groups of rows far from each other, the last row far from all of them; its columns are an id,
/// numbers, a category, and a text of its own in each row.
fn groups(rows: u32) -> String {
    let mut table = String::from("id,width,height,depth,colour,remark\n");
    for row in 0..rows {
        let group = row % 3;
        // Evenly over the unit cube (Weyl).
        let [a, b, c] = [0.754_877, 0.569_840, 0.430_159].map(|step| (f64::from(row) * step).fract());
        let middle = f64::from(group) * 10.0;
        let (a, b, c) = if row == rows - 1 { (60.0, -60.0, 60.0) } else { (middle + a, b - middle, c) };
        let colour = ["red", "green", "blue"][group as usize];
        table += &format!("row-{row},{a:.6},{b:.6},{c:.6},{colour},\"remark {row} of a person, at some length\"\n");
    }
    table
}
