//! How long things are kept, and the room that they leave.

use crate::{
    Data, Database, Environment, Redis, Setting, SettingError, Uploads,
    concerns::{bytes, within},
    table,
};

/// How long things are kept, and the room that they leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Days for which finished jobs stay in the records; for ever if there is no number.
    pub jobs_days: Option<u32>,
    /// Days for which events stay in the audit log.
    pub events_days: Option<u32>,
    /// Days for which stored files are kept.
    pub files_days: Option<u32>,
    /// Bytes that new jobs and files leave free.
    pub free_bytes: u64,
}

impl Keep {
    /// The variables that it reads.
    pub const SETTINGS: &'static [&'static Setting] =
        &[&table::KEEP_JOBS_DAYS, &table::KEEP_EVENTS_DAYS, &table::KEEP_FILES_DAYS, &table::KEEP_FREE_BYTES];

    /// Reads `FOURMI_KEEP_JOBS_DAYS`, `FOURMI_KEEP_EVENTS_DAYS`, `FOURMI_KEEP_FILES_DAYS` and `FOURMI_KEEP_FREE_BYTES`.
    ///
    /// # Errors
    /// If one is no number or out of its range.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let days = |setting| {
            let days: u32 = environment.parsed(setting, |text| within(text, 0, 36_500))?;
            Ok((days > 0).then_some(days))
        };
        Ok(Self {
            jobs_days: days(&table::KEEP_JOBS_DAYS)?,
            events_days: days(&table::KEEP_EVENTS_DAYS)?,
            files_days: days(&table::KEEP_FILES_DAYS)?,
            // A size is never nothing, but here it may be.
            free_bytes: environment
                .parsed(&table::KEEP_FREE_BYTES, |text| if text == "0" { Some(0) } else { bytes(text) })?,
        })
    }

    /// Reads `FOURMI_MAINTENANCE`: whether the scheduler sees to the platform's own maintenance.
    ///
    /// # Errors
    /// If it is another word than `on` or `off`.
    pub fn sees_to_itself(environment: &Environment) -> Result<bool, SettingError> {
        environment.parsed(&table::MAINTENANCE, |text| match text {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        })
    }
}

/// What the maintenance worker looks after.
#[derive(Debug, Clone)]
pub struct Maintenance {
    /// The data folder.
    pub data: Data,
    /// The jobs.
    pub redis: Redis,
    /// The records.
    pub database: Database,
    /// Files that arrive in pieces.
    pub uploads: Uploads,
    /// How long things are kept.
    pub keep: Keep,
}

impl Maintenance {
    /// The variables that it reads.
    pub const SETTINGS: &'static [&'static Setting] = &[
        &table::DATA,
        &table::REDIS_URL,
        &table::REDIS_CA,
        &table::DATABASE_URL,
        &table::MAX_UPLOAD_BYTES,
        &table::UPLOAD_EXPIRY_HOURS,
        &table::KEEP_JOBS_DAYS,
        &table::KEEP_EVENTS_DAYS,
        &table::KEEP_FILES_DAYS,
        &table::KEEP_FREE_BYTES,
    ];

    /// Reads them.
    ///
    /// # Errors
    /// If one does not have its form.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            data: Data::read(environment)?,
            redis: Redis::read(environment)?,
            database: Database::read(environment)?,
            uploads: Uploads::read(environment)?,
            keep: Keep::read(environment)?,
        })
    }
}
