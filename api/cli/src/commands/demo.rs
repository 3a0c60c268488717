//! `fourmi demo`: the main job on real input, from a video made on the spot to a receipt.

use std::path::PathBuf;

use clap::Args;
use fourmi_kinds::AudioFormat;
use serde_json::json;

use crate::{
    commands::{
        extract::{self, Extraction, Form, Recording, Saved, Saving},
        files::Place,
        sample,
    },
    exit::{Exit, Stop},
    follow, print,
    session::{Session, unless_interrupted},
};

/// Where the demonstration lies.
#[derive(Debug, Default, Args)]
pub(crate) struct DemoArguments {
    /// Folder for the video and what comes out of it [default: demo in the data folder]
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(session: &Session, arguments: DemoArguments) -> anyhow::Result<Exit> {
    let folder = match arguments.output {
        Some(folder) => folder,
        None => session.data()?.folder().join("demo"),
    };
    let client = session.client()?;
    client.ping().await?;
    session.note("Making a video of one minute with tags and chapters …");
    let video = unless_interrupted(sample::make(&folder)).await?;
    let video = video.ok_or_else(|| Stop::interrupted("stopped before anything was sent"))??;
    session.note("Extracting its sound as Opus …");
    let form = Form::of(AudioFormat::Opus);
    let place = Place { output: Some(folder), force: true };
    let saving = Saving { place: &place, all: false };
    match extract::extract(session, &client, &Recording::File(video), &form, saving).await? {
        Extraction::Saved(saved) => {
            print_receipt(session, &saved)?;
            Ok(Exit::Done)
        }
        Extraction::NotSucceeded(job) => Ok(follow::tell_end(&job)),
    }
}

fn print_receipt(session: &Session, saved: &Saved) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({"path": saved.paths.first(), "job": saved.job}));
    }
    let took = match (saved.job.started_at, saved.job.finished_at) {
        (Some(start), Some(end)) => format!(", took {}", print::rough(print::between(start, end))),
        _ => String::new(),
    };
    print::line("")?;
    for path in &saved.paths {
        print::line(&format!("  file      {}", print::short(path).display()))?;
    }
    print::line(&format!("  sound     {}", extract::describe(&saved.result)))?;
    for (name, value) in &saved.result.tags {
        print::line(&format!("  {:<9} {}", print::one_line(name), print::one_line(value)))?;
    }
    for chapter in &saved.result.chapters {
        let start = print::clock(std::time::Duration::from_millis(chapter.start_ms));
        print::line(&format!("  {start:<9} {}", print::one_line(&chapter.title)))?;
    }
    print::line(&format!("  SHA-256   {}", saved.result.file("audio").map_or("", |file| &file.sha256)))?;
    print::line(&format!("  job       {}{took}", saved.job.id))?;
    print::line("")
}
