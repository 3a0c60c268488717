//! Loudness, as the `ffmpeg` program measures it in the files that were made; and silence at the ends.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use fourmi_kinds::NormalizationType;
use fourmi_media::audio::{self, Analysis, Extras};
use serde_json::json;

use crate::studio::{Notebook, STEREO, Studio, notes, request, samples};

/// What FFmpeg's `ebur128` says: LUFS, LU, dBTP.
#[derive(Debug)]
struct Loudness {
    integrated: f64,
    range: f64,
    true_peak: f64,
}

fn loudness(file: &Path) -> Loudness {
    let run = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-i"])
        .arg(file)
        .args(["-map", "0:a:0", "-af", "ebur128=peak=true:framelog=verbose", "-f", "null", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{text}");
    let summary = &text[text.rfind("Summary:").unwrap_or_else(|| panic!("{text}"))..];
    let figure = |name: &str| {
        let at = summary.find(name).unwrap() + name.len();
        summary[at..].split_whitespace().next().unwrap().parse().unwrap_or(f64::NEG_INFINITY)
    };
    Loudness { integrated: figure("I:"), range: figure("LRA:"), true_peak: figure("Peak:") }
}

/// Material of all sorts: name, FFmpeg's arguments, and whether one factor will do.
fn material() -> [(&'static str, String, bool); 10] {
    // No voice or instrument is as bright as white noise, which encoders leave out in part.
    let noise = |shape: &str| format!("-f lavfi -i aevalsrc='{shape}':s=48000:d=40,lowpass=f=3000,lowpass=f=3000");
    let speech = "(random(0)-0.5)*pow(abs(sin(2*PI*t*0.9)),4)*lt(mod(t,7),5)";
    let music = "0.2*sin(220*2*PI*t)+0.1*sin(1760*2*PI*t)*pow(1-mod(t,0.5),8)";
    let beats = "+0.5*(random(0)-0.5)*exp(-60*mod(t,0.5))";
    let turns = "sin(300*2*PI*t)*pow(abs(sin(2*PI*t*2)),2)*if(lt(mod(t,20),10),0.3,0.03)";
    [
        ("speech", noise(&format!("0.2*{speech}*(1+4*lt(mod(t,9),0.3))")), false),
        ("music", noise(&format!("{music}{beats}|0.8*{music}{beats}")), true),
        ("loud", noise("clip(3*sin(200*2*PI*t)+2*(random(0)-0.5),-1,1)|clip(3*sin(201*2*PI*t),-1,1)"), true),
        ("quiet", noise(&format!("0.004*{speech}|0.004*{speech}")), true),
        ("mono", format!("{} -ac 1", noise("0.05*sin(997*2*PI*t)")), true),
        ("surround", format!("{} -ac 6 -c:a flac", noise(&format!("0.1*{music}|0.1*{music}"))), true),
        ("noise", noise("0.3*(random(0)-0.5)|0.3*(random(1)-0.5)"), true),
        ("clicks", noise(&format!("0.02*{music}+0.9*lt(mod(t,1.3),0.0002)")), false),
        ("turns", noise(turns), false),
        ("crest", noise("0.9*(random(0)-0.5)*pow(abs(sin(2*PI*t*3)),12)"), false),
    ]
}

#[test]
fn every_material_meets_its_targets() {
    let studio = Studio::new();
    let mut failures = vec![];
    for (name, arguments, is_linear) in material() {
        let recording = studio.record(&format!("{name}.mkv"), &format!("{arguments} -c:a flac -strict -2"));
        for format in ["flac", "m4a", "opus", "mp3"] {
            let made = studio.extract_with(&recording, json!({"format": format, "normalize": null})).unwrap();
            let (heard, report) = (loudness(&made.path), made.loudness.clone().unwrap());
            let lossy = format != "flac";
            let mut check = |is_so: bool, what: &str| {
                if !is_so {
                    failures.push(format!("{name} {format}: {what}: {heard:?} {report:?}"));
                }
            };
            check((heard.integrated + 16.0).abs() <= 0.5, "loudness");
            check(heard.true_peak <= if lossy { 0.2 } else { -1.5 }, "true peak");
            check((report.output_i.unwrap() + 16.0).abs() <= 0.3, "reported loudness");
            let kind = if is_linear { NormalizationType::Linear } else { NormalizationType::Dynamic };
            check(report.normalization_type == kind, "type");
            check(report.gain_db.is_some() == is_linear, "gain");
            check(lossy || heard.range <= 11.5, "range");
            check(notes(&made).is_empty(), "notes");
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_is_reported_is_what_ffmpeg_measures() {
    let studio = Studio::new();
    for (name, arguments, _) in material() {
        if name == "surround" {
            continue;
        }
        let recording = studio.record(&format!("{name}.wav"), &arguments);
        let (heard, made) =
            (loudness(&recording), studio.extract_with(&recording, json!({"format": "flac", "normalize": null})));
        let report = made.unwrap().loudness.unwrap();
        assert!((report.input_i.unwrap() - heard.integrated).abs() <= 0.15, "{name}: {report:?} {heard:?}");
        assert!((report.input_tp.unwrap() - heard.true_peak).abs() <= 0.4, "{name}: {report:?} {heard:?}");
        assert!((report.input_lra.unwrap() - heard.range).abs() <= 0.5, "{name}: {report:?} {heard:?}");
        assert!(report.input_thresh.unwrap() < heard.integrated - 8.0);
    }
}

#[test]
fn other_targets_are_met_too() {
    let studio = Studio::new();
    let [(_, speech, _), .., (_, turns, _), _] = material();
    for (arguments, targets) in [
        (&speech, json!({"integrated_lufs": -23.0, "true_peak_dbtp": -1.0})),
        (&speech, json!({"integrated_lufs": -14.0, "true_peak_dbtp": -3.0})),
        (&turns, json!({"integrated_lufs": -18.0, "range_lu": 8.0})),
    ] {
        let recording = studio.record("recording.wav", arguments);
        let payload = json!({"format": "wav", "normalize": {"ebu_r128": targets}});
        let heard = loudness(&studio.extract_with(&recording, payload).unwrap().path);
        assert!((heard.integrated - targets["integrated_lufs"].as_f64().unwrap()).abs() <= 0.5, "{targets} {heard:?}");
        assert!(heard.true_peak <= targets["true_peak_dbtp"].as_f64().unwrap_or(-1.5), "{targets} {heard:?}");
        assert!(heard.range <= targets["range_lu"].as_f64().unwrap_or(11.0) + 0.5, "{targets} {heard:?}");
    }
}

#[test]
fn targets_that_contradict_one_another_are_told() {
    let studio = Studio::new();
    let [(_, speech, _), ..] = material();
    let recording = studio.record("recording.wav", &speech);
    let targets = json!({"ebu_r128": {"integrated_lufs": -5.0, "true_peak_dbtp": -9.0}});
    let made = studio.extract_with(&recording, json!({"format": "flac", "normalize": targets})).unwrap();
    assert_eq!(notes(&made), ["loudness_missed"]);
    assert!(loudness(&made.path).true_peak <= -9.0);
}

#[test]
fn silence_stays_silence() {
    let studio = Studio::new();
    let silence = studio.record("silence.wav", "-f lavfi -i anullsrc -t 5");
    let made = studio.extract_with(&silence, json!({"format": "flac", "normalize": null})).unwrap();
    let report = made.loudness.unwrap();
    assert_eq!((report.normalization_type, report.input_i, report.gain_db), (NormalizationType::None, None, None));
    assert!(samples(&made.path, "").iter().all(|&sample| sample == 0));
}

#[test]
fn one_pass_is_near() {
    let studio = Studio::new();
    let [_, (_, music, _), ..] = material();
    let recording = studio.record("music.wav", &music);
    let targets = json!({"ebu_r128": {"mode": "one_pass"}});
    let made = studio.extract_with(&recording, json!({"format": "opus", "normalize": targets})).unwrap();
    let report = made.loudness.unwrap();
    assert_eq!((report.normalization_type, report.input_i), (NormalizationType::Dynamic, None));
    assert!((loudness(&made.path).integrated - report.output_i.unwrap()).abs() < 0.5);
    assert!((report.output_i.unwrap() + 16.0).abs() < 2.0);
    assert_eq!((made.codec.sample_rate, made.duration_ms.abs_diff(40_000) < 30), (48_000, true));
}

#[test]
fn sound_that_is_loud_enough_is_copied() {
    let studio = Studio::new();
    let [_, (_, music, _), ..] = material();
    let recording = studio.record("music.wav", &music);
    let mut made = studio.extract_with(&recording, json!({"normalize": null})).unwrap();
    assert!(!made.codec.copied);
    // Encoding changes the loudness a little: what is left is mended once more.
    for _ in 0..2 {
        let file = studio.file("made.m4a", &std::fs::read(&made.path).unwrap());
        made = studio.extract_with(&file, json!({"normalize": null})).unwrap();
    }
    let report = made.loudness.unwrap();
    assert!(made.codec.copied, "{report:?}");
    assert_eq!((report.gain_db, report.output_i), (Some(0.0), report.input_i));
}

#[test]
fn an_analysis_may_be_kept() {
    let studio = Studio::new();
    let [(_, speech, _), ..] = material();
    let recording = studio.record("speech.wav", &speech);
    let payload = json!({"format": "flac", "normalize": null, "trim": {"silence": {}}});
    let at_once = studio.extract_with(&recording, payload.clone()).unwrap();
    let bytes = std::fs::read(&at_once.path).unwrap();

    let (request, extras) = (request(payload), Extras::default());
    let notebook = Notebook::default();
    let analysis = audio::analyse(&recording, &request, &extras, &notebook).unwrap().unwrap();
    let told = notebook.0.into_inner().unwrap();
    assert!(told.iter().all(|progress| progress.stage == "analyse"));
    assert!(told.last().unwrap().percent == 100.0 && told.last().unwrap().counters["media_ms"] == 40_000.0);

    let kept = serde_json::to_string(&analysis).unwrap();
    let back: Analysis = serde_json::from_str(&kept).unwrap();
    assert_eq!(back, analysis);
    let notebook = Notebook::default();
    let made = audio::extract(&recording, studio.output(), &request, &extras, Some(&back), &notebook).unwrap();
    assert!(notebook.0.into_inner().unwrap().iter().all(|progress| progress.stage == "transcode"));
    assert_eq!(made, at_once);
    assert!(std::fs::read(&made.path).unwrap() == bytes);
    let kept: audio::Extraction = serde_json::from_value(serde_json::to_value(&made).unwrap()).unwrap();
    assert_eq!(kept, made);
}

/// Two seconds of silence, four of sound, and three of silence.
fn framed(studio: &Studio) -> PathBuf {
    studio.record("framed.wav", &format!("{STEREO} -af atrim=end=4,adelay=2000:all=1,apad=pad_dur=3"))
}

#[test]
fn silence_at_the_ends_is_left_out() {
    let studio = Studio::new();
    let framed = framed(&studio);
    let whole = samples(&framed, "");
    for (keep_ms, length) in [(200, 4_400), (0, 4_000), (10_000, 9_000)] {
        let payload = json!({"format": "wav", "trim": {"silence": {"keep_ms": keep_ms, "threshold_db": -60.0}}});
        let made = studio.extract_with(&framed, payload).unwrap();
        assert!(made.duration_ms.abs_diff(length) <= 2, "{keep_ms}: {}", made.duration_ms);
        let part = samples(&made.path, "");
        assert!(whole.windows(part.len()).any(|window| window == part), "{keep_ms}");
    }
    let payload = json!({"format": "mp3", "trim": {"start_ms": 1_000, "end_ms": 8_000, "silence": {"keep_ms": 500}}});
    let made = studio.extract_with(&framed, payload).unwrap();
    assert!(made.duration_ms.abs_diff(5_000) <= 60, "{}", made.duration_ms);
}

#[test]
fn a_recording_that_is_silent_all_over_stays_whole() {
    let studio = Studio::new();
    let silence = studio.record("silence.wav", "-f lavfi -i anullsrc -t 5");
    let made = studio.extract_with(&silence, json!({"format": "flac", "trim": {"silence": {}}})).unwrap();
    assert_eq!((made.duration_ms, notes(&made)), (5_000, vec!["all_silent"]));
}
