//! Many jobs at once by filter, and deleting.

use fourmi_client::{JobAction, JobQuery};
use fourmi_model::{JobId, Priority, State};
use fourmi_queue::Consumer;
use fourmi_tests::eventually_async;
use serde_json::{Value, json};

use crate::{
    problem,
    site::{Site, job},
};

impl Site {
    /// Takes all steps of an action; how many, and what they did.
    async fn act(&self, mut body: Value) -> (usize, u64, u64) {
        let (mut steps, mut matched, mut done) = (0, 0, 0);
        loop {
            let answer = self.post("/jobs/actions", &body).await;
            assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
            let step: Value = answer.json().await.unwrap();
            steps += 1;
            matched += step["matched"].as_u64().unwrap();
            done += step["done"].as_u64().unwrap();
            match &step["next"] {
                Value::Null => return (steps, matched, done),
                next => body["cursor"] = next.clone(),
            }
        }
    }

    /// What a dry run says, and then what is done.
    async fn twice(&self, body: Value) -> u64 {
        let mut dry = body.clone();
        dry["dry_run"] = true.into();
        let (_, would_be, nothing) = self.act(dry).await;
        let (_, matched, done) = self.act(body.clone()).await;
        assert_eq!((would_be, nothing), (matched, 0), "{body}");
        assert_eq!(matched, done, "{body}");
        assert_eq!(self.act(body).await.1, 0, "there is nothing left to do");
        done
    }
}

#[tokio::test]
async fn an_action_does_what_its_dry_run_says() {
    let site = Site::new().await;
    let later = json!({"not_before": "2099-01-01T00:00:00Z", "tags": ["later"]});
    site.submit(&vec![job(json!({"tags": ["night"]})); 5]).await;
    site.submit(&vec![job(json!({"tags": ["night"], "tenant": "b"})); 3]).await;
    site.submit(&vec![job(later); 4]).await;
    let action = |action: &str, filter: Value| json!({"action": action, "filter": filter});
    assert_eq!(site.twice(action("cancel", json!({"tag": "night", "tenant": "c"}))).await, 0);
    assert_eq!(site.twice(action("cancel", json!({"tag": "night", "tenant": "b"}))).await, 3);
    let mut urgent = action("prioritize", json!({"tag": "night"}));
    urgent["priority"] = "urgent".into();
    assert_eq!(site.twice(urgent).await, 5, "those that are cancelled have no priority any more");
    assert_eq!(site.twice(action("retry", json!({"tag": "night", "state": ["cancelled"]}))).await, 3);
    assert_eq!(site.twice(action("promote", json!({"tag": "later"}))).await, 4);
    assert_eq!(site.count(State::Waiting).await, 12);
    let running = site.start(2).await;
    assert_eq!(site.twice(action("cancel", json!({"queue": "media"}))).await, 12);
    for id in &running {
        assert!(site.platform.client.job(id).await.unwrap().cancel_requested);
    }
    assert_eq!(site.twice(action("delete", json!({"kind": "audio.extract"}))).await, 10, "two run still");
    assert_eq!((site.count(State::Cancelled).await, site.count(State::Running).await), (0, 2));
}

#[tokio::test]
async fn a_step_is_bounded_and_the_walk_ends_while_jobs_come_and_go() {
    let site = Site::new().await;
    for _ in 0..3 {
        site.submit(&vec![job(json!({"tags": ["old"]})); 900]).await;
    }
    let mut body = json!({"action": "cancel", "filter": {"state": ["waiting"]}});
    let (mut steps, mut done) = (0, 0);
    loop {
        let step: Value = site.post("/jobs/actions", &body).await.json().await.unwrap();
        assert!(step["matched"].as_u64().unwrap() <= 1_000);
        done += step["done"].as_u64().unwrap();
        steps += 1;
        // Workers take from the front of the lane, and others submit at its end.
        site.start(50).await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await; // What comes in the first millisecond would count.
        site.submit(&vec![job(json!({"tags": ["new"]})); 500]).await;
        match &step["next"] {
            Value::Null => break,
            next => body["cursor"] = next.clone(),
        }
    }
    let left = async |tag: &str| {
        let query = JobQuery { states: vec![State::Waiting], tag: Some(tag.into()), ..JobQuery::default() };
        site.platform.client.act(JobAction::Cancel, &query).dry_run().to_end().await.unwrap().matched
    };
    assert_eq!(left("old").await, 0, "none was passed over");
    assert!(steps >= 3 && done >= 2_500, "{steps} steps, {done} cancelled");
    assert!(left("new").await > 0, "what came later was not met");
}

#[tokio::test]
async fn jobs_are_named_by_their_ids_too() {
    let site = Site::new().await;
    let ids = site.submit(&vec![job(json!({})); 4]).await;
    let named = json!([
        ids[0],
        ids[1],
        ids[1],
        "media-0198c0de-0000-7000-8000-000000000001",
        "nowhere-0198c0de-0000-7000-8000-000000000001"
    ]);
    assert_eq!(site.twice(json!({"action": "cancel", "filter": {"ids": named}})).await, 2);
    assert_eq!(site.act(json!({"action": "cancel", "filter": {"ids": named, "tenant": "a"}})).await.1, 0);
    assert_eq!((site.state(&ids[0]).await, site.state(&ids[2]).await), ("cancelled".into(), "waiting".into()));
    let only: Vec<JobId> = ids[2..].iter().map(|id| id.parse().unwrap()).collect();
    let walk = site.platform.client.act(JobAction::Prioritize(Priority::Low), &JobQuery::default()).only(&only);
    assert_eq!(walk.to_end().await.unwrap().done, 2);

    let many: Vec<_> = (0..1_001).map(|_| ids[0].clone()).collect();
    for (body, path) in [
        (json!({"action": "cancel"}), ""),
        (json!({"action": "explode", "filter": {}}), "action"),
        (json!({"action": "cancel", "filter": {"sate": ["waiting"]}}), "filter.sate"),
        (json!({"action": "cancel", "filter": {"ids": many}}), "filter.ids"),
        (json!({"action": "cancel", "filter": {"ids": []}, "cursor": "media."}), "cursor"),
        (json!({"action": "prioritize", "filter": {}}), "priority"),
        (json!({"action": "cancel", "priority": "low", "filter": {}}), "priority"),
    ] {
        let answer: Value = site.post("/jobs/actions", &body).await.json().await.unwrap();
        assert_eq!(
            (&answer["code"], &answer["errors"][0]["path"]),
            (&json!("invalid_request"), &json!(path)),
            "{answer}"
        );
    }
    for cursor in ["media.", "media.x", "x", "media.1790000000000", "media.1790000000000_99"] {
        let body = json!({"action": "cancel", "filter": {}, "cursor": cursor});
        let answer = site.post("/jobs/actions", &body).await;
        match cursor {
            "media." => assert_eq!(answer.status(), 200),
            _ => assert_eq!(problem(answer, 400).await, "invalid_cursor", "{cursor}"),
        }
    }
}

#[tokio::test]
async fn a_batch_that_is_cancelled_by_filter_takes_its_jobs_along() {
    let site = Site::new().await;
    let members: Vec<Value> = (0..3).map(|n| job(json!({"name": format!("{n}")}))).collect();
    let flow: Value = site.post("/flows", &json!({"batch": true, "jobs": members})).await.json().await.unwrap();
    let done = site.act(json!({"action": "cancel", "filter": {"kind": "flow.batch"}})).await;
    assert_eq!((done.1, done.2), (1, 1));
    for job in flow["jobs"].as_array().unwrap() {
        assert_eq!(site.state(job["id"].as_str().unwrap()).await, "cancelled");
    }
}

#[tokio::test]
async fn what_is_deleted_was_never_there() {
    let site = Site::new().await;
    let ids = site.submit(&vec![job(json!({})); 3]).await;
    let delete = async |id: &str| site.platform.request("DELETE", &format!("/jobs/{id}")).send().await.unwrap();
    assert_eq!(problem(delete(&ids[0]).await, 409).await, "not_over");
    let kid = site.submit(&[job(json!({"after": [ids[0]]}))]).await.remove(0);
    site.run(1).await;
    site.start(1).await;
    assert_eq!(problem(delete(&ids[1]).await, 409).await, "not_over");
    site.platform.client.delete(&ids[0].parse().unwrap()).await.unwrap();
    for path in ["", "/runs", "/log", "/why"] {
        let answer = site.platform.request("GET", &format!("/jobs/{}{path}", ids[0])).send().await.unwrap();
        assert_eq!(problem(answer, 404).await, "unknown_job", "{path}");
    }
    assert_eq!(problem(delete(&ids[0]).await, 404).await, "unknown_job");
    assert_eq!(problem(delete("nonsense").await, 404).await, "unknown_job");
    // The job that waited for it does not wait for ever.
    eventually_async("the end of the wait", async || (site.state(&kid).await == "waiting").then_some(())).await;

    // Nobody else is in the way of those that follow.
    site.run(10).await;
    // Also when what has ended is on its way into the records, or there already.
    for wait in [false, true] {
        let id = site.submit(&[job(json!({"priority": "urgent"}))]).await.remove(0);
        assert_eq!(site.run(1).await[0].to_string(), id);
        if wait {
            eventually_async("the outbox is empty", async || {
                let outbox = site.queues.outbox(site.transitions.queue(), Consumer::Records).await.unwrap();
                outbox.filter(|outbox| outbox.waiting == 0).map(drop)
            })
            .await;
        }
        assert_eq!(delete(&id).await.status(), 204);
        eventually_async("the outbox is empty", async || {
            let outbox = site.queues.outbox(site.transitions.queue(), Consumer::Records).await.unwrap();
            outbox.filter(|outbox| outbox.waiting == 0).map(drop)
        })
        .await;
        let answer = site.platform.request("GET", &format!("/jobs/{id}")).send().await.unwrap();
        assert_eq!(problem(answer, 404).await, "unknown_job");
    }
}
