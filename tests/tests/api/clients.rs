//! The API's description is true: what is built from it works, and what it promises is kept. The tools come from
//! `scripts/setup`, which `scripts/environment.sh` says where to find.

use std::{path::Path, process::Command};

use fourmi_tests::{Platform, Recording};
use tempfile::TempDir;

/// Nothing is counted: the tools ask more than anybody would.
const UNCOUNTED: (&str, &str) =
    ("FOURMI_RATE_LIMITS", "open=off,guess=off,login=off,read=off,control=off,admin=off,upload=off,submit=off");

/// Runs a tool to its end, and gives what it said.
fn run(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; has scripts/setup been run?"));
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}:\n{said}");
    said
}

/// A program of the venv with tools in Python.
fn python(name: &str) -> Command {
    let tools = std::env::var("FOURMI_TOOLS").expect("FOURMI_TOOLS is set, as scripts/environment.sh does");
    let mut command = Command::new(format!("{tools}/bin/{name}"));
    // Its formatter lies beside it.
    command.env("PATH", format!("{tools}/bin:{}", std::env::var("PATH").unwrap_or_default()));
    command
}

/// A program of the packages in JavaScript.
fn javascript(name: &str) -> Command {
    let clients = std::env::var("FOURMI_CLIENTS").expect("FOURMI_CLIENTS is set, as scripts/environment.sh does");
    Command::new(format!("{clients}/node_modules/.bin/{name}"))
}

fn ours(name: &str) -> String {
    format!("{}/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

async fn save_description(platform: &Platform, folder: &Path) -> std::path::PathBuf {
    let answer = platform.open_request("GET", "/api/v1/openapi.json").send().await.unwrap();
    let path = folder.join("openapi.json");
    std::fs::write(&path, answer.bytes().await.unwrap()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_described() {
    let platform = Platform::with(&[UNCOUNTED], 0).await;
    let folder = TempDir::new().unwrap();
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance,ignored_auth";
    run(python("schemathesis")
        .current_dir(folder.path())
        .env("SCHEMATHESIS_HOOKS", ours("schemathesis_hooks.py"))
        .arg("run")
        .arg(format!("{}/api/v1/openapi.json", platform.url()))
        .args(["--header", &format!("Authorization: Bearer {}", platform.key())])
        .args(["--checks", checks, "--phases", "examples,coverage,fuzzing", "--max-examples", "10"])
        // Streams do not end while no worker ends a job.
        .args(["--exclude-path-regex", "/events$"])
        .args(["--request-timeout", "30", "--seed", "1", "--generation-deterministic", "--no-color"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_python_is_built_and_used() {
    let platform = Platform::with(&[UNCOUNTED], 1).await;
    let folder = TempDir::new().unwrap();
    let recording = Recording::default().make(folder.path(), "recording.mp4");
    let description = save_description(&platform, folder.path()).await;
    let client = folder.path().join("client");
    let said = run(python("openapi-python-client")
        .arg("generate")
        .arg("--path")
        .arg(description)
        .arg("--output-path")
        .arg(&client));
    // Resumable uploads have clients of their own, and jobs may be submitted as an array.
    let left_out =
        |line: &&str| line.contains("WARNING") && !["/uploads", "/jobs/bulk"].iter().any(|it| line.contains(it));
    assert_eq!(said.lines().find(left_out), None, "{said}");
    let used = run(python("python")
        .env("PYTHONPATH", &client)
        .args([&ours("use_client.py"), platform.url(), platform.key()])
        .arg(recording));
    assert!(used.contains("media-"), "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_typescript_is_built_and_used() {
    let platform = Platform::with(&[UNCOUNTED], 1).await;
    let folder = TempDir::new().unwrap();
    let recording = Recording::default().make(folder.path(), "recording.mp4");
    let description = save_description(&platform, folder.path()).await;
    let clients = std::env::var("FOURMI_CLIENTS").expect("FOURMI_CLIENTS is set, as scripts/environment.sh does");
    std::os::unix::fs::symlink(format!("{clients}/node_modules"), folder.path().join("node_modules")).unwrap();
    for file in ["use-client.mts", "tsconfig.json"] {
        std::fs::copy(ours(file), folder.path().join(file)).unwrap();
    }
    let types = folder.path().join("api.ts");
    run(javascript("openapi-typescript").arg(description).arg("--default-non-nullable=false").arg("-o").arg(types));
    run(javascript("tsc").current_dir(folder.path()));
    let used = run(Command::new("node")
        .current_dir(folder.path())
        .args(["use-client.mjs", platform.url(), platform.key()])
        .arg(recording));
    assert!(used.contains("media-"), "{used}");
}
