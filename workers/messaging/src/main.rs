#![doc = include_str!("../README.md")]

mod office;
mod webhook;

use std::{process::ExitCode, sync::Arc};

use fourmi_egress::Guard;
use fourmi_kinds::WebhookDeliver;
use fourmi_runtime::Worker;
use fourmi_settings::{Environment, Messaging, SettingError, table};

use crate::office::Office;

/// Messages at a time: each waits for somebody else most of the time.
const SLOTS: usize = 64;

/// Messages that are fetched ahead: most are sent in some milliseconds.
const PREFETCH: usize = 64;

/// Whether the settings are right.
fn check(environment: &Environment) -> Result<(), SettingError> {
    let messaging = Messaging::read(environment)?;
    let guard = Guard::parse(&messaging.egress_allow);
    guard.map(drop).map_err(|_| table::EGRESS_ALLOW.wrong(&messaging.egress_allow))
}

fn main() -> ExitCode {
    let office = Arc::new(Office::default());
    Worker::new("messaging")
        .settings(Messaging::SETTINGS, check)
        .slots(SLOTS)
        .prefetch(PREFETCH)
        .kind::<WebhookDeliver, _, _>(move |job, context| webhook::run(office.clone(), job, context))
        .main()
}
