//! Lists of jobs: filters, pages, cursors.

use std::collections::BTreeSet;

use fourmi_client::JobQuery;
use futures_util::TryStreamExt;
use serde_json::{Value, json};

use crate::{
    problem,
    site::{Site, job},
};

impl Site {
    /// The ids of all jobs that a query wants, page by page of so many.
    async fn all(&self, query: &str, limit: usize) -> Vec<String> {
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.platform.get(&format!("/jobs?{query}&limit={limit}&cursor={cursor}")).await;
            let jobs = page["jobs"].as_array().unwrap();
            assert!(jobs.len() <= limit);
            ids.extend(ids_of(jobs));
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => return ids,
            }
        }
    }
}

fn ids_of(jobs: &[Value]) -> impl Iterator<Item = String> {
    jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned())
}

fn set(ids: &[String]) -> BTreeSet<String> {
    ids.iter().cloned().collect()
}

#[tokio::test]
async fn jobs_are_found_by_all_that_is_known_of_them() {
    let site = Site::new().await;
    let mut made = Vec::new();
    for (tenant, tag) in [("a", "x"), ("a", "y"), ("b", "x")] {
        let jobs = vec![job(json!({"tenant": tenant, "tags": [tag]})); 7];
        made.push(site.submit(&jobs).await);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await; // Another millisecond.
    }
    let delayed = site.submit(&[job(json!({"not_before": "2099-01-01T00:00:00Z"}))]).await;
    let done: Vec<String> = site.run(4).await.iter().map(ToString::to_string).collect();
    let created = site.platform.get(&format!("/jobs/{}", made[1][0])).await;
    let (at, key) = (created["created_at"].as_str().unwrap(), created["submitted_by"].as_str().unwrap());
    let union = |lists: &[&Vec<String>]| lists.iter().flat_map(|ids| ids.iter().cloned()).collect::<BTreeSet<_>>();
    let everything = union(&[&made[0], &made[1], &made[2], &delayed]);
    for (query, expected) in [
        ("", everything.clone()),
        ("tenant=a", union(&[&made[0], &made[1]])),
        ("tenant=a&tag=x", union(&[&made[0]])),
        ("tag=x", union(&[&made[0], &made[2]])),
        ("tenant=c", BTreeSet::new()),
        ("kind=audio.extract&queue=media", everything.clone()),
        ("kind=media.probe", BTreeSet::new()),
        ("state=scheduled", union(&[&delayed])),
        ("state=succeeded", set(&done)),
        (&format!("submitted_by={key}"), everything),
        ("submitted_by=key-of-nobody", BTreeSet::new()),
        (&format!("created_before={at}"), union(&[&made[0]])),
        (&format!("created_after={at}"), union(&[&made[1], &made[2], &delayed])),
        (&format!("finished_before={at}"), BTreeSet::new()),
        (&format!("finished_after={at}"), set(&done)),
    ] {
        let found = site.all(query, 3).await;
        assert_eq!(found.len(), expected.len(), "{query}: none is met twice");
        assert_eq!(set(&found), expected, "{query}");
    }
    let query = JobQuery { tenant: Some("a".parse().unwrap()), limit: Some(5), ..JobQuery::default() };
    let jobs: Vec<_> = site.platform.client.all_jobs(query).try_collect().await.unwrap();
    assert_eq!(jobs.len(), 14);
}

#[tokio::test]
async fn a_page_goes_on_where_the_one_before_ended_whatever_has_left_since() {
    let site = Site::new().await;
    let first = async |query: &str| {
        let page = site.platform.get(&format!("/jobs?{query}&limit=3")).await;
        (ids_of(page["jobs"].as_array().unwrap()).collect::<Vec<_>>(), page["next"].as_str().unwrap().to_owned())
    };
    let rest = async |query: &str, cursor: &str| {
        let page = site.platform.get(&format!("/jobs?{query}&limit=50&cursor={cursor}")).await;
        ids_of(page["jobs"].as_array().unwrap()).collect::<Vec<_>>()
    };
    let waiting = site.submit(&vec![job(json!({})); 7]).await;
    let (page, cursor) = first("state=waiting").await;
    assert_eq!(page, waiting[..3]);
    assert_eq!(rest("state=waiting", &cursor).await, waiting[3..]);
    site.start(2).await;
    assert_eq!(rest("state=waiting", &cursor).await, waiting[3..], "what it went on behind is there");
    site.start(2).await;
    assert_eq!(rest("state=waiting", &cursor).await, waiting[4..], "and now it has gone");

    let scheduled = site.submit(&vec![job(json!({"not_before": "2099-01-01T00:00:00Z"})); 7]).await;
    let (page, cursor) = first("state=scheduled").await;
    for id in &page {
        site.platform.client.cancel(&id.parse().unwrap()).await.unwrap();
    }
    let left: BTreeSet<_> = set(&scheduled).difference(&set(&page)).cloned().collect();
    assert_eq!(set(&rest("state=scheduled", &cursor).await), left);

    // The newest first: what ends meanwhile comes before the first page.
    for id in &left {
        site.platform.client.cancel(&id.parse().unwrap()).await.unwrap();
    }
    let (page, cursor) = first("state=cancelled").await;
    site.run(2).await;
    let others: BTreeSet<_> = set(&scheduled).difference(&set(&page)).cloned().collect();
    assert_eq!(set(&rest("state=cancelled", &cursor).await), others);
}

#[tokio::test]
async fn a_cursor_that_no_list_gave_is_refused() {
    let site = Site::new().await;
    site.submit(&vec![job(json!({})); 3]).await;
    let page = site.platform.get("/jobs?limit=1").await;
    let good = page["next"].as_str().unwrap();
    let id = "0198c0de-0000-7000-8000-000000000001";
    let step =
        site.post("/jobs/actions", &json!({"action": "cancel", "filter": {}, "dry_run": true, "cursor": good})).await;
    assert_eq!(problem(step, 400).await, "invalid_cursor");
    for cursor in [
        "x".to_owned(),
        ".".to_owned(),
        "media".to_owned(),
        "media.x".to_owned(),
        "nowhere.".to_owned(),
        "media.99".to_owned(),
        "media.-1".to_owned(),
        "media.0_1_2".to_owned(),
        format!("{good}0"),
        format!("x{good}"),
        good.to_uppercase(),
        good[..good.len() - 1].to_owned(),
        format!("media.0_nan_{id}_"),
        format!("media.0_inf_{id}_"),
        format!("media.0_1e999_{id}_"),
        format!("media.2_-1_{id}_"),
        format!("media.2_1.5_{id}_"),
        format!("media.2_9223372036854775807_{id}_"),
        format!("media.2_1_{id}_ff"),
        format!("media.1790000000000_{}", good.split_once('.').unwrap().1),
        "media.%00".to_owned(),
        "9".repeat(4_000),
    ] {
        let answer = site.platform.request("GET", &format!("/jobs?cursor={cursor}")).send().await.unwrap();
        assert_eq!(problem(answer, 400).await, "invalid_cursor", "{cursor}");
    }
    // These name places that may once have been; nothing is found there.
    for cursor in [format!("media.0_1_{id}_"), format!("media.2_1099511627775_{id}_{}", "31".repeat(9))] {
        let answer = site.platform.request("GET", &format!("/jobs?cursor={cursor}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{cursor}");
    }
    for query in ["limit=0", "limit=201", "tenant=A%20B", "created_after=yesterday", "state=lost", "surprise=1"] {
        let answer = site.platform.request("GET", &format!("/jobs?{query}")).send().await.unwrap();
        assert_eq!(problem(answer, 400).await, "invalid_query", "{query}");
    }
}
