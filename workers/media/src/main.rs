//! The media worker.

mod kinds;
mod live;
mod pipeline;
mod results;
mod source;
mod stages;

use std::process::ExitCode;

use fourmi_egress::Guard;
use fourmi_kinds::{AudioDerive, AudioExtract, AudioLive, MediaProbe};
use fourmi_runtime::Worker;
use fourmi_settings::{Environment, Media, SettingError, table};

/// Whether the settings are right.
fn check(environment: &Environment) -> Result<(), SettingError> {
    let media = Media::read(environment)?;
    let guard = Guard::parse(&media.egress_allow);
    guard.map(drop).map_err(|_| table::EGRESS_ALLOW.wrong(&media.egress_allow))
}

fn main() -> ExitCode {
    Worker::new("media")
        .settings(Media::SETTINGS, check)
        .kind::<AudioDerive, _, _>(kinds::audio_derive::run)
        .kind::<AudioExtract, _, _>(kinds::audio_extract::run)
        .kind::<AudioLive, _, _>(kinds::audio_live::run)
        .kind::<MediaProbe, _, _>(kinds::media_probe::run)
        .main()
}
