//! Workers that come and go while jobs run: asked for, by autoscale, and renewed one after the other.

use fourmi_client::Client;
use fourmi_model::{BlobId, JobId, State};

use super::*;

impl Up {
    fn client(&self) -> Client {
        let key = std::fs::read_to_string(self.ready["key_file"].as_str().unwrap()).unwrap();
        Client::new(self.ready["url"].as_str().unwrap(), &key).unwrap()
    }

    /// `fourmi scale` with these arguments, in force: what it says of the queue `media`.
    fn scale(&self, arguments: &[&str]) -> Value {
        of_media(&self.json(&[&["scale"], arguments, &["--wait"]].concat()))
    }

    /// The names of the media workers' processes that the registry knows.
    fn workers(&self) -> Vec<String> {
        let listed = self.json(&["workers"]);
        let names = listed["workers"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("media.")).collect()
    }

    /// The events of a sort so far.
    fn events(&self, event: &str) -> Vec<Value> {
        let lines = self.program.lines();
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|it| it["event"] == event).collect()
    }
}

/// What is said of the media workers.
fn of_media(scale: &Value) -> Value {
    let queues = scale["queues"].as_array().unwrap();
    queues.iter().find(|queue| queue["queue"] == "media").unwrap().clone()
}

/// Jobs that take some ten milliseconds each.
struct Load {
    client: Client,
    file: BlobId,
    jobs: Vec<JobId>,
}

impl Load {
    async fn on(up: &Up, folder: &Path) -> Self {
        let client = up.client();
        let file = client.upload(&recording(folder)).send().await.unwrap().id;
        Self { client, file, jobs: Vec::new() }
    }

    async fn submit(&mut self, jobs: usize) {
        for _ in 0..jobs {
            let submit = self.client.submit_raw("media.probe", json!({"source": {"upload": self.file}}));
            self.jobs.push(submit.send().await.unwrap().id().clone());
        }
    }

    /// Whether every job has succeeded and none ran twice. One that a worker had fetched but not begun when it was told to
    /// end goes back: its run has a number, but is no attempt.
    async fn all_ran_once(&self) {
        for id in &self.jobs {
            let job = self.client.wait(id).await.unwrap();
            let lost = self.client.runs(id).await.unwrap();
            assert_eq!((job.state, job.attempts, job.error, lost), (State::Succeeded, 1, None, Vec::new()), "{id}");
        }
    }
}

#[test]
fn the_number_of_processes_is_followed_and_kept_over_restarts() {
    let folder = TempDir::new().unwrap();
    let up = Up::start(folder.path(), &[]);
    assert_eq!(up.scale(&[])["processes"]["wanted"], Value::Null);
    let scaled = up.scale(&["media=3"]);
    assert_eq!((&scaled["processes"]["wanted"], &scaled["processes"]["live"]), (&json!(3), &json!(3)));
    assert_eq!(up.workers().len(), 3);
    assert!(["media.1", "media.2", "media.3"].iter().all(|name| up.processes().contains_key(*name)));
    assert_eq!(up.scale(&["media", "--slots", "8"])["slots"], json!({"wanted": 8, "live": 8, "busy": 0}));
    assert_eq!(up.scale(&["media", "--slots", "none"])["slots"]["wanted"], Value::Null);
    up.stop();

    let up = Up::start(folder.path(), &[]);
    assert_eq!(up.scale(&[])["processes"]["live"], 3);
    up.scale(&["media=1"]);
    for name in ["media.2", "media.3"] {
        eventually("idle processes end", || !lives(up.processes()[name]));
    }
    assert!(lives(up.processes()["media.1"]));
    let table = String::from_utf8(up.fourmi(&["scale"]).stdout).unwrap();
    assert!(table.contains("1/1"), "{table}");
    for (wrong, exit) in [("media=65", 2), ("media=x", 2), ("nowhere=1", 4)] {
        assert_eq!(code(&up.fourmi(&["scale", wrong])), exit, "{wrong}");
    }
    up.stop();

    let up = Up::start(folder.path(), &["--scale", "media=2"]);
    assert_eq!(up.scale(&[])["processes"]["wanted"], 2);
    // Who restarts the API loses nobody.
    let api = up.processes()["api"];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(api.try_into().unwrap()), Signal::SIGKILL).unwrap();
    eventually("a new API", || code(&up.fourmi(&["scale", "media=0"])) == 0 && up.processes()["api"] != api);
    assert_eq!(up.scale(&["media"])["processes"]["live"], 0);
    assert_eq!(up.events("failed").len(), 1, "that of the API");
    up.stop();
}

#[tokio::test]
async fn scaling_up_and_down_under_load_loses_and_repeats_no_job() {
    let folder = TempDir::new().unwrap();
    let up = Up::with(folder.path(), &[], &[("FOURMI_SLOTS", "2")]);
    let mut load = Load::on(&up, folder.path()).await;
    load.submit(60).await;
    for processes in [3, 1, 4, 2, 1] {
        load.submit(40).await;
        let scaled = up.scale(&[&format!("media={processes}")]);
        assert_eq!(scaled["processes"]["live"], processes);
    }
    load.all_ran_once().await;
    assert_eq!(up.events("failed"), Vec::<Value>::new());
    up.stop();
}

#[tokio::test]
async fn a_platform_scales_itself_within_its_bounds() {
    let folder = TempDir::new().unwrap();
    let arguments = ["--autoscale", "media=1..3,wait=2s,cooldown=2s"];
    let up = Up::with(folder.path(), &arguments, &[("FOURMI_SLOTS", "1")]);
    let mut load = Load::on(&up, folder.path()).await;
    load.submit(250).await;
    up.program.wait_for_line(r#""to":2"#);
    load.all_ran_once().await;
    eventually("the idle ones end", || {
        let processes = of_media(&up.json(&["scale"]))["processes"].clone();
        (&processes["wanted"], &processes["live"]) == (&json!(1), &json!(1))
    });
    // Somebody's number is heard, and whoever says it is told who goes on from there.
    let said = up.fourmi(&["scale", "media=9"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("autoscaled"), "{said:?}");
    eventually("the bounds hold", || {
        up.events("scaled").iter().any(|it| (&it["from"], &it["to"]) == (&json!(9), &json!(3)))
    });
    assert_eq!(of_media(&up.json(&["scale"]))["autoscale"], json!({"min": 1, "max": 3}));
    assert_eq!(up.events("failed"), Vec::<Value>::new());
    up.stop();
}

#[tokio::test]
async fn processes_are_renewed_one_by_one_under_load() {
    let folder = TempDir::new().unwrap();
    let up = Up::with(folder.path(), &["--scale", "media=2"], &[("FOURMI_SLOTS", "2")]);
    let mut load = Load::on(&up, folder.path()).await;
    up.scale(&[]);
    let before = up.processes();
    for worker in up.workers() {
        load.submit(60).await;
        up.json(&["drain", &worker]);
        eventually("a fresh one", || {
            let workers = up.workers();
            workers.len() == 2 && !workers.contains(&worker)
        });
    }
    load.all_ran_once().await;
    assert!(["media.1", "media.2"].iter().all(|name| up.processes()[*name] != before[*name]));
    assert_eq!(up.events("failed"), Vec::<Value>::new());
    up.stop();
}
