//! A deploy of workers under load: fresh processes of the next version come, those of the old one are drained one by one.

use super::*;

#[tokio::test]
async fn a_rolling_deploy_under_load_fails_and_repeats_no_job() {
    let yard = Yard::new().await;
    let settings = [("FOURMI_SLOTS", "4")];
    let old = || yard.worker_with(&[settings[0], ("TEST_WORKER_IS_OLD", "1")]);
    let (mut outgoing, mut incoming) = (vec![old(), old(), old()], Vec::new());
    let mut jobs = Vec::new();
    let load = async |jobs: &mut Vec<JobId>| {
        for n in 0..100 {
            jobs.push(yard.push(&GreetOne { name: n.to_string() }).await);
        }
    };
    // One that runs all through the deploy of its worker.
    let long = yard.push(&yard.hold(true)).await;
    yard.journal_says("1 started");
    while let Some(mut leaving) = outgoing.pop() {
        load(&mut jobs).await;
        incoming.push(yard.worker_with(&settings));
        load(&mut jobs).await;
        let workers = yard.queues.workers(&queue()).await.unwrap();
        let name = &workers.iter().find(|worker| worker.pid == leaving.pid()).unwrap().name;
        assert!(yard.queues.drain(&queue(), name).await.unwrap());
        load(&mut jobs).await;
        // The job that its worker still runs ends, else it would be given back.
        if yard.lines("journal")[0].ends_with(&leaving.pid().to_string()) {
            yard.open_gate();
        }
        assert!(leaving.wait().success());
    }
    // Only now somebody needs the new version.
    let of_today = yard.push(&Greet { names: vec!["Ada".into(), "Alan".into()] }).await;
    assert_eq!(yard.end(&of_today).await.result, Some(json!("new: Ada and Alan")));
    let mut by_new = 0;
    for id in &jobs {
        let job = yard.end(id).await;
        // What a draining worker had fetched and not started went back, which is no attempt.
        assert_eq!((job.state, job.attempts, job.error), (State::Succeeded, 1, None));
        assert_eq!(yard.queues.runs(id).await.unwrap(), []);
        by_new += usize::from(job.result.unwrap().as_str().unwrap().starts_with("new: "));
    }
    assert!((1..jobs.len()).contains(&by_new), "both versions have worked: {by_new} of {}", jobs.len());
    assert_eq!(yard.end(&long).await.run, 1);
    assert_eq!(yard.queues.workers(&queue()).await.unwrap().len(), incoming.len());
    assert_eq!(yard.queues.counts(&queue()).await.unwrap().0[&State::Failed], 0);
}
