//! The API as its callers meet it: the real server, with a Redis of the test's own.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod abuse;
mod actions;
mod amqp;
mod bulk;
mod clients;
mod disk;
mod door;
mod files;
mod forms;
mod health;
mod isolation;
mod keys;
mod lists;
mod maintenance;
mod people;
mod records;
mod schedules;
mod site;
mod stats;
mod streams;
mod uploads;
mod webhooks;

use reqwest::Response;
use serde_json::Value;

/// The code of a problem that came with this status.
async fn problem(answer: Response, status: u16) -> String {
    let (found, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(found, status, "{text}");
    let problem: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    problem["code"].as_str().unwrap().to_owned()
}
