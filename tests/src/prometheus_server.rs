//! A private Prometheus, and the tool that comes with it.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Program, eventually_async};

/// A Prometheus of the test's own on a free port; stopped and removed when dropped.
pub struct PrometheusServer {
    program: Program,
    http: reqwest::Client,
    url: String,
    _folder: TempDir,
}

impl PrometheusServer {
    /// Starts one that asks these targets every second (name of the job, address, token), with this file of rules.
    pub fn start(targets: &[(&str, &str, &str)], rules: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("prometheus").tempdir_in("/tmp").unwrap();
        let scrape = |(job, address, token): &(&str, &str, &str)| {
            json!({
                "job_name": job,
                "authorization": {"credentials": token},
                "static_configs": [{"targets": [address]}],
            })
        };
        let configuration = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": targets.iter().map(scrape).collect::<Vec<_>>(),
        });
        // JSON is YAML.
        let file = folder.path().join("prometheus.yaml");
        std::fs::write(&file, configuration.to_string()).unwrap();
        let options = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            "--web.listen-address=127.0.0.1:0".to_owned(),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let program = Program::start_installed("prometheus", &options, []);
        let line = program.wait_for_line("Listening on");
        let url = format!("http://{}", line.split("address=").nth(1).unwrap().trim());
        program.wait_for_line("ready to receive web requests");
        Self { program, http: reqwest::Client::new(), url, _folder: folder }
    }

    /// Gets a document of its API; `path` is what comes after `/api/v1`.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let answer = self.http.get(format!("{}/api/v1{path}", self.url)).query(query).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{answer} {:?}", self.program.lines());
        answer["data"].clone()
    }

    /// Waits until an expression gives this single value.
    pub async fn shows(&self, expression: &str, value: f64) {
        eventually_async(&format!("{expression} = {value}"), async || {
            let data = self.get("/query", &[("query", expression)]).await;
            let [series] = data["result"].as_array()?.as_slice() else { return None };
            (series["value"][1].as_str()?.parse() == Ok(value)).then_some(())
        })
        .await;
    }
}

/// Runs promtool with these arguments, in a folder, on this input. It must find nothing wrong.
pub fn promtool(arguments: &[&str], folder: &Path, input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("prometheus is installed by scripts/setup --tests");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It may write before it has read everything.
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writing.join();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // It complains of some things without failing.
    let complains = arguments[..2] == ["check", "metrics"] && !said.trim().is_empty();
    assert!(output.status.success() && !complains, "promtool {arguments:?}: {said}");
}
