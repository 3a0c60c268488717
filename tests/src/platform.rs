//! The platform, as its users run it: Redis, the API and workers, on a data folder of the test's own.

use std::path::{Path, PathBuf};

use fourmi_client::Client;
use fourmi_model::{BlobId, Job};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Program, RedisServer, eventually_async};

/// A running platform; everything stops with it.
pub struct Platform {
    /// Its Redis.
    pub redis: RedisServer,
    /// Its API.
    pub api: Program,
    /// Its media workers.
    pub workers: Vec<Program>,
    /// A client with the first key.
    pub client: Client,
    data: TempDir,
    settings: Vec<(&'static str, String)>,
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Platform {
    /// A platform with one media worker.
    pub async fn start() -> Self {
        Self::with(&[], 1).await
    }

    /// A platform with these settings and this number of media workers.
    pub async fn with(settings: &[(&'static str, &str)], workers: usize) -> Self {
        let redis = RedisServer::start();
        let data = TempDir::new().unwrap();
        let mut all = vec![
            ("REDIS_URL", redis.url()),
            ("FOURMI_DATA", data.path().display().to_string()),
            ("FOURMI_LISTEN", "127.0.0.1:0".to_owned()),
            ("FOURMI_LEASE_MS", "1500".to_owned()),
            ("NO_COLOR", "1".to_owned()),
            // Chores come when a test asks for them.
            ("FOURMI_MAINTENANCE", "off".to_owned()),
        ];
        // Where scripts/setup has put it; without it, it is looked for in PATH.
        all.extend(std::env::var("FOURMI_YTDLP").map(|path| ("FOURMI_YTDLP", path)));
        all.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let api = Program::start("fourmi-api", &[], all.clone());
        let url = address(&api);
        let key = std::fs::read_to_string(data.path().join("api-key")).unwrap().trim().to_owned();
        let client = Client::new(&url, &key).unwrap();
        let http = reqwest::Client::builder().build().unwrap();
        let mut platform = Self { redis, api, workers: Vec::new(), client, data, settings: all, http, url, key };
        for _ in 0..workers {
            platform.add_worker();
        }
        platform
    }

    /// Starts another media worker.
    pub fn add_worker(&mut self) {
        let worker = Program::start("fourmi-media", &[], self.settings.clone());
        worker.wait_for_line("ready");
        self.workers.push(worker);
    }

    /// A scheduler, which stops with its platform.
    pub fn scheduler(&self) -> Program {
        let scheduler = Program::start("fourmi-schedules", &[], self.settings.clone());
        scheduler.wait_for_line("ready");
        scheduler
    }

    /// A messaging worker, which stops with its platform.
    pub fn messaging_worker(&self) -> Program {
        let worker = Program::start("fourmi-messaging", &[], self.settings.clone());
        worker.wait_for_line("ready");
        worker
    }

    /// An insight worker, which stops with its platform.
    pub fn insight_worker(&self) -> Program {
        let worker = Program::start("fourmi-insight", &[], self.settings.clone());
        worker.wait_for_line("ready");
        worker
    }

    /// A maintenance worker, which stops with its platform.
    pub fn maintenance_worker(&self) -> Program {
        let worker = Program::start("fourmi-maintenance", &[], self.settings.clone());
        worker.wait_for_line("ready");
        worker
    }

    /// Starts another media worker, with this much room in its scratch folder.
    pub fn add_worker_with_room(&mut self, kibibytes: u32) {
        let kept = self.data().join("kept");
        std::fs::create_dir_all(&kept).unwrap();
        let worker = Program::start_on_small_disk("fourmi-media", &kept, kibibytes, self.settings.clone());
        worker.wait_for_line("ready");
        self.workers.push(worker);
    }

    /// Starts the API again, on the port that it had.
    pub fn restart_api(&mut self) {
        self.api = Program::start("fourmi-api", &[], self.settings_with_port());
        self.answers_again();
    }

    /// Starts the API again, with this much room for files, all of which may be used.
    pub fn restart_api_with_files(&mut self, kibibytes: u32) {
        self.restart_api_with_reserve(kibibytes, "0");
    }

    /// Starts the API again, with this much room for files, of which so much is left free (`FOURMI_KEEP_FREE_BYTES`).
    pub fn restart_api_with_reserve(&mut self, kibibytes: u32, reserve: &str) {
        let files = self.data().join("files");
        let mut settings = self.settings_with_port();
        settings.push(("FOURMI_KEEP_FREE_BYTES", reserve.to_owned()));
        self.api = Program::start_on_small_disk("fourmi-api", &files, kibibytes, settings);
        self.answers_again();
    }

    /// Another API on the same data and Redis, on a port of its own.
    pub fn another_api(&self) -> OtherApi {
        let program = Program::start("fourmi-api", &[], self.settings.clone());
        OtherApi { url: address(&program), program }
    }

    fn answers_again(&mut self) {
        address(&self.api);
        // The connections that the old one kept open are dead.
        self.http = reqwest::Client::builder().build().unwrap();
    }

    fn settings_with_port(&self) -> Vec<(&'static str, String)> {
        let mut settings = self.settings.clone();
        settings.retain(|(name, _)| *name != "FOURMI_LISTEN");
        settings.push(("FOURMI_LISTEN", self.url.trim_start_matches("http://").to_owned()));
        settings
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The address of the API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The settings that its programs have.
    pub fn settings(&self) -> &[(&'static str, String)] {
        &self.settings
    }

    /// A request to the API with the first key. `path` is what comes after `/api/v1`.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.open_request(method, &format!("/api/v1{path}")).bearer_auth(&self.key)
    }

    /// A request without a key, of any path.
    pub fn open_request(&self, method: &str, path: &str) -> RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    /// Gets a document.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.request("GET", path).send().await.unwrap();
        assert!(answer.status().is_success(), "{}: {}", answer.status(), answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// Submits a job and gives the answer.
    pub async fn submit(&self, kind: &str, payload: Value) -> Response {
        self.request("POST", "/jobs").json(&json!({"kind": kind, "payload": payload})).send().await.unwrap()
    }

    /// Uploads a file.
    pub async fn upload(&self, path: &Path) -> BlobId {
        self.client.upload(path).send().await.unwrap().id
    }

    /// Uploads bytes under a name.
    pub async fn upload_bytes(&self, name: &str, bytes: impl Into<Vec<u8>>) -> BlobId {
        let upload = self.request("POST", &format!("/files?name={name}")).body(bytes.into());
        let answer = upload.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        serde_json::from_value(answer.json::<Value>().await.unwrap()["id"].clone()).unwrap()
    }

    /// Submits a job for an uploaded file and waits for its end.
    pub async fn run(&self, kind: &str, file: BlobId, options: Value) -> Job {
        let mut payload = json!({"source": {"upload": file}});
        payload.as_object_mut().unwrap().extend(options.as_object().cloned().unwrap_or_default());
        let handle = self.client.submit_raw(kind, payload).send().await.unwrap();
        handle.wait().await.unwrap()
    }

    /// Whether nothing that a run needs is left: no child process, no scratch file, no half-written file.
    pub async fn nothing_is_left(&self) {
        eventually_async("nothing is left behind", async || {
            let runs: Vec<PathBuf> = folders(&self.data().join("scratch")).iter().flat_map(|it| folders(it)).collect();
            let incoming = folders(&self.data().join("files/incoming"));
            (runs.is_empty() && incoming.is_empty()).then_some(())
        })
        .await;
    }
}

/// A second API.
pub struct OtherApi {
    /// The program.
    pub program: Program,
    url: String,
}

impl OtherApi {
    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The command lines of the processes that work in `folder` or name it.
pub fn processes_in(folder: &Path) -> Vec<String> {
    let line = |process: PathBuf| {
        let line = std::fs::read(process.join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let works_there = std::fs::read_link(process.join("cwd")).is_ok_and(|place| place.starts_with(folder));
        (works_there || line.contains(&*folder.to_string_lossy())).then_some(line)
    };
    folders(Path::new("/proc")).into_iter().filter_map(line).collect()
}

fn address(api: &Program) -> String {
    let line = api.wait_for_line("listening");
    let address = match serde_json::from_str::<Value>(&line) {
        Ok(line) => line["address"].as_str().unwrap().to_owned(),
        Err(_) => line.split("address=").nth(1).unwrap().trim().to_owned(),
    };
    format!("http://{address}")
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
