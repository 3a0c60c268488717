//! `fourmi extract`: a recording goes up, its sound comes down.

use std::path::{Path, PathBuf};

use clap::Args;
use fourmi_client::Client;
use fourmi_kinds::{AudioExtract, AudioExtracted, AudioFormat, JobKind, Source, Trim};
use fourmi_model::{BlobId, Job, State};
use serde_json::json;

use crate::{
    commands::files::{self, Place},
    exit::{Exit, Stop},
    follow::{self, Telling},
    print,
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  fourmi extract talk.mp4                                    the sound as talk.m4a
  fourmi extract talk.mp4 --format opus --bitrate 48 --channels 1
  fourmi extract talk.mp4 --start 1:30 --end 2:00 -o intro.m4a
  fourmi extract talk.mkv --format copy                      as it is, without encoding

Ctrl-C while the file goes up stops everything. Later it leaves the job running, and says how to
follow or to cancel it; `fourmi fetch` saves what it makes.";

/// What to extract.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExtractArguments {
    /// Recording: any file that FFmpeg reads
    file: PathBuf,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Place,
}

/// The form of the file to make.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Form {
    /// Format: m4a, mp3, opus, flac, wav, or copy for the recording's own encoding
    #[arg(long, value_name = "FORMAT", value_parser = format, default_value = "m4a", hide_default_value = false)]
    format: AudioFormat,
    /// Kilobits a second [default: 64 for one channel, 128 for two]
    #[arg(long, value_name = "KBPS")]
    bitrate: Option<u32>,
    /// Channels: 1 or 2 [default: as the recording]
    #[arg(long, value_name = "N")]
    channels: Option<u8>,
    /// Samples a second, such as 48000 [default: as the recording]
    #[arg(long, value_name = "HZ")]
    sample_rate: Option<u32>,
    /// Where to start, such as 90, 1:30 or 1:02:03.5
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    start: Option<u64>,
    /// Where to end
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    end: Option<u64>,
}

fn format(text: &str) -> Result<AudioFormat, String> {
    AudioFormat::ALL.into_iter().find(|format| format.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = AudioFormat::ALL.iter().map(|format| format.as_str()).collect();
        format!("the formats are {}", known.join(", "))
    })
}

/// Seconds, minutes and seconds, or hours, minutes and seconds, with a fraction if need be.
fn time_ms(text: &str) -> Result<u64, String> {
    let wrong = || "a time is written 90, 1:30 or 1:02:03.5".to_owned();
    let parts: Vec<&str> = text.split(':').collect();
    let (seconds, larger) = parts.split_last().ok_or_else(wrong)?;
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    if larger.len() > 2 || !larger.iter().all(digits) || !seconds.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(wrong());
    }
    let seconds: f64 = seconds.parse().map_err(|_| wrong())?;
    if !larger.is_empty() && seconds >= 60.0 || seconds > 1e9 {
        return Err(wrong());
    }
    let minutes = larger.iter().try_fold(0_u64, |total, part| total.checked_mul(60)?.checked_add(part.parse().ok()?));
    let minutes_ms = minutes.and_then(|minutes| minutes.checked_mul(60_000)).ok_or_else(wrong)?;
    minutes_ms.checked_add((seconds * 1000.0).round() as u64).ok_or_else(wrong)
}

impl Form {
    /// A format, everything else as it comes.
    pub(crate) fn of(format: AudioFormat) -> Self {
        Self { format, ..Self::default() }
    }

    fn payload(&self, source: BlobId) -> AudioExtract {
        let trim = (self.start.is_some() || self.end.is_some()).then(|| Trim {
            start_ms: self.start.unwrap_or(0),
            end_ms: self.end,
            ..Trim::default()
        });
        AudioExtract {
            format: self.format,
            bitrate_kbps: self.bitrate,
            channels: self.channels,
            sample_rate: self.sample_rate,
            trim,
            ..AudioExtract::of(Source::Upload(source))
        }
    }

    /// Finds what the kind would refuse before a large file goes up.
    fn check(&self) -> anyhow::Result<()> {
        self.payload(BlobId::random()).validate().map_err(|mistake| {
            let option = match mistake.path.as_str() {
                "bitrate_kbps" => "--bitrate",
                "trim.end_ms" => return Stop::usage("--end must be later than --start"),
                "channels" => "--channels",
                "sample_rate" => "--sample-rate",
                other => other,
            };
            Stop::usage(format!("{option} {}", mistake.message))
        })
    }
}

pub(crate) async fn run(session: &Session, arguments: ExtractArguments) -> anyhow::Result<Exit> {
    arguments.form.check()?;
    if arguments.form.format != AudioFormat::Copy {
        // The worker names the file alike; a clash is better found now than after the work.
        let name = arguments.file.with_extension(arguments.form.format.as_str());
        arguments.place.check(&arguments.place.path(&name.to_string_lossy()))?;
    } else if let Some(path) = &arguments.place.output {
        arguments.place.check(&arguments.place.path(&path.to_string_lossy()))?;
    }
    let client = session.client()?;
    match extract(session, &client, &arguments.file, &arguments.form, &arguments.place).await? {
        Extraction::Saved(saved) => {
            print_saved(session, &saved)?;
            Ok(Exit::Done)
        }
        Extraction::NotSucceeded(job) => {
            if session.json() {
                print::json(&json!({"job": job}))?;
            }
            Ok(follow::tell_end(&job))
        }
    }
}

/// How an extraction ended.
pub(crate) enum Extraction {
    Saved(Saved),
    NotSucceeded(Job),
}

/// A file that came out of a recording.
pub(crate) struct Saved {
    pub(crate) path: PathBuf,
    pub(crate) job: Job,
    pub(crate) result: AudioExtracted,
}

/// Sends a recording, follows the job and saves its file.
pub(crate) async fn extract(
    session: &Session,
    client: &Client,
    file: &Path,
    form: &Form,
    place: &Place,
) -> anyhow::Result<Extraction> {
    let stored = files::send(session, client, file, None).await?;
    let handle = client.submit(&form.payload(stored.id)).send().await?;
    let job = follow::follow(session, client, handle.id(), &session.progress(), Telling::Progress).await?;
    if job.state != State::Succeeded {
        return Ok(Extraction::NotSucceeded(job));
    }
    let files = files::files_of(&job)?;
    let path = files::save(session, client, &files[0], place).await?;
    let result = serde_json::from_value(job.result.clone().unwrap_or_default())?;
    Ok(Extraction::Saved(Saved { path, job, result }))
}

fn print_saved(session: &Session, saved: &Saved) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({"path": saved.path, "job": saved.job}));
    }
    for note in &saved.result.notes {
        session.note(&format!("Note: {}", print::one_line(&note.message)));
    }
    session.note(&describe(&saved.result));
    print::line(&saved.path.display().to_string())
}

/// What came out, in one line.
pub(crate) fn describe(result: &AudioExtracted) -> String {
    let codec = &result.codec;
    let length = print::clock(std::time::Duration::from_millis(result.duration_ms));
    let bytes = result.files.first().map_or(0, |file| file.bytes);
    let channels = match codec.channels {
        1 => "mono".to_owned(),
        2 => "stereo".to_owned(),
        n => format!("{n} channels"),
    };
    let copied = if codec.copied { ", not encoded again" } else { "" };
    let chapters = match result.chapters.len() {
        0 => String::new(),
        1 => ", 1 chapter".to_owned(),
        n => format!(", {n} chapters"),
    };
    let (name, rate, kbps) = (&codec.name, codec.sample_rate, codec.bit_rate / 1000);
    format!("{length} of {name}, {kbps} kbit/s, {rate} Hz {channels}{copied}{chapters}, {}", print::bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, ms) in [("0", 0), ("90", 90_000), ("1:30", 90_000), ("1:02:03.5", 3_723_500), ("0.25", 250)] {
            assert_eq!(time_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "-1", "1:", ":30", "1:60", "1:2:3:4", "abc", "1:-5", "inf", "1e3x", "99999999999999999:00:00"]
        {
            assert!(time_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named_by_their_option() {
        let form = Form { format: AudioFormat::Flac, bitrate: Some(64), ..Form::default() };
        assert!(form.check().unwrap_err().to_string().starts_with("--bitrate "));
        let form = Form { start: Some(5), end: Some(5), ..Form::default() };
        assert_eq!(form.check().unwrap_err().to_string(), "--end must be later than --start");
    }
}
