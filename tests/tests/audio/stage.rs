//! A platform whose worker may reach one server of the test's own, and words for what happens on it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use fourmi_client::{JobHandle, Raw, Update};
use fourmi_kinds::{AudioExtracted, AudioRecorded};
use fourmi_model::{Artifact, Job, PolicyOverrides, Progress, State};
use fourmi_tests::{Platform, Recording, eventually, media_server::MediaServer, processes_in};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A server, and a platform that may fetch from it.
pub(crate) struct Stage {
    pub(crate) platform: Platform,
    /// Shared, so that a stream may live on it while the platform changes.
    pub(crate) server: Arc<MediaServer>,
    pub(crate) folder: TempDir,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// One with these settings; `FOURMI_EGRESS_ALLOW` comes on top of the server's address.
    pub(crate) async fn with(settings: &[(&'static str, &str)]) -> Self {
        let server = Arc::new(MediaServer::start());
        let more = settings.iter().find(|(name, _)| *name == "FOURMI_EGRESS_ALLOW").map_or("", |(_, value)| value);
        let allow = format!("{},{more}", server.address());
        let allow = allow.trim_end_matches(',');
        let mut all = vec![("FOURMI_SLOTS", "4")];
        all.extend(settings);
        all.retain(|(name, _)| *name != "FOURMI_EGRESS_ALLOW");
        all.push(("FOURMI_EGRESS_ALLOW", allow));
        let platform = Platform::with(&all, 1).await;
        Self { platform, server, folder: TempDir::new().unwrap() }
    }

    /// One that takes a silence of 1.5 seconds for an absence. The others have patience, because tests hold bodies.
    pub(crate) async fn hasty(settings: &[(&'static str, &str)]) -> Self {
        Self::with(&[settings, &[("FOURMI_MEDIA_STALL_MS", "1500")]].concat()).await
    }

    /// Six seconds with picture, sound and chapters.
    pub(crate) fn recording(&self, name: &str) -> PathBuf {
        Recording::default().make(self.folder.path(), name)
    }

    /// Submits an extraction that tries twice, without much of a wait.
    pub(crate) async fn submit(&self, url: &str, options: Value) -> JobHandle<Raw> {
        self.submit_kind("audio.extract", with_options(json!({"source": {"url": url}}), options)).await
    }

    pub(crate) async fn submit_kind(&self, kind: &str, payload: Value) -> JobHandle<Raw> {
        let policy = PolicyOverrides { attempts: Some(2), backoff_ms: Some(20), ..PolicyOverrides::default() };
        self.platform.client.submit_raw(kind, payload).policy(policy).send().await.unwrap()
    }

    /// The job of an extraction once it is over.
    pub(crate) async fn extract(&self, url: &str, options: Value) -> Job {
        end(&self.submit(url, options).await).await
    }

    /// What an extraction gives.
    pub(crate) async fn extracted(&self, url: &str, options: Value) -> AudioExtracted {
        result(self.extract(url, options).await)
    }

    /// The content of an artifact.
    pub(crate) async fn content(&self, artifact: &Artifact) -> Vec<u8> {
        let path = self.folder.path().join(format!("{}-{}", artifact.file, artifact.name));
        let download = self.platform.client.download(artifact.file).sha256(&artifact.sha256).replace(true);
        download.to(&path).await.unwrap();
        std::fs::read(path).unwrap()
    }

    /// Ends the worker as a power cut would; what it started ends with it.
    pub(crate) fn kill_worker(&mut self) {
        let mut worker = self.platform.workers.remove(0);
        worker.kill();
        self.no_process_is_left();
    }

    /// What runs in the data folder and is no program of ours.
    pub(crate) fn foreign_processes(&self) -> Vec<String> {
        let mut lines = processes_in(self.platform.data());
        lines.retain(|line| line.contains("yt-dlp") || line.contains("ffmpeg"));
        lines
    }

    /// Waits until no such process is there.
    pub(crate) fn no_process_is_left(&self) {
        eventually("the end of every process of the run", || self.foreign_processes().is_empty());
    }
}

fn with_options(mut payload: Value, options: Value) -> Value {
    payload.as_object_mut().unwrap().extend(options.as_object().cloned().unwrap_or_default());
    payload
}

/// The sound as it is, and nothing beside it: as little work as can be.
pub(crate) fn plain() -> Value {
    json!({"format": "copy", "waveform": "off", "thumbnails": "off", "chapters": {"sidecar": false}})
}

/// The same, fetched anew.
pub(crate) fn plain_and_new() -> Value {
    with_options(plain(), json!({"reuse": false}))
}

pub(crate) async fn end(handle: &JobHandle<Raw>) -> Job {
    timeout(PATIENCE, handle.wait()).await.expect("the job ends").unwrap()
}

pub(crate) fn result(job: Job) -> AudioExtracted {
    assert_eq!(job.state, State::Succeeded, "{:#?}", job.error);
    serde_json::from_value(job.result.unwrap()).unwrap()
}

pub(crate) fn recorded(job: Job) -> AudioRecorded {
    assert_eq!(job.state, State::Succeeded, "{:#?}", job.error);
    serde_json::from_value(job.result.unwrap()).unwrap()
}

pub(crate) fn code(job: &Job) -> &str {
    job.error.as_ref().map_or("", |error| &error.code)
}

/// Waits for a progress report that is as it should be.
pub(crate) async fn until_progress(handle: &JobHandle<Raw>, there: impl Fn(&Progress) -> bool) -> Progress {
    let mut updates = handle.events();
    let found = async {
        while let Some(update) = updates.next().await {
            let progress = match update.unwrap() {
                Update::Snapshot(job) | Update::State(job) => {
                    assert!(!job.state.is_final(), "{:?} {:?}", job.state, job.error);
                    job.progress
                }
                Update::Progress { progress, .. } => Some(progress),
                Update::Log { .. } | Update::Interrupted { .. } => None,
            };
            if let Some(progress) = progress.filter(&there) {
                return progress;
            }
        }
        panic!("the job ends before it gets there");
    };
    timeout(PATIENCE, found).await.expect("the run gets there")
}

/// Waits until the run is in a stage.
pub(crate) async fn until_stage(handle: &JobHandle<Raw>, stage: &str) {
    until_progress(handle, |progress| progress.stage == stage).await;
}
