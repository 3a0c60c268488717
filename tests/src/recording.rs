//! Recordings, made on the spot by the `ffmpeg` program.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// How to make a recording.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Its length in seconds.
    pub seconds: u32,
    /// Whether it has a picture, and of which size.
    pub picture: Option<&'static str>,
    /// Whether it has sound.
    pub sound: bool,
    /// Whether it has two chapters and tags.
    pub chapters: bool,
}

impl Default for Recording {
    fn default() -> Self {
        Self { seconds: 6, picture: Some("320x180"), sound: true, chapters: true }
    }
}

impl Recording {
    /// Makes it as `folder/name`; the ending says which container.
    pub fn make(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        let labels = folder.join("labels.txt");
        let half = self.seconds * 500;
        let chapter = |start: u32, end: u32, title: &str| {
            format!("[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={end}\ntitle={title}\n")
        };
        let text = format!(
            ";FFMETADATA1\ntitle=Séance publique\nartist=Assemblée\n{}{}",
            chapter(0, half, "Ouverture"),
            chapter(half, 2 * half, "Débat")
        );
        std::fs::write(&labels, text).unwrap();

        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-y", "-nostdin"]);
        let length = self.seconds.to_string();
        if self.sound {
            let voice = "aevalsrc='0.4*sin(2*PI*(220+60*sin(2*PI*3*t))*t)*(0.6+0.4*sin(2*PI*0.7*t))|0.3*sin(2*PI*330*t)':s=44100";
            command.args(["-f", "lavfi", "-t", &length, "-i", voice]);
        }
        if let Some(size) = self.picture {
            command.args(["-f", "lavfi", "-t", &length, "-i", &format!("testsrc2=size={size}:rate=25")]);
        }
        if self.chapters {
            let input = u32::from(self.sound) + u32::from(self.picture.is_some());
            command.arg("-i").arg(&labels).args(["-map_metadata", &input.to_string()]);
        }
        if self.picture.is_some() {
            command.args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]);
        }
        let status = command.arg(&path).stdin(Stdio::null()).status().expect("ffmpeg is installed by scripts/setup");
        assert!(status.success(), "ffmpeg made no {name}");
        path
    }
}

/// Makes a recording whose encoding takes some seconds: minutes of plain sound.
pub fn long_recording(folder: &Path, minutes: u32) -> PathBuf {
    let path = folder.join("long.wav");
    let sound = format!("sine=frequency=330:sample_rate=16000:duration={}", minutes * 60);
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-nostdin", "-f", "lavfi", "-i", &sound]).arg(&path);
    assert!(command.stdin(Stdio::null()).status().unwrap().success());
    path
}
