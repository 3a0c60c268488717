#![doc = include_str!("../README.md")]

mod host;
mod house;
mod probe;
mod retention;
mod rollup;

use std::{process::ExitCode, sync::Arc};

use fourmi_kinds::{HealthProbe, HostMetrics, MaintenanceRetention, StatsRollup};
use fourmi_runtime::Worker;
use fourmi_settings::{Environment, Maintenance, SettingError};

use crate::house::Keys;

/// Jobs at a time: a long retention must not keep the probe waiting.
const SLOTS: usize = 4;

/// How much less urgent than other processes this one is.
const NICENESS: i32 = 10;

/// Whether the settings are right.
fn check(environment: &Environment) -> Result<(), SettingError> {
    Maintenance::read(environment).map(drop)
}

fn main() -> ExitCode {
    // Chores take the time that others leave; where the system refuses that, they are as urgent as the rest.
    let _ = rustix::process::nice(NICENESS);
    let keys = Arc::new(Keys::default());
    let [retention, rollup, probe, host] = [(); 4].map(|()| keys.clone());
    Worker::new("maintenance")
        .settings(Maintenance::SETTINGS, check)
        .slots(SLOTS)
        .kind::<MaintenanceRetention, _, _>(move |job, context| retention::run(retention.clone(), job, context))
        .kind::<StatsRollup, _, _>(move |job, context| rollup::run(rollup.clone(), job, context))
        .kind::<HealthProbe, _, _>(move |_, context| probe::run(probe.clone(), context))
        .kind::<HostMetrics, _, _>(move |_, context| host::run(host.clone(), context))
        .main()
}
