//! Who has the next turn: tenants, their weights, priorities.

use std::collections::BTreeMap;

use fourmi_model::{JobId, Priority, State, Submission, TenantName};
use fourmi_queue::{JobFilter, Retried};

use crate::bench::{Bench, KEEP, submission};

fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

fn of_tenant(name: &str) -> Submission {
    Submission { tenant: Some(tenant(name)), ..submission() }
}

impl Bench {
    async fn push_many(&self, count: usize, job: &Submission) -> Vec<JobId> {
        let jobs: Vec<_> = (0..count).map(|_| (self.new_id(), job.clone())).collect();
        let answers = self.queues.push_many(&self.name, &jobs).await.unwrap();
        answers.into_iter().map(|answer| answer.unwrap().id).collect()
    }

    /// The tenants of the next jobs, fetched in steps of `want`.
    async fn tenants(&self, jobs: usize, want: usize) -> Vec<String> {
        let mut tenants = Vec::new();
        while tenants.len() < jobs {
            let fetched = self.fetch(want).await;
            assert!(!fetched.is_empty(), "only {} jobs of {jobs} came", tenants.len());
            for (id, _) in fetched {
                tenants.push(self.job(&id).await.tenant.map_or_else(String::new, |tenant| tenant.to_string()));
            }
        }
        tenants
    }
}

fn counted(tenants: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for tenant in tenants {
        *counts.entry(tenant.as_str()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_tenant_with_a_hundred_thousand_jobs_delays_another_by_one_turn() {
    let bench = Bench::new().await;
    bench.push_many(100_000, &of_tenant("big")).await;
    for want in [1, 7, 200] {
        let id = bench.push(of_tenant("small")).await;
        let mut before = 0;
        while bench.state(&id).await == State::Waiting {
            before += bench.fetch(want).await.len();
        }
        assert!(before <= want.max(2), "{before} jobs were fetched by {want} until it ran");
    }
}

#[tokio::test]
async fn tenants_take_turns_and_plain_jobs_are_one_of_them() {
    let bench = Bench::new().await;
    bench.push_many(50, &submission()).await;
    for name in ["a", "b", "c"] {
        bench.push_many(50, &of_tenant(name)).await;
    }
    let tenants = bench.tenants(40, 1).await;
    assert_eq!(counted(&tenants), BTreeMap::from([("", 10), ("a", 10), ("b", 10), ("c", 10)]));
    let tenants = bench.tenants(80, 40).await;
    assert_eq!(counted(&tenants), BTreeMap::from([("", 20), ("a", 20), ("b", 20), ("c", 20)]));
}

#[tokio::test]
async fn jobs_of_one_tenant_keep_their_order() {
    let bench = Bench::new().await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        ours.push(bench.push(of_tenant("a")).await);
        theirs.push(bench.push(of_tenant("b")).await);
    }
    let mut fetched: Vec<JobId> = Vec::new();
    while fetched.len() < 60 {
        fetched.extend(bench.fetch(7).await.into_iter().map(|(id, _)| id));
    }
    let of = |ids: &[JobId]| fetched.iter().filter(|id| ids.contains(id)).cloned().collect::<Vec<_>>();
    assert_eq!((of(&ours), of(&theirs)), (ours.clone(), theirs.clone()));
}

#[tokio::test]
async fn a_weight_is_so_many_jobs_a_turn() {
    let bench = Bench::new().await;
    bench.queues.set_weight(&bench.name, &tenant("a"), 3).await.unwrap();
    for name in ["a", "b"] {
        bench.push_many(100, &of_tenant(name)).await;
    }
    for want in [1, 8] {
        let tenants = bench.tenants(40, want).await;
        assert_eq!(counted(&tenants), BTreeMap::from([("a", 30), ("b", 10)]), "{want} at a time");
    }
    assert_eq!(bench.queues.weights(&bench.name).await.unwrap(), BTreeMap::from([(tenant("a"), 3)]));
    bench.queues.set_weight(&bench.name, &tenant("a"), 1).await.unwrap();
    assert!(bench.queues.weights(&bench.name).await.unwrap().is_empty());
}

#[tokio::test]
async fn no_priority_of_any_tenant_starves() {
    let bench = Bench::new().await;
    let urgent = Submission { priority: Priority::Urgent, ..of_tenant("busy") };
    bench.push_many(1_000, &urgent).await;
    let low = bench.push(Submission { priority: Priority::Low, ..of_tenant("calm") }).await;
    let other = bench.push(Submission { priority: Priority::Urgent, ..of_tenant("calm") }).await;
    for (id, most) in [(other, 4), (low, 16)] {
        let mut before = 0;
        while bench.state(&id).await == State::Waiting {
            before += bench.fetch(1).await.len();
        }
        assert!(before <= most, "it waited for {before} others");
    }
}

#[tokio::test]
async fn jobs_that_waited_before_the_first_tenant_came_take_part() {
    let bench = Bench::new().await;
    let plain = bench.push_many(3, &submission()).await;
    let urgent = bench.push(Submission { priority: Priority::Urgent, ..submission() }).await;
    let tenants = bench.push_many(3, &of_tenant("a")).await;
    let mut fetched: Vec<JobId> = bench.fetch(7).await.into_iter().map(|(id, _)| id).collect();
    let mut all = [plain, vec![urgent], tenants].concat();
    fetched.sort();
    all.sort();
    assert_eq!(fetched, all);
    assert!(bench.fetch(1).await.is_empty());
    let late = bench.push_plain().await;
    assert_eq!(bench.fetch_one().await.0, late);
}

#[tokio::test]
async fn a_job_comes_back_into_the_lane_of_its_tenant() {
    let bench = Bench::new().await;
    let id = bench.push(of_tenant("a")).await;
    bench.push_many(20, &submission()).await;
    let (_, run) = bench.fetch(2).await.into_iter().find(|(fetched, _)| *fetched == id).unwrap();
    let back = fourmi_queue::Outcome::Released { delay: std::time::Duration::ZERO };
    assert!(bench.settle(run, back).await);
    let fetched = bench.fetch(2).await;
    let (_, run) = fetched.into_iter().find(|(fetched, _)| *fetched == id).expect("its tenant has a turn of two");
    let error = fourmi_model::Failure::permanent("no", "no").report();
    assert!(bench.settle(run, fourmi_queue::Outcome::Failed { error, keep: KEEP }).await);
    assert_eq!(bench.queues.retry(&id).await.unwrap(), Retried::Waiting);
    assert!(bench.fetch(2).await.iter().any(|(fetched, _)| *fetched == id));
}

#[tokio::test]
async fn a_list_walks_through_all_lanes_and_says_whose_a_job_is() {
    let bench = Bench::new().await;
    let mut all = bench.push_many(150, &submission()).await;
    for name in 0..40 {
        all.extend(bench.push_many(7, &of_tenant(&format!("t{name}"))).await);
    }
    let filter = JobFilter { states: vec![State::Waiting], ..JobFilter::default() };
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        let page = bench.queues.list(&bench.name, &filter, cursor.as_deref(), 33).await.unwrap();
        listed.extend(page.jobs);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed.iter().filter(|job| job.tenant == Some(tenant("t7"))).count(), 7);
    let mut ids: Vec<JobId> = listed.into_iter().map(|job| job.id).collect();
    ids.sort();
    all.sort();
    assert_eq!(ids, all);
}

#[tokio::test]
async fn a_drained_queue_leaves_no_lane_behind() {
    let bench = Bench::new().await;
    for name in ["a", "b"] {
        let ids = bench.push_many(5, &of_tenant(name)).await;
        bench.queues.cancel(&ids[2]).await.unwrap();
    }
    for (_, run) in bench.fetch(20).await {
        assert!(bench.settle(run, fourmi_queue::Outcome::Succeeded { result: String::new(), keep: KEEP }).await);
    }
    assert!(bench.fetch(20).await.is_empty());
    let left: Vec<String> = bench
        .keys()
        .into_iter()
        .filter(|key| ["ring", "lanes", ":w:", "sleep"].iter().any(|word| key.contains(word)))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
