#![doc = include_str!("../README.md")]

mod analysis;
mod configuration;
mod failure;
mod files;
mod kinds;
mod results;
mod run;

use std::process::ExitCode;

use fourmi_kinds::{DatasetAnalyze, DatasetProbe};
use fourmi_runtime::Worker;
use fourmi_settings::{Environment, Insight, SettingError};

/// Jobs at a time: each uses all processors.
const SLOTS: usize = 2;

/// Whether the settings are right.
fn check(environment: &Environment) -> Result<(), SettingError> {
    Insight::read(environment).map(drop)
}

fn main() -> ExitCode {
    Worker::new("insight")
        .settings(Insight::SETTINGS, check)
        .slots(SLOTS)
        .kind::<DatasetAnalyze, _, _>(kinds::analyze)
        .kind::<DatasetProbe, _, _>(kinds::probe)
        .main()
}
