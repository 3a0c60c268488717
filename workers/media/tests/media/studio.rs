//! Makes recordings, extracts their sound, and looks at what came out with other eyes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use fourmi_kinds::{AudioExtract, MediaInfo};
use fourmi_media::{
    Control,
    audio::{self, Extraction, Extras},
    probe,
};
use fourmi_model::{Failure, Progress};
use serde_json::{Value, json};

/// The arguments of a picture of ten seconds, and of sounds.
pub(crate) const PICTURE: &str = "-f lavfi -i testsrc=size=160x120:rate=10:duration=10";
/// It never repeats, so that no part of it can be taken for another.
pub(crate) const STEREO: &str =
    "-f lavfi -i aevalsrc=0.4*sin(440*2*PI*t)+0.2*sin(900*t*t)|0.4*sin(660*2*PI*t):s=48000:d=10";
pub(crate) const MONO: &str = "-f lavfi -i sine=frequency=440:sample_rate=44100:duration=10";

/// Takes note of all progress, and is never cancelled.
#[derive(Default)]
pub(crate) struct Notebook(pub(crate) Mutex<Vec<Progress>>);

impl Control for Notebook {
    fn progress(&self, progress: Progress) {
        self.0.lock().unwrap().push(progress);
    }

    fn cancelled(&self) -> bool {
        false
    }
}

/// A folder for recordings and one for what is made of them, both removed in the end.
pub(crate) struct Studio {
    folder: tempfile::TempDir,
    output: tempfile::TempDir,
}

impl Studio {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), output: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn output(&self) -> &Path {
        self.output.path()
    }

    /// Runs the `ffmpeg` program with words that are separated by spaces, and the path of `name` as the last.
    pub(crate) fn record(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.path(name);
        let run = Command::new("ffmpeg")
            .current_dir(self.folder.path())
            .args(["-v", "error", "-nostdin", "-y"])
            .args(arguments.split_whitespace())
            .arg(&path)
            .output()
            .unwrap();
        assert!(run.status.success(), "ffmpeg {arguments}: {}", String::from_utf8_lossy(&run.stderr));
        path
    }

    /// Ten seconds of picture and stereo sound with tags and three chapters; `codecs` as `ffmpeg` wants it.
    pub(crate) fn film(&self, name: &str, codecs: &str) -> PathBuf {
        let labels = ";FFMETADATA1\ntitle=Séance du soir\nartist=Assemblée\nalbum=Débats\ndate=2024\ngenre=Speech\n\
            comment=A comment; with = signs\n\
            [CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=2500\ntitle=Opening\n\
            [CHAPTER]\nTIMEBASE=1/1000\nSTART=2500\nEND=7000\ntitle=Débat\n\
            [CHAPTER]\nTIMEBASE=1/1000\nSTART=7000\nEND=10000\ntitle=Vote\n";
        fs::write(
            self.path("labels.txt"),
            labels.replace("comment=A comment; with = signs", "comment=A comment\\; with \\= signs"),
        )
        .unwrap();
        self.record(
            name,
            &format!(
                "{PICTURE} {STEREO} -i labels.txt -map 0:v -map 1:a -map_metadata 2 -map_chapters 2 -c:v mpeg4 {codecs}"
            ),
        )
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Extracts to a format.
    pub(crate) fn extract(&self, input: &Path, format: &str) -> Result<Extraction, Failure> {
        self.extract_with(input, json!({ "format": format }))
    }

    /// Extracts as a payload says, without its source. What is promised of every run is checked.
    pub(crate) fn extract_with(&self, input: &Path, payload: Value) -> Result<Extraction, Failure> {
        let notebook = Notebook::default();
        let result = audio::extract(input, self.output(), &request(payload), &Extras::default(), None, &notebook);
        assert!(!self.has_leftovers(), "a temporary file was left behind");
        let progress = notebook.0.into_inner().unwrap();
        let goes_on = |one: &Progress, next: &Progress| one.stage != next.stage || one.percent <= next.percent;
        assert!(progress.is_sorted_by(goes_on), "progress went back");
        match &result {
            Ok(made) => {
                assert_eq!(progress.last().unwrap().percent, 100.0);
                assert_eq!(fs::metadata(&made.path).unwrap().len(), made.bytes);
            }
            Err(failure) => {
                let is_done = |progress: &&Progress| progress.stage == "transcode" && progress.percent == 100.0;
                assert!(progress.iter().find(is_done).is_none());
                assert!(!failure.message.is_empty());
            }
        }
        result
    }

    /// The code with which extracting fails.
    pub(crate) fn refusal(&self, input: &Path, format: &str) -> String {
        match self.extract(input, format) {
            Ok(made) => panic!("{} was taken: {made:?}", input.display()),
            Err(failure) => failure.code,
        }
    }

    fn has_leftovers(&self) -> bool {
        let mut names = fs::read_dir(self.output()).unwrap().map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with('.'))
    }
}

/// The payload of a job whose source does not matter. Unless it says otherwise, the sound stays as loud as it is.
pub(crate) fn request(mut payload: Value) -> AudioExtract {
    payload["source"] = json!({"upload": "file-6f9619ff8b86d011b42d00c04fc964ff"});
    for (name, value) in [("normalize", json!("off")), ("waveform", json!("off"))] {
        payload.as_object_mut().unwrap().entry(name).or_insert(value);
    }
    serde_json::from_value(payload).unwrap()
}

/// What our own probe says.
pub(crate) fn probe(path: &Path) -> Result<MediaInfo, Failure> {
    probe::probe(path, &Notebook::default())
}

/// What the `ffprobe` program says.
pub(crate) fn ffprobe(path: &Path) -> Value {
    let run = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_format", "-show_streams", "-show_chapters"])
        .arg(path)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

/// The length of a file in seconds, as the `ffprobe` program says.
pub(crate) fn seconds(path: &Path) -> f64 {
    ffprobe(path)["format"]["duration"].as_str().unwrap().parse().unwrap()
}

/// The first sound of a file, as the `ffmpeg` program decodes it: 16 bits, all channels one after the other.
pub(crate) fn samples(path: &Path, extra: &str) -> Vec<i16> {
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:a:0"])
        .args(extra.split_whitespace())
        .args(["-f", "s16le", "-"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    run.stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// The size and hash of every packet of the first sound of a file.
pub(crate) fn packets(path: &Path) -> Vec<(String, String)> {
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-c", "copy", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<_> = line.split(',').map(str::trim).collect();
            (fields[4].to_owned(), fields[5].to_owned())
        })
        .collect()
}

/// The codes of the notes.
pub(crate) fn notes(made: &Extraction) -> Vec<&str> {
    made.notes.iter().map(|note| note.code.as_str()).collect()
}
