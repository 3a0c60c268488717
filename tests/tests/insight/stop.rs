//! Jobs that are stopped, and workers that die, in every stage.

use fourmi_client::{JobHandle, Raw, Update};
use fourmi_model::State;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{Laboratory, PATIENCE, end, groups, hashes, result};

/// Waits until a job is in a stage, and far enough in it.
async fn until(handle: &JobHandle<Raw>, stage: &str, percent: f32) {
    let mut updates = handle.events();
    let seen = async {
        while let Some(update) = updates.next().await {
            match update.unwrap() {
                Update::Progress { progress, .. } if progress.stage == stage && progress.percent >= percent => return,
                Update::State(job) | Update::Snapshot(job) => assert!(!job.state.is_final(), "{stage}: {job:#?}"),
                _ => {}
            }
        }
        panic!("the events end before {stage}");
    };
    timeout(PATIENCE, seen).await.expect("the stage comes");
}

/// Options that make a stage take longer than it takes to stop it, and how far it is to be.
fn long_in_each_stage() -> Vec<(&'static str, f32, u32, Value)> {
    let quick = json!({"algorithm": "none"});
    vec![
        ("load", 1.0, 400_000, json!({})),
        // The first tenth is the search for neighbours.
        ("reduce", 25.2, 20_000, json!({"reduce": {"algorithm": "tsne", "iterations": 10_000}})),
        ("reduce", 32.0, 3_000, json!({"reduce": {"algorithm": "tsne", "iterations": 10_000}})),
        ("reduce", 28.0, 5_000, json!({"reduce": {"algorithm": "umap", "epochs": 10_000}})),
        ("clustering", 60.5, 40_000, json!({"reduce": quick, "cluster": {"algorithm": "kmeans", "restarts": 100}})),
        ("clustering", 60.5, 60_000, json!({"reduce": quick, "cluster": {"algorithm": "hdbscan"}})),
        (
            "clustering",
            60.5,
            20_000,
            json!({"reduce": quick, "cluster": {"algorithm": "agglomerative", "linkage": "average"}}),
        ),
        (
            "anomalies",
            80.5,
            50_000,
            json!({"reduce": quick, "cluster": quick, "anomalies": {"algorithm": "isolation_forest", "trees": 2_000}}),
        ),
    ]
}

#[tokio::test]
async fn a_job_is_stopped_in_every_stage() {
    let laboratory = Laboratory::open().await;
    for (stage, percent, rows, options) in long_in_each_stage() {
        let file = laboratory.upload("groups.csv", groups(rows)).await;
        let handle = laboratory.submit(file, options.clone()).await;
        until(&handle, stage, percent).await;
        laboratory.platform.client.cancel(handle.id()).await.unwrap();
        let job = end(&handle).await;
        assert_eq!((job.state, job.crashes), (State::Cancelled, 0), "{stage}: {options}: {:#?}", job.error);
    }
    laboratory.platform.nothing_is_left().await;
}

#[tokio::test]
async fn what_a_dead_worker_had_computed_is_not_computed_again() {
    let mut laboratory = Laboratory::with(&[("FOURMI_LEASE_MS", "1000")]).await;
    let file = laboratory.upload("groups.csv", groups(20_000)).await;
    let options = json!({
        "reduce": {"algorithm": "umap", "epochs": 20},
        "cluster": {"algorithm": "agglomerative", "linkage": "average", "clusters": 4},
        "reuse": false,
    });
    let handle = laboratory.submit(file, options.clone()).await;
    until(&handle, "clustering", 60.5).await;
    laboratory.worker.kill();
    laboratory.worker = laboratory.platform.insight_worker();
    let job = end(&handle).await;
    assert_eq!((job.run, job.crashes), (2, 0));
    let interrupted = result(job);
    let whole = laboratory.analyzed(file, options).await;
    assert_eq!(hashes(&interrupted), hashes(&whole));
    laboratory.platform.nothing_is_left().await;
}
