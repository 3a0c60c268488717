//! Logs: what belongs together is found, what is not wanted is left out, and files stay small.

use std::path::{Path, PathBuf};

use fourmi_model::{State, Submission};
use fourmi_tests::{
    Platform, Program, eventually,
    kinds::{Family, FamilyInChild, Talk, TalkInChild},
};
use serde_json::{Value, json};

use crate::yard::Yard;

/// The lines that name this id, as JSON.
fn lines_with(id: &str, program: &Program) -> Vec<Value> {
    let lines = program.lines().into_iter().filter(|line| line.contains(id));
    lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn is_said(lines: &[Value], message: &str) -> bool {
    lines.iter().any(|line| line["message"] == message)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_leads_from_a_request_to_its_run() {
    let settings = [("FOURMI_LOG_FORMAT", "json"), ("FOURMI_LOG", "info,fourmi_runtime=debug")];
    let platform = Platform::with(&settings, 1).await;
    let noise = platform.upload_bytes("noise.mp4", "this is no recording").await;
    let submit = async |correlation: Option<&str>, request: &str| {
        let mut job = json!({"kind": "media.probe", "payload": {"source": {"upload": noise}}});
        if let Some(id) = correlation {
            job["correlation_id"] = json!(id);
        }
        let asked = platform.request("POST", "/jobs").header("x-request-id", request).header("prefer", "wait=60");
        let job: Value = asked.json(&job).send().await.unwrap().json().await.unwrap();
        assert_eq!(job["state"], "failed", "{job}");
        job
    };

    let job = submit(None, "request-of-ada-1").await;
    assert_eq!(job["correlation_id"], "request-of-ada-1");
    let worker = &platform.workers[0];
    eventually("the run is in the log", || is_said(&lines_with("request-of-ada-1", worker), "job failed"));
    let runs = lines_with("request-of-ada-1", worker);
    assert!(runs.iter().all(|line| line["span"]["job.id"] == job["id"]), "{runs:?}");
    eventually("the request is in the log", || is_said(&lines_with("request-of-ada-1", &platform.api), "answered"));

    // Who has chosen an id finds the request by it, too.
    submit(Some("order-7"), "request-of-ada-2").await;
    eventually("the request is in the log", || is_said(&lines_with("order-7", &platform.api), "answered"));
    eventually("the run is in the log", || is_said(&lines_with("order-7", &platform.workers[0]), "job failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_runs_and_the_jobs_that_they_make_log_with_it() {
    let yard = Yard::new().await;
    let worker = yard.worker(&[("FOURMI_LOG_FORMAT", "json"), ("FOURMI_LOG", "info,fourmi_runtime=debug")]);
    let with_id = |kind: &str, payload: Value, id: &str| {
        let mut job = Submission::new(kind.parse().unwrap(), serde_json::value::to_raw_value(&payload).unwrap());
        job.envelope.correlation_id = Some(id.to_owned());
        job
    };
    let talk = yard.push_as(with_id("test.talk_in_child", json!(Talk { lines: 3, gate: None }), "ada-1")).await;
    yard.ends(&talk, State::Succeeded).await;
    eventually("the child is heard", || is_said(&lines_with("ada-1", &worker), "talking"));
    let lines = lines_with("ada-1", &worker);
    let line = lines.iter().find(|line| line["message"] == "talking").unwrap();
    assert_eq!((&line["level"], &line["lines"]), (&json!("INFO"), &json!(3)), "{line}");
    assert_eq!(line["span"]["job.id"], talk.to_string(), "{line}");

    let family = json!(Family { children: 2, failures: 0 });
    let family = yard.push_as(with_id("test.family_in_child", family, "ada-2")).await;
    let made = yard.ends(&family, State::Succeeded).await["made"].clone();
    for child in made.as_array().unwrap() {
        let ended = |line: &Value| line["message"] == "run ended" && line["span"]["job.id"] == *child;
        eventually("the child job is found", || lines_with("ada-2", &worker).iter().any(ended));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_are_chosen_by_component() {
    let yard = Yard::new().await;
    let worker = yard.starting(&[("FOURMI_LOG", "warn,fourmi_runtime::dispatch=debug,fourmi_test_worker=off")]);
    let talk = yard.push(&TalkInChild(Talk { lines: 1, gate: None })).await;
    yard.ends(&talk, State::Succeeded).await;
    worker.wait_for_line("run ended");
    let said = worker.lines().join("\n");
    assert!(!said.contains("ready") && !said.contains("talking"), "{said}");

    let mut wrong = yard.starting(&[("FOURMI_LOG", "fourmi=loud")]);
    assert!(!wrong.wait().success());
    wrong.wait_for_line("FOURMI_LOG is \"fourmi=loud\"; it should be");
}

/// The files of a folder, by name, with their content.
fn files(folder: &Path) -> Vec<(String, String)> {
    let names = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = names.filter(|path| path.extension().is_some_and(|end| end != "lock")).collect();
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap_or_default())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_process_has_files_of_its_own_that_stay_small() {
    let yard = Yard::new().await;
    let folder = yard.data.path().join("logs");
    let settings = [
        ("FOURMI_LOG", "info,fourmi_runtime=debug"),
        ("FOURMI_LOG_FORMAT", "json"),
        ("FOURMI_LOG_FOLDER", folder.to_str().unwrap()),
        ("FOURMI_LOG_FILE_BYTES", "2KiB"),
        ("FOURMI_LOG_FILES", "3"),
    ];
    let first = yard.worker(&settings);
    let newest = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(newest("fourmi-test-worker.log").contains("ready"));
    let mut second = yard.worker(&settings);
    assert!(newest("fourmi-test-worker-2.log").contains("ready"));
    drop(first);

    for n in 0..30 {
        let job = yard.push(&FamilyInChild(Family { children: 1, failures: 0 })).await;
        assert!(!yard.ends(&job, State::Succeeded).await.is_null(), "{n}");
    }
    let all = files(&folder);
    let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    let of_second = ["fourmi-test-worker-2.log", "fourmi-test-worker-2.log.1", "fourmi-test-worker-2.log.2"];
    assert_eq!(names[..3], of_second, "{names:?}");
    for (name, content) in &all {
        assert!(content.len() <= 2048, "{name} has {} bytes", content.len());
        assert!(content.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{name}: {content}");
    }

    // One that is started again goes on with files that nobody has any more, whichever those are.
    second.kill();
    let _third = yard.worker(&settings);
    let names = files(&folder).into_iter().map(|(name, _)| name);
    assert!(names.clone().all(|name| !name.contains("-3")), "{:?}", names.collect::<Vec<_>>());
    assert!(newest("fourmi-test-worker.log").matches("\"ready\"").count() >= 1);
}
