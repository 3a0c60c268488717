//! `fourmi live`: a stream is recorded until it ends, or until it is stopped here.

use std::time::Duration;

use clap::Args;
use fourmi_kinds::{AudioFormat, AudioLive, AudioRecorded, JobKind, LiveEnd, TagOptions};
use fourmi_model::State;
use serde_json::json;

use crate::{
    arguments::lasting,
    commands::{
        extract::{self, Saving},
        files::{self, Place},
    },
    exit::{Exit, Stop},
    follow, print,
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  fourmi live https://example.org/live/playlist.m3u8
  fourmi live https://example.org/live/playlist.m3u8 --for 90m --format mp3 -o session.mp3

Ctrl-C stops the recording, not just the watching: what was recorded is kept, finished and saved.
A second one leaves the job to itself, and says how to follow it.";

/// What to record.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LiveArguments {
    /// Address of the stream's playlist (.m3u8)
    #[arg(value_name = "URL")]
    stream: String,
    /// Format of the file in the end, or copy for the stream's own encoding
    #[arg(long, value_name = "FORMAT", value_parser = extract::format, default_value = "copy")]
    format: AudioFormat,
    /// Kilobits a second, if it is encoded anew
    #[arg(long, value_name = "KBPS")]
    bitrate: Option<u32>,
    /// Stop after so much sound, such as 90m [default: when the stream ends]
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    lasting: Option<Duration>,
    /// How long the stream may be away before the recording ends
    #[arg(long, value_name = "TIME", value_parser = lasting, default_value = "5m")]
    patience: Duration,
    /// Tag to set; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = extract::tag)]
    tag: Vec<(String, String)>,
    #[command(flatten)]
    place: Place,
}

impl LiveArguments {
    fn payload(&self) -> AudioLive {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        AudioLive {
            url: self.stream.clone(),
            format: self.format,
            bitrate_kbps: self.bitrate,
            max_duration_ms: self.lasting.map(ms),
            stop_at: None,
            patience_ms: ms(self.patience),
            tags: TagOptions { set: self.tag.iter().cloned().collect(), ..TagOptions::default() },
        }
    }
}

pub(crate) async fn run(session: &Session, arguments: LiveArguments) -> anyhow::Result<Exit> {
    let payload = arguments.payload();
    payload.validate().map_err(|mistake| Stop::usage(extract::by_option(&mistake)))?;
    if let Some(output) = arguments.place.output.as_ref().filter(|output| !output.is_dir()) {
        arguments.place.check(output)?;
    }
    let client = session.client()?;
    let handle = client.submit(&payload).send().await?;
    session.note("Recording; Ctrl-C stops it and saves what there is.");
    let job = follow::follow_or_stop(session, &client, handle.id(), &session.progress()).await?;
    if job.state != State::Succeeded {
        if session.json() {
            print::json(&json!({"job": job}))?;
        }
        return Ok(follow::tell_end(&job));
    }
    let saving = Saving { place: &arguments.place, all: false };
    let (saved, paths) = extract::save(session, &client, &job, saving).await?;
    if session.json() {
        let files = files::documents(&saved, &paths);
        print::json(&json!({"path": paths.first(), "files": files, "job": job}))?;
        return Ok(Exit::Done);
    }
    session.note(&describe(&serde_json::from_value(job.result.unwrap_or_default())?));
    paths.iter().try_for_each(|path| print::line(&path.display().to_string()))?;
    Ok(Exit::Done)
}

/// What was recorded, in one line.
fn describe(recorded: &AudioRecorded) -> String {
    let length = print::clock(Duration::from_millis(recorded.duration_ms));
    let ended = match recorded.ended {
        LiveEnd::Finished => "until the stream ended",
        LiveEnd::Stopped => "until it was stopped",
        LiveEnd::Limit => "until its time was over",
        LiveEnd::Lost => "until the stream was lost",
    };
    let gaps = match recorded.gaps.len() {
        0 => String::new(),
        1 => ", with 1 gap".to_owned(),
        n => format!(", with {n} gaps"),
    };
    format!("{length} of {}, {ended}{gaps}", extract::describe_codec(&recorded.codec))
}
