//! Jobs that exclude their like.

use std::time::Duration;

use fourmi_model::{Failure, JobId, Submission, TenantName, Unique, UniqueUntil};
use fourmi_queue::{Outcome, Retried};

use crate::bench::{Bench, KEEP, payload, submission};

fn unique(until: UniqueUntil) -> Submission {
    Submission { unique: Some(Unique { until, by: Vec::new() }), ..submission() }
}

fn failed() -> Outcome {
    Outcome::Failed { error: Failure::permanent("no", "no").report(), keep: KEEP }
}

impl Bench {
    /// Whether a job was accepted, or the one that excludes it.
    async fn offer(&self, job: Submission) -> Result<JobId, JobId> {
        let pushed = self.queues.push(self.new_id(), job).await.unwrap().unwrap();
        if pushed.existing() { Err(pushed.id) } else { Ok(pushed.id) }
    }
}

#[tokio::test]
async fn until_it_starts_a_job_excludes_its_like() {
    let bench = Bench::new().await;
    let first = bench.offer(unique(UniqueUntil::Started)).await.unwrap();
    assert_eq!(bench.offer(unique(UniqueUntil::Started)).await, Err(first.clone()));
    bench.fetch_one().await;
    let second = bench.offer(unique(UniqueUntil::Started)).await.unwrap();
    assert_eq!(bench.offer(unique(UniqueUntil::Started)).await, Err(second.clone()));
    bench.queues.cancel(&second).await.unwrap();
    bench.offer(unique(UniqueUntil::Started)).await.unwrap();
}

#[tokio::test]
async fn until_it_is_over_a_job_excludes_its_like() {
    let bench = Bench::new().await;
    let first = bench.offer(unique(UniqueUntil::Finished)).await.unwrap();
    let (_, run) = bench.fetch_one().await;
    assert_eq!(bench.offer(unique(UniqueUntil::Finished)).await, Err(first.clone()));
    let error = Failure::retry("later", "later").report();
    assert!(bench.settle(run, Outcome::Retrying { error, delay: Duration::ZERO, keep: KEEP }).await);
    assert_eq!(bench.offer(unique(UniqueUntil::Finished)).await, Err(first.clone()));
    let (_, run) = bench.fetch_one().await;
    assert!(bench.settle(run, failed()).await);
    let second = bench.offer(unique(UniqueUntil::Finished)).await.unwrap();
    assert_eq!(
        bench.queues.retry(&first).await.unwrap(),
        Retried::NotPossible(fourmi_model::State::Failed),
        "there is another of its like"
    );
    bench.queues.cancel(&second).await.unwrap();
    assert_eq!(bench.queues.retry(&first).await.unwrap(), Retried::Waiting);
    assert_eq!(bench.offer(unique(UniqueUntil::Finished)).await, Err(first));
}

#[tokio::test]
async fn for_a_time_a_job_excludes_its_like_whatever_becomes_of_it() {
    let bench = Bench::new().await;
    let first = bench.offer(unique(UniqueUntil::ForS(2))).await.unwrap();
    let (_, run) = bench.fetch_one().await;
    assert!(bench.settle(run, Outcome::Succeeded { result: String::new(), keep: KEEP }).await);
    assert_eq!(bench.offer(unique(UniqueUntil::ForS(2))).await, Err(first));
    let again = async || bench.offer(unique(UniqueUntil::ForS(2))).await.ok();
    fourmi_tests::eventually_async("another is accepted", again).await;
}

#[tokio::test]
async fn jobs_are_alike_by_kind_tenant_and_the_chosen_fields() {
    let bench = Bench::new().await;
    let job = |json: &str, by: &[&str]| {
        let mut job = unique(UniqueUntil::Finished);
        job.envelope.payload = payload(json);
        job.unique =
            Some(Unique { until: UniqueUntil::Finished, by: by.iter().map(|&field| field.to_owned()).collect() });
        job
    };
    let first = bench.offer(job(r#"{"a":1,"b":{"c":2}}"#, &["b.c"])).await.unwrap();
    assert_eq!(bench.offer(job(r#"{"a":9,"b":{"c":2}}"#, &["b.c"])).await, Err(first));
    bench.offer(job(r#"{"a":1,"b":{"c":3}}"#, &["b.c"])).await.unwrap();
    bench.offer(job(r#"{"a":9,"b":{"c":2}}"#, &[])).await.unwrap();
    let mut other_kind = job(r#"{"a":1,"b":{"c":2}}"#, &["b.c"]);
    other_kind.envelope.kind = "test.other".parse().unwrap();
    bench.offer(other_kind).await.unwrap();
    let mut other_tenant = job(r#"{"a":1,"b":{"c":2}}"#, &["b.c"]);
    other_tenant.tenant = Some("acme".parse::<TenantName>().unwrap());
    bench.offer(other_tenant).await.unwrap();
}

#[tokio::test]
async fn a_hundred_alike_at_once_are_one() {
    let bench = Bench::new().await;
    let offers = (0..100).map(|_| bench.offer(unique(UniqueUntil::Finished)));
    let answers = futures_util::future::join_all(offers).await;
    let accepted: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(accepted.len(), 1);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap_or_else(|holder| holder) == accepted[0]));
}

#[tokio::test]
async fn a_job_that_is_gone_excludes_nobody() {
    let bench = Bench::new().await;
    let first = bench.offer(unique(UniqueUntil::Finished)).await.unwrap();
    // As if Redis had lost it.
    let keys = [bench.key(&format!("b:{}", first.uuid())), bench.key(&format!("j:{}", first.uuid()))];
    let () = bench.redis.ask(redis::cmd("DEL").arg(&keys));
    bench.offer(unique(UniqueUntil::Finished)).await.unwrap();
}
