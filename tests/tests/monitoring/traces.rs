//! Traces, as a collector gets them.

use fourmi_model::{State, Submission};
use fourmi_tests::{
    OtlpReceiver, Platform, Recording,
    kinds::{Echo, Fail, Family, Misbehave, Misdeed},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::yard::Yard;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn attribute<'a>(span: &'a Value, name: &str) -> &'a Value {
    let found = span["attributes"].as_array().unwrap().iter().find(|it| it["key"] == name);
    let value = &found.unwrap_or_else(|| panic!("{name} of {span}"))["value"];
    if value["stringValue"].is_null() { &value["intValue"] } else { &value["stringValue"] }
}

fn job_with(payload: Value, kind: &str, sampled: bool) -> Submission {
    let mut job = Submission::new(kind.parse().unwrap(), serde_json::value::to_raw_value(&payload).unwrap());
    job.envelope.traceparent = Some(format!("00-{TRACE}-{CALLER}-0{}", u8::from(sampled)));
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_a_request_to_the_stages_of_its_run() {
    let collector = OtlpReceiver::start().await;
    let platform = Platform::with(&collector.settings(), 1).await;
    // What is asked all the time begins no trace.
    for path in ["/queues/media/scale", "/queues/media/workers", "/health/ping"] {
        assert!(platform.request("GET", path).send().await.unwrap().status().is_success());
    }
    let folder = TempDir::new().unwrap();
    let recording = platform.upload(&Recording::default().make(folder.path(), "a.mp4")).await;
    let job = json!({"kind": "audio.extract", "payload": {"source": {"upload": recording}, "format": "opus"}});
    let request = platform.request("POST", "/jobs").header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    let job: Value = request.header("prefer", "wait=60").json(&job).send().await.unwrap().json().await.unwrap();
    assert_eq!(job["state"], "succeeded", "{job}");

    let request = collector.span("POST /api/v1/jobs", |_| true).await;
    assert_eq!((&request["traceId"], &request["parentSpanId"]), (&json!(TRACE), &json!(CALLER)), "{request}");
    assert_eq!((&request["kind"], &request["service"]), (&json!(2), &json!("fourmi-api")), "{request}");
    assert_eq!(attribute(&request, "http.response.status_code"), "200");
    let begun: Vec<String> = collector.spans().iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect();
    let idle = |name: &String| ["/scale", "/workers", "/ping"].iter().any(|end| name.ends_with(end));
    assert!(!begun.iter().any(idle), "{begun:?}");
    let run = collector.span("run audio.extract", |_| true).await;
    assert_eq!((&run["traceId"], &run["parentSpanId"]), (&json!(TRACE), &request["spanId"]), "{run}");
    assert_eq!((&run["kind"], &run["service"]), (&json!(5), &json!("fourmi-media")), "{run}");
    assert_eq!((attribute(&run, "job.id"), attribute(&run, "job.outcome")), (&job["id"], &json!("succeeded")));
    assert_eq!(attribute(&run, "correlation.id"), attribute(&request, "request.id"));
    for stage in ["analyse", "transcode"] {
        let stage = collector.span(stage, |_| true).await;
        assert_eq!((&stage["traceId"], &stage["parentSpanId"]), (&json!(TRACE), &run["spanId"]), "{stage}");
        let time = |span: &Value, end: &str| span[end].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time(&stage, "startTimeUnixNano") >= time(&run, "startTimeUnixNano"), "{stage} {run}");
        assert!(time(&stage, "endTimeUnixNano") <= time(&run, "endTimeUnixNano"), "{stage} {run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_runs_and_runs_that_are_tried_again_are_in_it() {
    let collector = OtlpReceiver::start().await;
    let yard = Yard::new().await;
    let mut worker = yard.worker(&collector.settings());
    let family = json!(Family { children: 2, failures: 0 });
    let family = yard.push_as(job_with(family, "test.family_in_child", true)).await;
    yard.ends(&family, State::Succeeded).await;
    let parent = collector.span("run test.family_in_child", |_| true).await;
    assert_eq!((&parent["traceId"], &parent["parentSpanId"]), (&json!(TRACE), &json!(CALLER)), "{parent}");
    let child = collector.span("run test.echo", |_| true).await;
    assert_eq!((&child["traceId"], &child["parentSpanId"]), (&json!(TRACE), &parent["spanId"]), "{child}");

    // Without a caller's trace, the runs of a job are in one of their own.
    let failing = yard.push(&Fail { times: 1, ..Fail::default() }).await;
    yard.ends(&failing, State::Succeeded).await;
    let second = collector.span("run test.fail", |span| attribute(span, "job.run") == "2").await;
    let first = collector.span("run test.fail", |span| attribute(span, "job.run") == "1").await;
    assert_eq!(second["traceId"], first["traceId"]);
    assert_eq!(second["traceId"], failing.uuid().simple().to_string());
    assert_eq!(second["links"][0]["spanId"], first["spanId"], "{second}");
    assert_eq!((&first["status"]["code"], attribute(&first, "error.type")), (&json!(2), &json!("told_to")), "{first}");
    assert!(second["status"].is_null() && second["parentSpanId"].is_null(), "{second}");

    // What ended last is sent before the process ends.
    let last = yard.push(&Echo { value: json!(1) }).await;
    yard.ends(&last, State::Succeeded).await;
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(worker.wait().success());
    let id = last.to_string();
    let is_last = |span: &Value| span["name"] == "run test.echo" && attribute(span, "job.id") == id.as_str();
    assert!(collector.spans().iter().any(is_last), "{:?}", collector.spans());
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_runs_learn_where_they_belong() {
    let collector = OtlpReceiver::start().await;
    let yard = Yard::new().await;
    let behave = json!(Misbehave { how: Misdeed::Behave, journal: yard.data.path().join("journal") });
    let variables = async |yard: &Yard| {
        let job = yard.push_as(job_with(behave.clone(), "test.misbehave", true)).await;
        let seen = yard.ends(&job, State::Succeeded).await;
        (job, seen["environment"].as_array().unwrap().contains(&json!("TRACEPARENT")))
    };
    let traced = yard.worker(&collector.settings());
    let (job, has_variable) = variables(&yard).await;
    assert!(has_variable);
    let run = collector.span("run test.misbehave", |_| true).await;
    assert_eq!(attribute(&run, "job.id"), &json!(job.to_string()));

    // Whose trace is not wanted gets none, whatever the share of others; and without a collector there are none at all.
    let quiet = yard.push_as(job_with(json!({"value": 1}), "test.echo", false)).await;
    yard.ends(&quiet, State::Succeeded).await;
    drop(traced);
    let _untraced = yard.worker(&[]);
    assert!(!variables(&yard).await.1);
    assert!(collector.spans().iter().all(|span| span["name"] != "run test.echo"), "{:?}", collector.spans());
}
