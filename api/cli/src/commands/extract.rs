//! `fourmi extract`: a recording goes up or is fetched, its sound comes down.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use fourmi_client::Client;
use fourmi_kinds::{
    AudioCodec, AudioExtract, AudioExtracted, AudioFormat, ChapterOptions, EbuR128, Hls, InvalidPayload, JobKind,
    Normalize, PictureSizes, Points, SilenceTrim, Source, TagOptions, Thumbnails, Trim, Waveform,
};
use fourmi_model::{Artifact, BlobId, Job, State};
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
  fourmi extract https://example.org/debate --all            and chapters, cover, waveform
  fourmi extract talk.mp4 --format opus --bitrate 48 --channels 1
  fourmi extract talk.mp4 --start 1:30 --end 2:00 -o intro.m4a
  fourmi extract talk.mp4 --normalize -23 --tag title='A talk' --tag comment=
  fourmi extract talk.mkv --format copy                      as it is, without encoding

Ctrl-C while the file goes up stops everything. Later it leaves the job running, and says how to
follow or to cancel it; `fourmi fetch` saves what it makes.";

/// What to extract.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExtractArguments {
    /// Recording: any file that FFmpeg reads, or an address (http:// or https://) of one or of a page that shows one
    #[arg(value_name = "FILE|URL", value_parser = OsStringValueParser::new().map(Recording::of))]
    recording: Recording,
    #[command(flatten)]
    form: Form,
    /// Save everything that the job makes, not just the sound
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: Place,
}

/// Where a recording is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recording {
    File(PathBuf),
    Url(String),
}

impl Recording {
    fn of(text: OsString) -> Self {
        let begins =
            |text: &str, scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        match text.to_str() {
            Some(url) if begins(url, "http://") || begins(url, "https://") => Self::Url(url.to_owned()),
            _ => Self::File(text.into()),
        }
    }
}

/// The form of the file to make.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Form {
    /// Format: m4a, mp3, opus, ogg, flac, wav, or copy for the recording's own encoding
    #[arg(long, value_name = "FORMAT", value_parser = format, default_value = "m4a", hide_default_value = false)]
    format: AudioFormat,
    /// Kilobits a second [default: 64 for one channel, 128 for two]
    #[arg(long, value_name = "KBPS")]
    bitrate: Option<u32>,
    /// Instead of a bit rate, for mp3 and ogg: from 0 (best) to 9 (smallest)
    #[arg(long, value_name = "N")]
    quality: Option<u8>,
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
    /// Leave out silence at the start and the end
    #[arg(long)]
    trim_silence: bool,
    /// How loud, in LUFS, such as -23, or off [default: -16; off for copy]
    #[arg(long, value_name = "LUFS|off", value_parser = normalize, allow_hyphen_values = true)]
    normalize: Option<Normalize>,
    /// Also make a file of each chapter
    #[arg(long)]
    split_chapters: bool,
    /// Shape of the sound, to be drawn: off, json or binary [default: json]
    #[arg(long, value_name = "FORM", value_parser = waveform)]
    waveform: Option<Waveform>,
    /// Pictures beside the sound: off, jpg or webp [default: jpg]
    #[arg(long, value_name = "FORM", value_parser = thumbnails)]
    thumbnails: Option<Thumbnails>,
    /// Also make an HLS stream
    #[arg(long)]
    hls: bool,
    /// The largest source to fetch, such as 500MiB
    #[arg(long, value_name = "BYTES", value_parser = size)]
    max_bytes: Option<u64>,
    /// Name of the operator's secret that holds cookies for the source
    #[arg(long, value_name = "NAME")]
    cookies: Option<String>,
    /// Tag to set; without a value, to take away; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    tag: Vec<(String, String)>,
    /// Fetch and make everything anew, even if an equal request did
    #[arg(long)]
    no_reuse: bool,
}

pub(crate) fn format(text: &str) -> Result<AudioFormat, String> {
    AudioFormat::ALL.into_iter().find(|format| format.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = AudioFormat::ALL.iter().map(|format| format.as_str()).collect();
        format!("the formats are {}", known.join(", "))
    })
}

fn normalize(text: &str) -> Result<Normalize, String> {
    match text {
        "off" => Ok(Normalize::Off),
        lufs => lufs
            .parse()
            .map(|integrated_lufs| Normalize::EbuR128(EbuR128 { integrated_lufs, ..EbuR128::default() }))
            .map_err(|_| "a loudness is written -23, or off".to_owned()),
    }
}

fn waveform(text: &str) -> Result<Waveform, String> {
    match text {
        "off" => Ok(Waveform::Off),
        "json" => Ok(Waveform::Json(Points::default())),
        "binary" => Ok(Waveform::Binary(Points::default())),
        _ => Err("the forms are off, json, binary".to_owned()),
    }
}

fn thumbnails(text: &str) -> Result<Thumbnails, String> {
    match text {
        "off" => Ok(Thumbnails::Off),
        "jpg" => Ok(Thumbnails::Jpg(PictureSizes::default())),
        "webp" => Ok(Thumbnails::Webp(PictureSizes::default())),
        _ => Err("the forms are off, jpg, webp".to_owned()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    fourmi_settings::bytes(text).ok_or_else(|| "a size is written 1000000, 64KiB, 500MiB or 2GiB".to_owned())
}

pub(crate) fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a tag is written name=value")?;
    Ok((name.to_owned(), value.to_owned()))
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

    fn payload(&self, source: Source) -> AudioExtract {
        let trim = (self.start.is_some() || self.end.is_some() || self.trim_silence).then(|| Trim {
            start_ms: self.start.unwrap_or(0),
            end_ms: self.end,
            silence: self.trim_silence.then(SilenceTrim::default),
            ..Trim::default()
        });
        AudioExtract {
            format: self.format,
            bitrate_kbps: self.bitrate,
            quality: self.quality,
            channels: self.channels,
            sample_rate: self.sample_rate,
            trim,
            normalize: self.normalize,
            chapters: ChapterOptions { split: self.split_chapters, ..ChapterOptions::default() },
            tags: TagOptions { set: self.tag.iter().cloned().collect(), ..TagOptions::default() },
            thumbnails: self.thumbnails.unwrap_or_default(),
            waveform: self.waveform.unwrap_or_default(),
            hls: self.hls.then(Hls::default),
            max_bytes: self.max_bytes,
            cookies_ref: self.cookies.clone(),
            reuse: !self.no_reuse,
            ..AudioExtract::of(source)
        }
    }

    /// Finds what the kind would refuse before a large file goes up.
    fn check(&self, recording: &Recording) -> anyhow::Result<()> {
        let source = match recording {
            Recording::File(_) => Source::Upload(BlobId::random()),
            Recording::Url(url) => Source::Url(url.clone()),
        };
        self.payload(source).validate().map_err(|mistake| Stop::usage(by_option(&mistake)))
    }
}

/// A mistake in a payload, as one in an option.
pub(crate) fn by_option(mistake: &InvalidPayload) -> String {
    let option = match mistake.path.as_str() {
        "trim.end_ms" => return "--end must be later than --start".to_owned(),
        "source.url" | "url" => "the address",
        "bitrate_kbps" => "--bitrate",
        "max_bytes" => "--max-bytes",
        "cookies_ref" => "--cookies",
        "max_duration_ms" => "--for",
        "patience_ms" => "--patience",
        "quality" => "--quality",
        "channels" => "--channels",
        "sample_rate" => "--sample-rate",
        path if path.starts_with("normalize") => "--normalize",
        path if path.starts_with("tags") => "--tag",
        other => other,
    };
    format!("{option} {}", mistake.message)
}

pub(crate) async fn run(session: &Session, arguments: ExtractArguments) -> anyhow::Result<Exit> {
    let ExtractArguments { recording, form, all, place } = arguments;
    form.check(&recording)?;
    check_place(&recording, &form, all, &place)?;
    let client = session.client()?;
    let saving = Saving { place: &place, all };
    match extract(session, &client, &recording, &form, saving).await? {
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

/// Finds what is in the way of the file to come, as far as its name is known: better now than after the work.
fn check_place(recording: &Recording, form: &Form, all: bool, place: &Place) -> anyhow::Result<()> {
    if all {
        place.check_folder()?;
    }
    let path = match (recording, &place.output) {
        // The worker names the file alike.
        (Recording::File(file), _) if form.format != AudioFormat::Copy => {
            place.path(&file.with_extension(form.format.as_str()).to_string_lossy())
        }
        (_, Some(output)) if !output.is_dir() => output.clone(),
        _ => return Ok(()),
    };
    place.check(&path)
}

/// How an extraction ended.
pub(crate) enum Extraction {
    Saved(Box<Saved>),
    NotSucceeded(Box<Job>),
}

/// What came out of a recording.
pub(crate) struct Saved {
    /// The sound first.
    pub(crate) files: Vec<Artifact>,
    /// Where they are, in the same order.
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) job: Job,
    pub(crate) result: AudioExtracted,
}

/// What is to be saved, and where.
#[derive(Clone, Copy)]
pub(crate) struct Saving<'a> {
    pub(crate) place: &'a Place,
    /// Not just the sound.
    pub(crate) all: bool,
}

/// Has a recording extracted, follows the job and saves what it makes.
pub(crate) async fn extract(
    session: &Session,
    client: &Client,
    recording: &Recording,
    form: &Form,
    saving: Saving<'_>,
) -> anyhow::Result<Extraction> {
    let source = match recording {
        Recording::File(file) => Source::Upload(files::send(session, client, file, None).await?.id),
        Recording::Url(url) => Source::Url(url.clone()),
    };
    let handle = client.submit(&form.payload(source)).send().await?;
    let job = follow::follow(session, client, handle.id(), &session.progress(), Telling::Progress).await?;
    if job.state != State::Succeeded {
        return Ok(Extraction::NotSucceeded(Box::new(job)));
    }
    let (files, paths) = save(session, client, &job, saving).await?;
    let result = serde_json::from_value(job.result.clone().unwrap_or_default())?;
    Ok(Extraction::Saved(Box::new(Saved { files, paths, job, result })))
}

/// Saves the sound that a job made, or all files of it with the sound first.
pub(crate) async fn save(
    session: &Session,
    client: &Client,
    job: &Job,
    Saving { place, all }: Saving<'_>,
) -> anyhow::Result<(Vec<Artifact>, Vec<PathBuf>)> {
    let mut files = files::files_of(job)?;
    files.sort_by_key(|file| file.role != "audio");
    if !all {
        files.truncate(1);
    }
    let saved = files::save(session, client, &files, place).await;
    if saved.is_err() {
        session.note(&format!("The job is done; `fourmi fetch {}` saves what it made.", job.id));
    }
    Ok((files, saved?))
}

fn print_saved(session: &Session, saved: &Saved) -> anyhow::Result<()> {
    if session.json() {
        let files = files::documents(&saved.files, &saved.paths);
        return print::json(&json!({"path": saved.paths.first(), "files": files, "job": saved.job}));
    }
    if saved.result.reused {
        session.note("An equal request made this earlier; --no-reuse makes it anew.");
    }
    for note in &saved.result.notes {
        session.note(&format!("Note: {}", print::one_line(&note.message)));
    }
    session.note(&describe(&saved.result));
    saved.paths.iter().try_for_each(|path| print::line(&path.display().to_string()))
}

/// What came out, in one line.
pub(crate) fn describe(result: &AudioExtracted) -> String {
    let length = print::clock(Duration::from_millis(result.duration_ms));
    let bytes = result.file("audio").map_or(0, |file| file.bytes);
    let chapters = match result.chapters.len() {
        0 => String::new(),
        1 => ", 1 chapter".to_owned(),
        n => format!(", {n} chapters"),
    };
    format!("{length} of {}{chapters}, {}", describe_codec(&result.codec), print::bytes(bytes))
}

/// How sound is encoded.
pub(crate) fn describe_codec(codec: &AudioCodec) -> String {
    let channels = match codec.channels {
        1 => "mono".to_owned(),
        2 => "stereo".to_owned(),
        n => format!("{n} channels"),
    };
    let copied = if codec.copied { ", not encoded again" } else { "" };
    let (name, rate, kbps) = (&codec.name, codec.sample_rate, codec.bit_rate / 1000);
    format!("{name}, {kbps} kbit/s, {rate} Hz {channels}{copied}")
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
    fn an_address_is_told_from_a_file() {
        for url in ["http://x", "https://example.org/a?b", "HTTPS://x"] {
            assert_eq!(Recording::of(url.into()), Recording::Url(url.to_owned()));
        }
        for file in ["talk.mp4", "http", "./http://x", "ftp://x", "é"] {
            assert_eq!(Recording::of(file.into()), Recording::File(file.into()));
        }
    }

    #[test]
    fn options_become_the_payload() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            arguments: ExtractArguments,
        }
        let line = "x https://example.org/a --format mp3 --quality 2 --normalize -23 --trim-silence --split-chapters \
            --waveform binary --thumbnails webp --hls --max-bytes 2MiB --tag title=A=B --tag comment= --no-reuse";
        let ExtractArguments { recording, form, .. } = Line::parse_from(line.split_whitespace()).arguments;
        form.check(&recording).unwrap();
        let payload = serde_json::to_value(form.payload(Source::Url("https://example.org/a".to_owned()))).unwrap();
        assert_eq!(payload["normalize"]["ebu_r128"]["integrated_lufs"], -23.0);
        assert_eq!(payload["tags"]["set"], json!({"title": "A=B", "comment": ""}));
        assert_eq!((&payload["max_bytes"], &payload["reuse"]), (&json!(2 << 20), &json!(false)));
        assert_eq!((&payload["quality"], &payload["chapters"]["split"]), (&json!(2), &json!(true)));
        for (field, word) in [("waveform", "binary"), ("thumbnails", "webp"), ("trim", "silence")] {
            assert!(payload[field].get(word).is_some(), "{payload}");
        }
        assert!(payload["hls"].is_object());
        // What is not said is not sent: the kind's own defaults hold.
        let plain = serde_json::to_value(Form::default().payload(Source::Url("x".to_owned()))).unwrap();
        assert_eq!(plain, json!({"source": {"url": "x"}}));
    }

    #[test]
    fn mistakes_are_named_by_their_option() {
        let file = Recording::of("talk.mp4".into());
        let mistake = |form: Form| form.check(&file).unwrap_err().to_string();
        let form = Form { format: AudioFormat::Flac, bitrate: Some(64), ..Form::default() };
        assert!(mistake(form).starts_with("--bitrate "));
        let form = Form { start: Some(5), end: Some(5), ..Form::default() };
        assert_eq!(mistake(form), "--end must be later than --start");
        assert!(mistake(Form { tag: vec![tag("Ä=x").unwrap()], ..Form::default() }).starts_with("--tag "));
        assert!(mistake(Form { normalize: normalize("3").ok(), ..Form::default() }).starts_with("--normalize "));
        let address = Recording::of("https://user:pw@example.org/".into());
        let mistake = Form::default().check(&address).unwrap_err().to_string();
        assert!(mistake.starts_with("the address "), "{mistake}");
    }
}
