//! Progress and cancellation.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use fourmi_kinds::{Chapter, Hls, Waveform};
use fourmi_media::{
    Control,
    audio::{self, Extras},
    probe,
};
use fourmi_model::{Failure, Progress};
use serde_json::json;

use crate::studio::{Notebook, Studio, request};

/// Says when the run has begun, and can be cancelled by another thread.
struct Remote {
    begun: Mutex<mpsc::Sender<()>>,
    cancelled: AtomicBool,
}

impl Control for Remote {
    fn progress(&self, _: Progress) {
        // Nobody listens any more after the first time.
        let _ = self.begun.lock().unwrap().send(());
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

fn long_recording(studio: &Studio) -> std::path::PathBuf {
    studio.record("long.flac", "-f lavfi -i sine=duration=600:sample_rate=48000 -c:a flac -compression_level 0")
}

#[test]
fn progress_is_told_at_a_bearable_pace_and_never_goes_back() {
    let studio = Studio::new();
    let long = long_recording(&studio);
    let notebook = Notebook::default();
    let started = Instant::now();
    let payload = json!({"format": "mp3", "trim": {"end_ms": 60_000}});
    audio::extract(&long, studio.output(), &request(payload), &Extras::default(), None, &notebook).unwrap();
    let took = started.elapsed();

    let told = notebook.0.into_inner().unwrap();
    assert!(told.len() >= 3 && told.len() as f64 <= 20.0 * took.as_secs_f64() + 2.0, "{} in {took:?}", told.len());
    assert!(told.is_sorted_by(|one, next| one.percent <= next.percent));
    assert!(told.is_sorted_by(|one, next| one.counters["media_ms"] <= next.counters["media_ms"]));
    assert!(told.iter().all(|progress| progress.stage == "transcode" && (0.0..=100.0).contains(&progress.percent)));
    assert!(told[told.len() / 2].percent > 20.0, "it tells of the way, not only of the end");
    let last = told.last().unwrap();
    assert_eq!((last.percent, last.eta_ms, last.counters["media_ms"]), (100.0, Some(0), 60_000.0));
    assert!(last.counters["output_bytes"] > 4e5 && last.counters["speed"] > 1.0);
}

#[test]
fn a_cancel_is_heard_at_once_and_leaves_nothing_behind() {
    let studio = Studio::new();
    let long = long_recording(&studio);
    for payload in [json!({"format": "mp3"}), json!({"format": "opus", "trim": {"start_ms": 200_000}})] {
        let (begun, has_begun) = mpsc::channel();
        let remote = Remote { begun: Mutex::new(begun), cancelled: AtomicBool::new(false) };
        std::thread::scope(|threads| {
            let run = threads.spawn(|| {
                let result =
                    audio::extract(&long, studio.output(), &request(payload), &Extras::default(), None, &remote);
                (result, Instant::now())
            });
            has_begun.recv().unwrap();
            let asked = Instant::now();
            remote.cancelled.store(true, Ordering::Relaxed);
            let (result, ended) = run.join().unwrap();
            assert_eq!(result.unwrap_err(), Failure::cancelled());
            assert!(ended - asked < Duration::from_millis(500), "{:?}", ended - asked);
        });
        assert_eq!(std::fs::read_dir(studio.output()).unwrap().count(), 0);
    }
}

/// Every stage on its own: cancelled once it has begun, it ends at once and leaves nothing behind.
#[test]
fn every_stage_hears_a_cancel() {
    let studio = Studio::new();
    let long = long_recording(&studio);
    let chapters: Vec<_> =
        (0..500).map(|n| Chapter { start_ms: n * 1_000, end_ms: (n + 1) * 1_000, title: n.to_string() }).collect();
    let loud = request(json!({"format": "mp3", "normalize": null, "waveform": {"json": {}}}));
    let analysis = audio::analyse(&long, &loud, &Extras::default(), &Notebook::default()).unwrap();
    let one_pass = request(json!({"format": "opus", "normalize": {"ebu_r128": {"mode": "one_pass"}}}));
    let (folder, extras) = (studio.output(), Extras::default());
    let stages: [(&str, &(dyn Fn(&Remote) -> Result<(), Failure> + Sync)); 6] = [
        ("analyse", &|remote| audio::analyse(&long, &loud, &extras, remote).map(drop)),
        ("transcode", &|remote| audio::extract(&long, folder, &loud, &extras, analysis.as_ref(), remote).map(drop)),
        ("one pass", &|remote| audio::extract(&long, folder, &one_pass, &extras, None, remote).map(drop)),
        ("waveform", &|remote| audio::waveform(&long, Waveform::default(), &folder.join("waveform.json"), remote)),
        ("segment", &|remote| audio::hls(&long, &Hls::default(), folder, remote).map(drop)),
        ("split", &|remote| audio::split(&long, &chapters, folder, remote).map(drop)),
    ];
    for (name, stage) in stages {
        let (begun, has_begun) = mpsc::channel();
        let remote = Remote { begun: Mutex::new(begun), cancelled: AtomicBool::new(false) };
        std::thread::scope(|threads| {
            let run = threads.spawn(|| (stage(&remote), Instant::now()));
            has_begun.recv().unwrap();
            let asked = Instant::now();
            remote.cancelled.store(true, Ordering::Relaxed);
            let (result, ended) = run.join().unwrap();
            assert_eq!(result, Err(Failure::cancelled()), "{name}");
            assert!(ended - asked < Duration::from_millis(900), "{name}: {:?}", ended - asked);
        });
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn who_is_cancelled_beforehand_does_not_begin() {
    let studio = Studio::new();
    let song = studio.record("song.mp3", "-f lavfi -i sine=duration=5");
    let (begun, _) = mpsc::channel();
    let remote = Remote { begun: Mutex::new(begun), cancelled: AtomicBool::new(true) };
    let result = audio::extract(&song, studio.output(), &request(json!({})), &Extras::default(), None, &remote);
    assert_eq!(result.unwrap_err().code, "cancelled");
    assert_eq!(probe::probe(&song, &remote).unwrap_err().code, "cancelled");
    assert_eq!(std::fs::read_dir(studio.output()).unwrap().count(), 0);
}
