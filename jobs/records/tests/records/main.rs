//! Records in every database that they may be in: what is true of one is true of all.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attempts;
mod audit;
mod chat_alerts;
mod deletion;
mod devices;
mod jobs;
mod keys;
mod kinds;
mod lists;
mod mail_recipients;
mod one_time;
mod opening;
mod people;
mod people_list;
mod place;
mod processes;
mod retention;
mod schedules;
mod sessions;
mod sms;
mod stats;
mod suppressions;
mod tenants;
mod token_keys;
mod webhooks;
