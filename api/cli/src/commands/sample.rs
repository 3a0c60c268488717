//! A video made on the spot, for the demonstration.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::exit::Stop;

const SECONDS: u32 = 60;

/// Its tags and chapters, in FFmpeg's own format.
const METADATA: &str = "\
;FFMETADATA1
title=A walk of the ants
artist=Fourmi
date=2026
[CHAPTER]
TIMEBASE=1/1
START=0
END=20
title=Leaving the nest
[CHAPTER]
TIMEBASE=1/1
START=20
END=40
title=Along the trail
[CHAPTER]
TIMEBASE=1/1
START=40
END=60
title=Home again
";

/// A hum with the rhythm of speech on the left, a swelling one on the right.
const SOUND: &str = "sine=f=180:b=3:r=48000,tremolo=f=2.2:d=0.9[left];sine=f=220:b=2:r=48000,tremolo=f=0.5[right];\
    [left][right]join=inputs=2:channel_layout=stereo";

/// Makes the video in `folder` with the `ffmpeg` program, and gives its path.
pub(crate) async fn make(folder: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let metadata = folder.join("sample.ffmetadata");
    std::fs::write(&metadata, METADATA)?;
    let video = folder.join("sample.mp4");
    let seconds = SECONDS.to_string();
    let picture = "testsrc2=size=480x270:rate=5";
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"])
        .args(["-f", "lavfi", "-t", &seconds, "-i", picture])
        .args(["-f", "lavfi", "-t", &seconds, "-i", SOUND])
        .arg("-i")
        .arg(&metadata)
        .args(["-map", "0:v", "-map", "1:a", "-map_metadata", "2", "-map_chapters", "2"])
        .args(["-c:v", "mpeg4", "-q:v", "6", "-c:a", "aac", "-b:a", "128k"])
        .arg(&video)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let failed = |reason: String| Stop::failed("no_sample", format!("the sample video could not be made: {reason}"));
    match made {
        Ok(output) if output.status.success() => Ok(video),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(error) => Err(failed(format!("the ffmpeg program: {error}"))),
    }
}
