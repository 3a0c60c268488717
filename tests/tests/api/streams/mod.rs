//! Streams of events: what one job, a batch and all jobs tell.

mod lost;
mod many_clients;
mod seen;
mod site;

use fourmi_model::State;
use fourmi_tests::eventually_async;
use serde_json::{Value, json};

use self::site::{Site, failed, succeeded, told};

#[tokio::test]
async fn a_batch_is_told_member_by_member_and_ends_last() {
    let site = Site::new(&[]).await;
    let (batch, members) = site.batch(3).await;
    let path = format!("/flows/{batch}/events");
    let mut stream = site.follow(&path).await;
    assert_eq!(stream.0.status, 200);
    let snapshot = stream.until("live").await;
    assert_eq!(snapshot[0].json()["id"], batch);
    let mut ids: Vec<_> = snapshot[1..4].iter().map(|event| event.json()["id"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    assert_eq!((ids, &snapshot[4].json()), (sorted(&members), &json!({"jobs": 4, "more": false})));

    // A job of another flow is not told of.
    site.probe("other").await;
    let claims = site.fetch().await;
    let (last, others) = claims.split_last().unwrap();
    site.settle(others, &succeeded()).await;
    site.settle(std::slice::from_ref(last), &failed()).await;
    let (mut over, mut progress, mut end) = (Vec::new(), 0, None);
    while let Some(event) = stream.event().await {
        let document = event.json();
        match event.name.as_str() {
            "progress" => {
                assert_eq!((&document["id"], &document["progress"]["stage"]), (&json!(batch), &json!("members")));
                progress += 1;
            }
            _ if document["id"] == batch => end = Some((event.id, document["state"].clone(), over.len())),
            _ if ["succeeded", "failed"].contains(&document["state"].as_str().unwrap()) => {
                over.push(document["id"].as_str().unwrap().to_owned());
            }
            _ => assert_eq!(document["state"], "running"),
        }
    }
    assert!(stream.0.ended && progress <= 3);
    over.sort_unstable();
    assert_eq!(over, sorted(&members));
    // Whether one of them has failed depends on which was fetched last.
    let (id, state, before) = end.unwrap();
    assert!(id == "over" && before == 3 && ["succeeded", "failed"].contains(&state.as_str().unwrap()));

    assert_eq!(site.follow_since(&path, Some("over")).await.0.status, 204);
    // A stream of what is over tells how it ended; any member names the batch.
    let mut again = site.follow_since(&format!("/flows/{}/events", members[1]), Some("7.7")).await;
    let events = again.until("live").await;
    assert_eq!(events.len(), 4);
    assert_eq!(again.event().await.unwrap().json()["id"], batch);
    assert!(again.event().await.is_none() && again.0.ended);

    let alone = site.probe("alone").await;
    for (id, code) in [(alone.to_string(), "unknown_batch"), ("media-nonsense".to_owned(), "unknown_job")] {
        let answer = site.platform.request("GET", &format!("/flows/{id}/events")).send().await.unwrap();
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], code);
    }
}

fn sorted(ids: &[String]) -> Vec<String> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn all_jobs_are_told_as_far_as_they_are_wanted() {
    let site = Site::new(&[]).await;
    let early = site.probe("a").await;
    let mut tagged = site.follow("/events?tag=a").await;
    let mut failing = site.follow("/events?state=failed&queue=media").await;
    let mut extracts = site.follow("/events?kind=audio.extract").await;
    let mut elsewhere = site.follow("/events?tenant=nobody").await;
    let snapshot = tagged.until("live").await;
    assert_eq!((snapshot.len(), snapshot[0].json()["id"].as_str()), (2, Some(&*early.to_string())));
    for stream in [&mut failing, &mut extracts, &mut elsewhere] {
        assert_eq!(stream.event().await.unwrap().json(), json!({"jobs": 0, "more": false}));
    }
    let claims = site.fetch().await;
    assert_eq!(tagged.told().await, "state running");
    let news = [(claims[0].key(), r#"{"stage":"encode","percent":41.0}"#.to_owned())];
    site.transitions.progress(&news).await.unwrap();
    let far = tagged.event().await.unwrap().json();
    assert_eq!((&far["id"], &far["run"], &far["progress"]["percent"]), (&json!(early), &json!(1), &json!(41.0)));

    // A job that came later is told of from its beginning on; those of other sorts are not.
    site.push("audio.extract", "b", &json!({})).await;
    let late = site.probe("a").await;
    assert_eq!(extracts.told().await, "state waiting");
    let told_late = tagged.event().await.unwrap();
    assert_eq!((told(&told_late), &told_late.json()["id"]), ("state waiting".to_owned(), &json!(late)));
    site.settle(&claims, &failed()).await;
    let event = failing.event().await.unwrap();
    assert_eq!((told(&event), &event.json()["id"]), ("state failed".to_owned(), &json!(early)));
    assert_eq!(tagged.told().await, "state failed");
    let claims = site.fetch().await;
    site.settle(&claims, &succeeded()).await;
    tagged.until_state(&late.to_string(), State::Succeeded).await;

    for wrong in ["state=nonsense", "queue=Media", "kind=x", "colour=red", "tag=a&tag=b", "vocabulary=x"] {
        let answer = site.platform.request("GET", &format!("/events?{wrong}")).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{wrong}");
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], "invalid_query");
    }
}

#[tokio::test]
async fn who_comes_back_is_told_what_has_ended_meanwhile() {
    let site = Site::new(&[]).await;
    let id = site.probe("a").await;
    let mut stream = site.follow("/events?tag=a").await;
    let live = stream.until("live").await.pop().unwrap();
    drop(stream);
    let claims = site.fetch().await;
    site.settle(&claims, &succeeded()).await;
    let other = site.probe("a").await;
    let mut stream = site.follow_since("/events?tag=a", Some(&live.id)).await;
    let mut events = stream.until("live").await;
    assert_eq!((events[0].name.as_str(), &events[0].json()["reason"]), ("gap", &json!("reconnected")));
    assert_eq!(events.pop().unwrap().json(), json!({"jobs": 2, "more": false}));
    let jobs: Vec<_> = events[1..].iter().map(|event| (event.json()["id"].clone(), told(event))).collect();
    let expected = [(json!(other), "snapshot waiting"), (json!(id), "snapshot succeeded")];
    assert_eq!(jobs, expected.map(|(id, told)| (id, told.to_owned())));

    for nonsense in ["", "-1", "x", "7.41", "over", "99999999999999999999999"] {
        let mut stream = site.follow_since("/events?tag=a", Some(nonsense)).await;
        assert_eq!(stream.0.status, 200);
        assert_eq!(stream.told().await, "snapshot waiting", "{nonsense:?}");
        let mut one = site.follow_since(&format!("/jobs/{other}/events"), Some(nonsense)).await;
        assert_eq!(one.told().await, "snapshot waiting", "{nonsense:?}");
    }
    // One that was over before is followed to its end, or not at all.
    let path = format!("/jobs/{id}/events");
    let mut over = site.follow(&path).await;
    let end = over.event().await.unwrap();
    assert_eq!(told(&end), "snapshot succeeded");
    assert!(over.event().await.is_none() && over.0.ended);
    assert_eq!(site.follow_since(&path, Some(&end.id)).await.0.status, 204);
}

#[tokio::test]
async fn streams_speak_of_processing_if_they_are_asked_to() {
    let site = Site::new(&[]).await;
    let id = site.push("media.probe", "a", &json!({"dataset_id": "votes-7", "k": 4})).await;
    let mut one = site.follow(&format!("/jobs/{id}/events?vocabulary=processing")).await;
    let mut all = site.follow("/events?tag=a&vocabulary=processing").await;
    // The end of the snapshot is a comment here.
    while all.block().await.unwrap().comment != "live" {}
    let claims = site.fetch().await;
    let started = json!({"type": "processing_started", "dataset_id": "votes-7", "config": {"k": 4}, "user_id": null});
    let far = json!({"type": "processing_progress", "dataset_id": "votes-7", "stage": "clustering", "progress": 75.5,
        "message": "Performing clustering..."});
    let explanations = json!(["a", "b"]);
    let rag = json!({"type": "rag_completed", "dataset_id": "votes-7", "explanations": explanations});
    let completed =
        json!({"type": "processing_completed", "dataset_id": "votes-7", "result": {"explanations": explanations}});
    for stream in [&mut one, &mut all] {
        let event = stream.event().await.unwrap();
        assert_eq!((event.name.as_str(), event.json()), ("processing_started", started.clone()));
    }
    let progress = r#"{"stage":"clustering","percent":75.5,"message":"Performing clustering..."}"#;
    site.transitions.progress(&[(claims[0].key(), progress.to_owned())]).await.unwrap();
    for stream in [&mut one, &mut all] {
        assert_eq!(stream.event().await.unwrap().json(), far);
    }
    site.settle(&claims, &succeeded()).await;
    for stream in [&mut one, &mut all] {
        for expected in [&rag, &completed] {
            let event = stream.event().await.unwrap();
            assert_eq!((event.name.as_str(), &event.json()), (expected["type"].as_str().unwrap(), expected));
        }
    }
    assert!(one.event().await.is_none());
    let other = site.probe("a").await;
    let claims = site.fetch().await;
    site.settle(&claims, &failed()).await;
    let error = eventually_async("the error", async || {
        let event = all.event().await.unwrap();
        (event.name == "processing_error").then(|| event.json())
    });
    assert_eq!(error.await, json!({"type": "processing_error", "dataset_id": other, "error": "it is bad"}));
}
