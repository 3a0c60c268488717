//! Waveforms, computed again from what the `ffmpeg` program decodes.

use std::path::Path;

use fourmi_kinds::{Points, Waveform};
use fourmi_media::audio;
use serde_json::{Value, json};

use crate::studio::{MONO, Notebook, STEREO, Studio, samples};

/// What audiowaveform computes: of every pixel the lowest and the highest sample, channels mixed.
fn expected(file: &Path, channels: usize, per_pixel: usize, bits: u8) -> Vec<i16> {
    let mixed: Vec<i16> = samples(file, "")
        .chunks_exact(channels)
        .map(|frame| (frame.iter().map(|&sample| i32::from(sample)).sum::<i32>() / channels as i32) as i16)
        .collect();
    let pixel = |pixel: &[i16]| [*pixel.iter().min().unwrap(), *pixel.iter().max().unwrap()];
    let values = mixed.chunks(per_pixel).flat_map(pixel);
    values.map(|value| if bits == 8 { value / 256 } else { value }).collect()
}

fn read_json(path: &Path) -> (Value, Vec<i16>) {
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let data: Vec<i16> = json["data"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap() as i16).collect();
    assert_eq!(json["length"].as_u64().unwrap() as usize * 2, data.len());
    assert_eq!((json["version"].as_u64(), json["channels"].as_u64()), (Some(2), Some(1)));
    (json, data)
}

fn read_binary(path: &Path) -> ([i32; 6], Vec<i16>) {
    let bytes = std::fs::read(path).unwrap();
    let header: Vec<i32> = bytes[..24].chunks(4).map(|n| i32::from_le_bytes(n.try_into().unwrap())).collect();
    let data: Vec<i16> = if header[1] == 1 {
        bytes[24..].iter().map(|&byte| i16::from(byte as i8)).collect()
    } else {
        bytes[24..].chunks(2).map(|n| i16::from_le_bytes(n.try_into().unwrap())).collect()
    };
    assert_eq!(header[4] as usize * 2, data.len());
    (header.try_into().unwrap(), data)
}

#[test]
fn a_lossless_waveform_is_exact() {
    let studio = Studio::new();
    for (sound, codec, channels, rate) in
        [(STEREO, "pcm_s16le", 2, 48_000), (MONO, "pcm_s16le", 1, 44_100), (STEREO, "pcm_s24le", 2, 48_000)]
    {
        let recording = studio.record("recording.wav", &format!("{sound} -c:a {codec}"));
        for (format, bits, per_second) in [("flac", 8, 20), ("wav", 16, 7), ("flac", 16, 1_000)] {
            let waveform = json!({"json": {"bits": bits, "per_second": per_second}});
            let payload = json!({"format": format, "waveform": waveform, "normalize": null, "sample_rate": rate});
            let made = studio.extract_with(&recording, payload).unwrap();
            let (json, data) = read_json(made.waveform.as_deref().unwrap_or(&studio.output().join("none")));
            let per_pixel = (f64::from(rate) / f64::from(per_second)).round();
            assert_eq!(
                (json["sample_rate"].as_f64(), json["samples_per_pixel"].as_f64()),
                (Some(f64::from(rate)), Some(per_pixel))
            );
            assert_eq!(json["bits"], bits);
            assert!(data == expected(&made.path, channels, per_pixel as usize, bits), "{codec} {format} {bits}");

            // A file that is there already gives the same.
            let form = Waveform::Binary(Points { per_second, bits });
            let output = studio.path("waveform.dat");
            audio::waveform(&made.path, form, &output, &Notebook::default()).unwrap();
            let (header, again) = read_binary(&output);
            assert_eq!(header, [2, i32::from(bits == 8), rate, per_pixel as i32, data.len() as i32 / 2, 1]);
            assert!(again == data, "{codec} {format} {bits}");
        }
    }
}

#[test]
fn a_lossy_waveform_is_near() {
    let studio = Studio::new();
    let recording = studio.record("recording.wav", STEREO);
    for format in ["opus", "mp3", "m4a", "ogg"] {
        let payload = json!({"format": format, "waveform": {"binary": {}}});
        let made = studio.extract_with(&recording, payload).unwrap();
        assert_eq!(made.waveform, Some(studio.output().join("waveform.dat")));
        let (header, data) = read_binary(made.waveform.as_deref().unwrap());
        let heard = expected(&made.path, 2, header[3] as usize, 8);
        assert!(data.len().abs_diff(heard.len()) <= 4, "{format}");
        let off = data.iter().zip(&heard).filter(|(one, other)| one.abs_diff(**other) > 12).count();
        assert!(off <= 6, "{format}: {off}");
    }
}

#[test]
fn copied_sound_has_its_waveform_drawn_afterwards() {
    let studio = Studio::new();
    let recording = studio.record("recording.m4a", &format!("{STEREO} -c:a aac"));
    let made = studio.extract_with(&recording, json!({"format": "copy", "waveform": {"json": {}}})).unwrap();
    assert!(made.codec.copied && made.waveform.is_none());
    let notebook = Notebook::default();
    let output = studio.output().join("waveform.json");
    audio::waveform(&made.path, Waveform::Json(Points { per_second: 20, bits: 16 }), &output, &notebook).unwrap();
    let (json, data) = read_json(&output);
    assert!(data == expected(&made.path, 2, 2_400, 16));
    assert!((200..=201).contains(&json["length"].as_u64().unwrap()), "an encoder fills its last frame");
    let told = notebook.0.into_inner().unwrap();
    assert!(told.iter().all(|progress| progress.stage == "waveform") && told.last().unwrap().percent == 100.0);
}

#[test]
fn what_is_no_audio_file_has_no_waveform() {
    let studio = Studio::new();
    let noise = studio.file("noise", b"nothing to hear");
    let output = studio.output().join("waveform.json");
    let failure = audio::waveform(&noise, Waveform::default(), &output, &Notebook::default()).unwrap_err();
    assert_eq!(failure.code, "not_media");
    assert_eq!(std::fs::read_dir(studio.output()).unwrap().count(), 0);
}
