//! What is recorded, as callers meet it, in a file and in PostgreSQL; and a PostgreSQL that crashes or hangs.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use fourmi_model::State;
use fourmi_records::Records;
use fourmi_tests::{Platform, PostgresServer, eventually_async};
use serde_json::{Value, json};

use crate::{
    problem,
    site::{Site, job},
};

/// All jobs that a query wants, page by page of so many.
async fn all(site: &Site, query: &str, limit: usize) -> Vec<Value> {
    let (mut jobs, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = site.platform.get(&format!("/jobs?{query}&limit={limit}&cursor={cursor}")).await;
        jobs.extend(page["jobs"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return jobs,
        }
    }
}

async fn recorded(records: &Records, count: usize) {
    eventually_async("jobs are recorded", async || (records.count().await.unwrap() >= count as u64).then_some(()))
        .await;
}

/// Lists do not tell live jobs from recorded ones, and a job is met once.
async fn lists_go_on_in_the_records(site: Site, records: Records) {
    for tenant in ["a", "b", "a"] {
        site.submit(&vec![job(json!({"tenant": tenant, "tags": ["old"]})); 7]).await;
        site.run(7).await;
    }
    recorded(&records, 21).await;
    site.transitions.trim(1_000, (4, 0)).await.unwrap();
    let live = site.submit(&vec![job(json!({"tenant": "a", "tags": ["new"]})); 3]).await;
    assert_eq!(site.count(State::Succeeded).await, 4, "Redis has forgotten the others");
    for limit in [1, 2, 5, 200] {
        for (query, live_ones, archived_ones) in [
            ("", 3 + 4, 17),
            ("tenant=a", 3 + 4, 10),
            ("tenant=b", 0, 7),
            ("tenant=a&tag=old&state=succeeded", 4, 10),
            ("queue=media&kind=audio.extract", 3 + 4, 17),
            ("state=waiting", 3, 0),
            ("tag=new", 3, 0),
            ("tenant=c", 0, 0),
            ("finished_after=2099-01-01T00:00:00Z", 0, 0),
            ("created_after=2020-01-01T00:00:00Z&finished_before=2099-01-01T00:00:00Z", 4, 17),
            ("state=parked&parked_reason=offline", 0, 0),
        ] {
            let jobs = all(&site, query, limit).await;
            let ids: BTreeSet<_> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), jobs.len(), "{query}: none is met twice");
            let archived = jobs.iter().filter(|job| job["archived"] == true).count();
            assert_eq!((jobs.len() - archived, archived), (live_ones, archived_ones), "{query}");
            let time = |job: &Value| job["finished_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
            let times: Vec<_> = jobs[jobs.len() - archived..].iter().map(time).collect();
            assert!(times.is_sorted_by(|one, next| one >= next), "{query}: newest first: {times:?}");
        }
    }
    for cursor in ["-.nonsense", "-.1", "-.1.media-x", "-"] {
        let answer = site.platform.request("GET", &format!("/jobs?cursor={cursor}")).send().await.unwrap();
        assert_eq!(problem(answer, 400).await, "invalid_cursor", "{cursor}");
    }

    // A recorded job is deleted like any other, and so is one of which the outbox may still hold something.
    let archived = all(&site, "tenant=b", 50).await;
    for job in archived.iter().take(2) {
        let path = format!("/jobs/{}", job["id"].as_str().unwrap());
        let deleted = site.platform.request("DELETE", &path).send().await.unwrap();
        assert_eq!(deleted.status(), 204);
        let again = site.platform.request("DELETE", &path).send().await.unwrap();
        assert_eq!(problem(again, 404).await, "unknown_job");
    }
    assert_eq!(all(&site, "tenant=b", 50).await, archived[2..]);
    assert_eq!(all(&site, "tag=new", 50).await.len(), live.len());
}

#[tokio::test]
async fn lists_go_on_in_a_file() {
    let site = Site::new().await;
    let records = Records::open(&site.platform.data().join("records.db")).await.unwrap();
    lists_go_on_in_the_records(site, records).await;
}

#[tokio::test]
async fn lists_go_on_in_postgresql() {
    let url = PostgresServer::shared().database();
    let site = Site::with(&[("DATABASE_URL", &url)]).await;
    assert!(!site.platform.data().join("records.db").exists());
    lists_go_on_in_the_records(site, Records::connect(&url).await.unwrap()).await;
}

#[tokio::test]
async fn postgresql_may_crash_at_any_time() {
    const CRASHES: usize = 4;
    let mut postgres = PostgresServer::start();
    let url = postgres.database();
    let site = Site::with(&[("DATABASE_URL", &url)]).await;
    let mut ids = Vec::new();
    for crash in 0..CRASHES {
        // It crashes while the archiver writes: the time differs with each crash.
        ids.extend(site.submit(&vec![job(json!({})); 1_000]).await);
        while !site.run(200).await.is_empty() {}
        let records = Records::connect(&url).await.unwrap();
        recorded(&records, ids.len() - 1_000 + crash * 200).await;
        postgres.stop();
        // Jobs are taken and end all the same.
        ids.extend(site.submit(&[job(json!({}))]).await);
        site.run(1).await;
        let unknown = "/jobs/media-0198c0de-0000-7000-8000-000000000001";
        let answer = site.platform.request("GET", unknown).send().await.unwrap();
        assert!(answer.headers().contains_key("retry-after"));
        assert_eq!(problem(answer, 503).await, "records_unavailable");
        postgres.restart();
        let answer = site.platform.request("GET", unknown).send().await.unwrap();
        assert_eq!(problem(answer, 404).await, "unknown_job");
    }
    let records = Records::connect(&url).await.unwrap();
    recorded(&records, ids.len()).await;
    for id in &ids {
        assert!(records.job(&id.parse().unwrap()).await.unwrap().is_some(), "{id} is not recorded");
    }
}

#[tokio::test]
async fn a_postgresql_that_hangs_hangs_nobody() {
    let postgres = PostgresServer::start();
    let platform = Platform::with(&[("DATABASE_URL", &postgres.database())], 0).await;
    let unknown = "/jobs/media-0198c0de-0000-7000-8000-000000000001";
    let ask = async || problem(platform.request("GET", unknown).send().await.unwrap(), 404).await;
    // Connections are there when it stops answering.
    futures_util::future::join_all((0..8).map(|_| ask())).await;
    postgres.freeze();
    let start = Instant::now();
    let asked = (0..20).map(|_| platform.request("GET", unknown).send());
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(problem(answer.unwrap(), 503).await, "records_unavailable");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(
        platform.submit("audio.extract", json!({"source": {"url": "https://example.org/a"}})).await.status(),
        202
    );
    let list = platform.get("/jobs").await;
    assert_eq!((list["jobs"].as_array().unwrap().len(), &list["next"]), (1, &json!("-.")), "what is live is listed");
    postgres.thaw();
    eventually_async("it is asked again", async || {
        let answer = platform.request("GET", unknown).send().await.unwrap();
        (answer.status() == 404).then_some(())
    })
    .await;
}
