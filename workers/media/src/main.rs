//! The media worker.

mod kinds;
mod live;
mod pipeline;
mod results;
mod source;
mod stages;

use std::process::ExitCode;

use fourmi_kinds::{AudioDerive, AudioExtract, AudioLive, MediaProbe};
use fourmi_runtime::Worker;
use fourmi_settings::Media;

fn main() -> ExitCode {
    Worker::new("media")
        .settings(Media::SETTINGS, |environment| Media::read(environment).map(drop))
        .kind::<AudioDerive, _, _>(kinds::audio_derive::run)
        .kind::<AudioExtract, _, _>(kinds::audio_extract::run)
        .kind::<AudioLive, _, _>(kinds::audio_live::run)
        .kind::<MediaProbe, _, _>(kinds::media_probe::run)
        .main()
}
