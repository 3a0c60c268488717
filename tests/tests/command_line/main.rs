//! `fourmi`, as people and scripts use it: the supervisor and what dies under it, and every command's outcome.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod maintenance;
mod people;
mod scaling;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use fourmi_tests::{Platform, Program, Recording, eventually, long_recording};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// `fourmi up` on a data folder of its own.
struct Up {
    program: Program,
    ready: Value,
}

impl Up {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::with(data, arguments, &[])
    }

    fn with(data: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let program = spawn_up(data, arguments, settings);
        let ready = serde_json::from_str(&program.wait_for_line(r#""event":"ready""#)).unwrap();
        Self { program, ready }
    }

    /// The newest process id of each process.
    fn processes(&self) -> HashMap<String, u32> {
        let lines = self.program.lines();
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events
            .filter(|event| event["event"] == "started")
            .map(|event| (event["process"].as_str().unwrap().to_owned(), event["pid"].as_u64().unwrap() as u32))
            .collect()
    }

    /// Runs a command of `fourmi` on this platform.
    fn fourmi(&self, arguments: &[&str]) -> Output {
        let key = self.ready["key_file"].as_str().unwrap();
        fourmi(self.ready["url"].as_str().unwrap(), key, arguments)
    }

    /// A command's document; it must succeed.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.fourmi(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn stop(mut self) {
        self.program.signal(Signal::SIGTERM);
        let processes = self.processes();
        assert!(self.program.wait().success());
        for (name, pid) in processes {
            assert!(!lives(pid), "{name} lives on");
        }
    }
}

fn spawn_up(data: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Program {
    let mut environment = vec![
        ("FOURMI_DATA", data.display().to_string()),
        ("FOURMI_LISTEN", "127.0.0.1:0".to_owned()),
        ("FOURMI_LEASE_MS", "1500".to_owned()),
    ];
    environment.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Program::start("fourmi", &[&["up", "--json"], arguments].concat(), environment)
}

fn fourmi(url: &str, key_file: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(Program::path("fourmi"));
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("FOURMI_URL", url).env("FOURMI_API_KEY_FILE", key_file).stdin(Stdio::null());
    command.output().unwrap()
}

/// Runs a command of `fourmi` on a platform that runs without `fourmi up`.
fn run(platform: &Platform, arguments: &[&str]) -> Output {
    fourmi(platform.url(), platform.data().join("api-key").to_str().unwrap(), arguments)
}

/// A command's document; it must succeed.
fn document(platform: &Platform, arguments: &[&str]) -> Value {
    let output = run(platform, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a person reads.
fn text(platform: &Platform, arguments: &[&str]) -> String {
    let output = run(platform, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The code of the error that a command ends with.
fn error(platform: &Platform, arguments: &[&str], exit: i32) -> String {
    let output = run(platform, &[arguments, &["--json"]].concat());
    assert_eq!(code(&output), exit, "{arguments:?}: {output:?}");
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    error["error"]["code"].as_str().unwrap().to_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn recording(folder: &Path) -> PathBuf {
    Recording::default().make(folder, "talk.mp4")
}

#[test]
fn a_platform_extracts_keeps_its_jobs_and_stops_with_everything() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let up = Up::start(&data, &[]);
    let source = recording(folder.path());
    let out = folder.path().join("talk.opus");
    let arguments = ["extract", source.to_str().unwrap(), "--format", "opus", "-o", out.to_str().unwrap()];
    let output = up.fourmi(&arguments);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(std::fs::metadata(&out).unwrap().len() > 10_000);
    // What is there is not overwritten unasked.
    assert_eq!(code(&up.fourmi(&arguments)), 2);
    // The same file without a key.
    let jobs = up.json(&["jobs"]);
    let file = jobs["jobs"][0]["result"]["files"][0]["file"].as_str().unwrap();
    let link = up.json(&["link", file, "--expires", "10m"]);
    assert!(
        link["url"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{}/api/v1/files/{file}/", up.ready["url"].as_str().unwrap()))
    );
    assert_eq!(code(&up.fourmi(&["link", file, "--expires", "8d"])), 4);
    up.stop();

    let up = Up::start(&data, &["--scale", "media=2"]);
    assert!(up.processes().contains_key("media.2"));
    let jobs = up.json(&["jobs"]);
    assert_eq!(
        (jobs["jobs"][0]["kind"].as_str(), jobs["jobs"][0]["state"].as_str()),
        (Some("audio.extract"), Some("succeeded"))
    );
    up.stop();
}

#[test]
fn everything_dies_with_a_killed_supervisor_and_the_next_one_goes_on() {
    let folder = TempDir::new().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    let source = long_recording(folder.path(), 30);
    let file = up.json(&["upload", source.to_str().unwrap()]);
    let payload = json!({"source": {"upload": file["id"]}, "format": "mp3"}).to_string();
    let job = up.json(&["submit", "audio.extract", "--payload", &payload]);
    let id = job["id"].as_str().unwrap();
    eventually("the job runs", || up.json(&["job", id])["state"] == "running");
    up.program.kill();
    for (name, pid) in up.processes() {
        eventually(&format!("the end of {name}"), || !lives(pid));
    }
    let up = Up::start(folder.path(), &[]);
    let watched = up.fourmi(&["watch", id, "--quiet"]);
    assert_eq!(code(&watched), 0, "{watched:?}");
    let job = up.json(&["job", id]);
    assert_eq!((job["run"].as_u64(), job["attempts"].as_u64()), (Some(2), Some(1)));
    up.stop();
}

#[test]
fn whatever_is_killed_is_started_again() {
    let folder = TempDir::new().unwrap();
    let up = Up::start(folder.path(), &[]);
    for name in ["media.1", "api", "redis"] {
        let before = up.processes()[name];
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(before.try_into().unwrap()), Signal::SIGKILL).unwrap();
        eventually(&format!("a new {name}"), || up.processes()[name] != before);
    }
    let source = recording(folder.path());
    let out = folder.path().join("talk.flac");
    eventually("the platform works again", || {
        code(&up.fourmi(&["extract", source.to_str().unwrap(), "--format", "flac", "-o", out.to_str().unwrap()])) == 0
    });
    up.stop();
}

#[test]
fn a_second_platform_on_the_same_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let up = Up::start(folder.path(), &[]);
    let mut second = spawn_up(folder.path(), &[], &[]);
    assert_eq!(second.wait().code(), Some(5));
    second.wait_for_line(&up.program.pid().to_string());
    up.stop();
}

#[test]
fn a_second_signal_stops_at_once_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let mut up = Up::with(folder.path(), &[], &[("FOURMI_DRAIN_SECONDS", "600")]);
    let source = long_recording(folder.path(), 90);
    let file = up.json(&["upload", source.to_str().unwrap()]);
    let payload = json!({"source": {"upload": file["id"]}, "format": "mp3", "sample_rate": 44100}).to_string();
    let job = up.json(&["submit", "audio.extract", "--payload", &payload]);
    let id = job["id"].as_str().unwrap().to_owned();
    eventually("the job runs", || up.json(&["job", &id])["state"] == "running");
    up.program.signal(Signal::SIGINT);
    up.program.wait_for_line("draining");
    let asked = Instant::now();
    up.program.signal(Signal::SIGINT);
    assert_eq!(up.program.wait().code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(20));
    for (name, pid) in up.processes() {
        eventually(&format!("the end of {name}"), || !lives(pid));
    }
    let up = Up::start(folder.path(), &["--scale", "media=0"]);
    let state = up.json(&["job", &id])["state"].as_str().unwrap().to_owned();
    assert!(["running", "waiting"].contains(&state.as_str()), "{state}");
    up.stop();
}

#[test]
fn the_demonstration_ends_with_the_outcome_of_its_job() {
    let folder = TempDir::new().unwrap();
    let mut up = spawn_up(folder.path(), &["--demo=exit"], &[]);
    assert!(up.wait().success());
    assert!(up.lines().iter().any(|line| line.contains("audio.extract") || line.contains("succeeded")));
}

#[test]
fn outcomes_are_exit_codes_and_documents() {
    let folder = TempDir::new().unwrap();
    let up = Up::start(folder.path(), &[]);
    let garbage = folder.path().join("garbage.mp4");
    std::fs::write(&garbage, vec![7_u8; 10_000]).unwrap();
    let failed = up.fourmi(&["extract", garbage.to_str().unwrap()]);
    assert_eq!(code(&failed), 1);
    assert!(String::from_utf8_lossy(&failed.stderr).contains("not_media"), "{failed:?}");

    let missing = up.fourmi(&["extract", "/nowhere/talk.mp4"]);
    assert_eq!(code(&missing), 2);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/talk.mp4"));
    assert_eq!(code(&up.fourmi(&["extract"])), 2);
    assert_eq!(code(&up.fourmi(&["job", "media-0198c0de-0000-7000-8000-000000000001"])), 4);
    assert_eq!(code(&up.fourmi(&["submit", "no.such_kind", "--payload", "{}"])), 4);
    let wrong = up.fourmi(&["submit", "media.probe", "--payload", "{", "--json"]);
    assert_eq!(code(&wrong), 2);
    assert!(serde_json::from_slice::<Value>(&wrong.stderr).unwrap()["error"]["code"].is_string());

    // A job that waits can be cancelled; the one who watches it learns that.
    let later = up.json(&["upload", garbage.to_str().unwrap()]);
    let payload = folder.path().join("payload.json");
    std::fs::write(&payload, json!({"source": {"upload": later["id"]}}).to_string()).unwrap();
    let submitted = up.fourmi(&["submit", "media.probe", "--payload", &format!("@{}", payload.display()), "--watch"]);
    assert_eq!(code(&submitted), 1, "{submitted:?}");
    let list = up.json(&["jobs", "--state", "failed"]);
    assert_eq!(list["jobs"].as_array().unwrap().len(), 2);
    let id = list["jobs"][0]["id"].as_str().unwrap();
    assert_eq!(up.json(&["job", id])["state"], "failed");
    assert_eq!(code(&up.fourmi(&["watch", id])), 1);
    assert_eq!(code(&up.fourmi(&["cancel", id])), 4);
    assert_eq!(code(&up.fourmi(&["retry", id])), 0);
    assert_eq!(code(&up.fourmi(&["watch", id])), 1);
    let kinds = up.json(&["kinds"]);
    assert!(kinds["kinds"].as_array().unwrap().iter().any(|kind| kind["name"] == "audio.extract"));
    let url = up.ready["url"].as_str().unwrap().to_owned();
    let key = up.ready["key_file"].as_str().unwrap().to_owned();
    assert_eq!(code(&fourmi(&url, "/nowhere/key", &["jobs"])), 2);
    up.stop();
    assert_eq!(code(&fourmi(&url, &key, &["jobs"])), 4);
}

#[test]
fn failed_jobs_are_looked_at_replayed_and_purged() {
    let folder = TempDir::new().unwrap();
    let up = Up::start(folder.path(), &[]);
    let garbage = folder.path().join("garbage.mp4");
    std::fs::write(&garbage, vec![7_u8; 10_000]).unwrap();
    let file = up.json(&["upload", garbage.to_str().unwrap()]);
    let payload = json!({"source": {"upload": file["id"]}}).to_string();
    let mut ids = Vec::new();
    for tag in ["a", "b", "b"] {
        let key = ["--idempotency-key", &format!("key {}", ids.len()), "--idempotency-ttl", "1h"];
        let job = up.json(&[&["submit", "media.probe", "--payload", &payload, "--tag", tag], &key[..]].concat());
        ids.push(job["id"].as_str().unwrap().to_owned());
        assert_eq!(code(&up.fourmi(&["watch", &ids[ids.len() - 1], "--quiet"])), 1);
    }
    let list = up.json(&["dead", "list", "--error", "not_media", "--tag", "b", "--since", "1h"]);
    assert_eq!(list["jobs"].as_array().unwrap().len(), 2);
    assert_eq!(up.json(&["dead", "list", "--until", "1h"])["jobs"], json!([]));
    let table = String::from_utf8(up.fourmi(&["dead", "list"]).stdout).unwrap();
    assert!(table.contains(&ids[0]) && table.contains("not_media"), "{table}");
    let shown = up.json(&["dead", "show", &ids[0]]);
    let run = &shown["runs"][0];
    assert_eq!((&run["run"], &run["error"]["code"]), (&json!(1), &json!("not_media")));
    assert!(run["duration_ms"].is_u64() && run["worker"].as_str().unwrap().starts_with("media."), "{run}");

    let counted = up.json(&["dead", "replay", "--tag", "b", "--dry-run"]);
    assert_eq!((&counted["matched"], &counted["done"]), (&json!(2), &json!(0)));
    assert_eq!(up.json(&["dead", "replay", &ids[1]])["done"], 1);
    assert_eq!(code(&up.fourmi(&["watch", &ids[1], "--quiet"])), 1);
    assert_eq!(up.json(&["job", &ids[1]])["run"], 2);
    // A forgotten filter does not mean all, and nothing is purged unasked.
    assert_eq!(code(&up.fourmi(&["dead", "replay"])), 2);
    assert_eq!(code(&up.fourmi(&["dead", "purge", "--all"])), 2);
    assert_eq!(up.json(&["dead", "purge", "--all", "--dry-run"])["matched"], 3);
    assert_eq!(up.json(&["dead", "purge", "--tag", "b", "--yes"])["done"], 2);
    assert_eq!(up.json(&["dead", "purge", &ids[0], &ids[1], "--yes"])["done"], 1);
    // The queue has forgotten them; their records may have been written by now.
    let left = up.json(&["dead", "list", "--all"]);
    assert!(left["jobs"].as_array().unwrap().iter().all(|job| job["archived"] == true), "{left}");
    let left = up.fourmi(&["job", &ids[0], "--json"]);
    let record: Value = serde_json::from_slice(&left.stdout).unwrap_or_default();
    assert!(code(&left) == 4 || record["archived"] == true, "{record}");
    up.stop();
}

#[test]
fn parked_jobs_are_listed_and_released() {
    let folder = TempDir::new().unwrap();
    let up = Up::start(folder.path(), &[]);
    // The operator keeps no such cookies.
    let payload = json!({"source": {"url": "https://example.org/talk"}, "cookies_ref": "nobody"}).to_string();
    let job = up.json(&["submit", "audio.extract", "--payload", &payload]);
    let id = job["id"].as_str().unwrap();
    let parked = |run: u64| {
        eventually("it is parked", || {
            let job = up.json(&["job", id]);
            job["state"] == "parked" && job["run"] == run
        });
    };
    parked(1);
    assert_eq!(up.json(&["parked", "list", "--reason", "not_configured"])["jobs"][0]["id"], id);
    assert_eq!(up.json(&["parked", "list", "--reason", "offline"])["jobs"], json!([]));
    assert_eq!(code(&up.fourmi(&["parked", "list", "--reason", "tired"])), 2);
    assert_eq!(code(&up.fourmi(&["parked", "release"])), 2);
    assert_eq!(up.json(&["parked", "release", "--reason", "not_configured"])["released"], 1);
    parked(2);
    assert_eq!(up.json(&["parked", "release", id])["released"], 1);
    parked(3);
    up.json(&["cancel", id]);
    assert_eq!(code(&up.fourmi(&["parked", "release", id])), 2);
    up.stop();
}

#[test]
fn the_log_of_a_job_is_shown_and_followed() {
    let folder = TempDir::new().unwrap();
    let up = Up::start(folder.path(), &[]);
    let file = up.json(&["upload", recording(folder.path()).to_str().unwrap()]);
    let payload = json!({"source": {"upload": file["id"]}, "format": "opus"}).to_string();
    let job = up.json(&["submit", "audio.extract", "--payload", &payload]);
    let id = job["id"].as_str().unwrap();
    let followed = up.fourmi(&["log", id, "--follow"]);
    assert_eq!(code(&followed), 0, "{followed:?}");
    let text = String::from_utf8(followed.stdout).unwrap();
    assert!(text.contains("info   the sound is encoded: opus"), "{text}");
    // Afterwards it is still there.
    assert_eq!(String::from_utf8(up.fourmi(&["log", id]).stdout).unwrap(), text);
    let page = up.json(&["log", id]);
    assert_eq!((&page["lines"][0]["n"], &page["lines"][0]["level"]), (&json!(1), &json!("info")));
    let again = up.fourmi(&["log", id, "--follow", "--json"]);
    let lines: Vec<Value> =
        again.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!((&lines[0]["event"], &lines[0]["line"]), (&json!("log"), &page["lines"][0]));
    assert_eq!(up.json(&["log", id, "--after", "1000"])["lines"], json!([]));
    assert_eq!(code(&up.fourmi(&["log", "media-0198c0de-0000-7000-8000-000000000001"])), 4);
    up.stop();
}

#[test]
fn the_settings_in_effect_are_shown_without_secrets() {
    let show = |variables: &[(&str, &str)]| {
        let mut command = Command::new(Program::path("fourmi"));
        command.arg("config").env_clear().envs(variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (fine, text, _) = show(&[("REDIS_URL", "redis://:hunter2@cache:6379"), ("FOURMI_API_KEY", "fourmi_secret")]);
    assert!(fine && text.contains("cache:6379"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("fourmi_secret"), "{text}");
    let (fine, _, error) = show(&[("FOURMI_SLOTS", "many")]);
    assert!(!fine && error.contains("FOURMI_SLOTS"), "{error}");
}
