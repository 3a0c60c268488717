//! Many streams: how many there may be, and what is left of them.

use std::time::{Duration, Instant};

use fourmi_tests::{EventReader, descriptors, eventually};
use serde_json::Value;

use super::site::{Followed, Site};

/// Streams that are open at a time.
const AT_ONCE: usize = 500;

#[tokio::test]
async fn a_key_has_so_many_streams_and_no_more() {
    let site = Site::new(&[("FOURMI_STREAMS_PER_KEY", "2")]).await;
    let id = site.probe("a").await;
    let one = site.follow(&format!("/jobs/{id}/events")).await;
    let mut all = site.follow("/events").await;
    all.until("live").await;
    let answer = site.platform.request("GET", "/events").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"5".parse().unwrap()));
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "too_many_streams");
    // Jobs are read all the same, and what does not become a stream takes no place.
    assert_eq!(site.platform.get(&format!("/jobs/{id}")).await["state"], "waiting");
    drop(one);
    fourmi_tests::eventually_async("the place is free again", async || {
        let stream = site.follow(&format!("/jobs/{id}/events")).await;
        (stream.0.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_clients_that_went_away_leave_nothing() {
    let site = Site::new(&[("FOURMI_RATE_LIMITS", "stream=off,any=off")]).await;
    let pid = site.platform.api.pid();
    let id = site.probe("a").await;
    let paths = [format!("/jobs/{id}/events"), "/events?tag=a".to_owned(), format!("/jobs/{id}/events?log_after=0")];
    let sockets = || descriptors(pid).iter().filter(|name| name.starts_with("socket:")).count();
    let (before, started) = (sockets(), Instant::now());
    let mut resident = Vec::new();
    for round in 0..20 {
        let opening = (0..AT_ONCE).map(|n| {
            let path = paths[(round + n) % paths.len()].clone();
            let (url, key) = (site.platform.url().to_owned(), site.platform.key().to_owned());
            tokio::spawn(async move { EventReader::open(&url, &path, &key, None).await.map(Followed) })
        });
        let mut streams = Vec::new();
        for stream in opening.collect::<Vec<_>>() {
            streams.push(stream.await.unwrap().unwrap());
        }
        for stream in &mut streams {
            assert_eq!(stream.0.status, 200, "the places of those before are free");
            stream.event().await.unwrap();
        }
        assert!(sockets() >= before + AT_ONCE);
        drop(streams);
        eventually("the connections are closed", || sockets() <= before);
        resident.push(resident_kib(pid));
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    // The first rounds fill what is kept for later ones, on a busy machine more of them. Two KiB a client would be seen.
    let (early, late) = (resident[4], resident[19]);
    assert!(late < early + 14 * 1_024, "{resident:?}");
}

/// Resident memory of a process.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
