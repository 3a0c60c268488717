//! Many jobs at once: replaying and purging what failed, releasing what is parked. The API takes bounded steps; these walk
//! on until the end.

use fourmi_model::{JobId, KindName, ParkReason, QueueName};
use serde::Serialize;
use serde_json::json;

use crate::{Client, ClientError, steps::Steps};

/// Which failed jobs of a queue; all of them, if nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeadQuery {
    /// Only these (1,000 at most), of which those count that have failed; nothing else may be said then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<JobId>>,
    /// Only this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<KindName>,
    /// Only with this error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Only with this tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Only those that failed at this time (RFC 3339) or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_after: Option<String>,
    /// Only those that failed before this time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_before: Option<String>,
}

/// What to do with failed jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadAction {
    /// Count them.
    Count,
    /// Run them again.
    Replay,
    /// Forget them, with all that is known of them.
    Purge,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DeadTotal {
    /// Jobs that were meant.
    pub matched: u64,
    /// Those of them that were replayed or purged: all but those that somebody else has changed meanwhile.
    pub done: u64,
}

/// A walk through the dead letter of a queue.
pub struct DeadWalk {
    steps: Steps,
    total: DeadTotal,
}

/// A walk through the parked jobs of a queue.
pub struct ParkedWalk {
    steps: Steps,
    released: u64,
}

impl Client {
    /// Replays, purges or counts the failed jobs of a queue. Nothing is sent before the first step.
    pub fn dead(&self, queue: &QueueName, action: DeadAction, query: &DeadQuery) -> DeadWalk {
        let mut body = json!(query);
        if action == DeadAction::Count {
            body["dry_run"] = true.into();
        }
        let what = if action == DeadAction::Purge { "purge" } else { "replay" };
        let steps = Steps::new(self.clone(), ["queues", queue.as_str(), "dead", what], body);
        DeadWalk { steps, total: DeadTotal::default() }
    }

    /// Lets the jobs of a queue run that are parked for a reason. Nothing is sent before the first step. One job is
    /// released by [`Client::retry`].
    pub fn unpark(&self, queue: &QueueName, reason: ParkReason) -> ParkedWalk {
        let steps = Steps::new(self.clone(), ["queues", queue.as_str(), "unpark"], json!({"reason": reason}));
        ParkedWalk { steps, released: 0 }
    }
}

impl DeadWalk {
    /// Takes the next step and says what was done so far; `None` if there is nothing left to do.
    ///
    /// # Errors
    /// `unknown_queue`, or that the API does not answer: then the same step may be tried again.
    pub async fn step(&mut self) -> Result<Option<DeadTotal>, ClientError> {
        let Some(step) = self.steps.next().await? else { return Ok(None) };
        self.total.matched += step.matched;
        self.total.done += step.done;
        Ok(Some(self.total))
    }
}

impl ParkedWalk {
    /// Takes the next step and says how many jobs were released so far; `None` if there is nothing left to do.
    ///
    /// # Errors
    /// `unknown_queue`, or that the API does not answer: then the same step may be tried again.
    pub async fn step(&mut self) -> Result<Option<u64>, ClientError> {
        let Some(step) = self.steps.next().await? else { return Ok(None) };
        self.released += step.released;
        Ok(Some(self.released))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Scripted, answer};

    #[tokio::test]
    async fn a_walk_goes_on_where_the_step_before_ended() {
        let step = |body: &str| answer("200 OK", "", None, body);
        let api = Scripted::start([
            step(r#"{"matched": 600, "done": 599, "next": "here"}"#),
            step(r#"{"matched": 1, "done": 1, "next": null}"#),
        ])
        .await;
        let mut walk = api.client().dead(&"media".parse().unwrap(), DeadAction::Purge, &DeadQuery::default());
        assert_eq!(walk.step().await.unwrap(), Some(DeadTotal { matched: 600, done: 599 }));
        assert_eq!(walk.step().await.unwrap(), Some(DeadTotal { matched: 601, done: 600 }));
        assert_eq!(walk.step().await.unwrap(), None);
        assert!(api.requests()[0].starts_with("POST /api/v1/queues/media/dead/purge "));
    }
}
