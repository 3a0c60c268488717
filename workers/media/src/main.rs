//! The media worker.

mod kinds;
mod results;
mod source;
mod stages;

use std::process::ExitCode;

use fourmi_kinds::{AudioExtract, MediaProbe};
use fourmi_runtime::Worker;

fn main() -> ExitCode {
    Worker::new("media")
        .kind::<AudioExtract, _, _>(kinds::audio_extract::run)
        .kind::<MediaProbe, _, _>(kinds::media_probe::run)
        .main()
}
