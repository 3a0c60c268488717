//! Steering queues and worker processes, and asking why a job waits.

use std::collections::BTreeMap;

use fourmi_model::{Job, JobId, Priority, QueueName, State, Why, WorkerInfo};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Client, ClientError, QueueDocument};

/// What to change of a queue; what is `None` stays, an inner `None` takes the setting away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct QueuePatch {
    /// Pause or go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Running jobs at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<Option<u32>>,
    /// The slots of all worker processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<Option<u32>>,
    /// Waiting and scheduled jobs at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Option<u64>>,
}

/// What would be lost with a queue, or is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obliteration {
    /// Whether it is done.
    pub done: bool,
    /// To be sent for it to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// How long the token is valid, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_for_s: Option<u64>,
    /// The jobs that would be lost, by their states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<BTreeMap<State, u64>>,
    /// How many keys of Redis are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_keys: Option<u64>,
}

/// What became of delayed jobs that were to run now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// Those that were delayed.
    pub matched: u64,
    /// Those of them that wait for a worker now.
    pub done: u64,
}

#[derive(Deserialize)]
struct Workers {
    workers: Vec<WorkerInfo>,
}

impl Client {
    /// One queue.
    ///
    /// # Errors
    /// `unknown_queue` if there is none.
    pub async fn queue(&self, queue: &QueueName) -> Result<QueueDocument, ClientError> {
        self.json(self.request(Method::GET, ["queues", queue.as_str()])).await
    }

    /// Pauses a queue or lets it go on, and sets how much it may do; all at one moment, and at once in force.
    ///
    /// # Errors
    /// `unknown_queue` if there is none.
    pub async fn steer_queue(&self, queue: &QueueName, patch: &QueuePatch) -> Result<QueueDocument, ClientError> {
        self.json(self.request(Method::PATCH, ["queues", queue.as_str()]).json(patch)).await
    }

    /// The live worker processes, of one queue or of all.
    ///
    /// # Errors
    /// `unknown_queue` if there is none.
    pub async fn workers(&self, queue: Option<&QueueName>) -> Result<Vec<WorkerInfo>, ClientError> {
        let call = match queue {
            Some(queue) => self.request(Method::GET, ["queues", queue.as_str(), "workers"]),
            None => self.request(Method::GET, ["workers"]),
        };
        let answer: Workers = self.json(call).await?;
        Ok(answer.workers)
    }

    /// Lets a worker process end once its jobs have.
    ///
    /// # Errors
    /// `unknown_worker` if the queue has none of this name.
    pub async fn drain(&self, queue: &QueueName, worker: &str) -> Result<(), ClientError> {
        let segments = ["queues", queue.as_str(), "workers", worker, "drain"];
        self.send(self.request(Method::POST, segments)).await.map(drop)
    }

    /// Why a job does not run yet, and when it may start.
    ///
    /// # Errors
    /// `unknown_job` if there is none.
    pub async fn why(&self, id: &JobId) -> Result<Why, ClientError> {
        self.json(self.request(Method::GET, ["jobs", &id.to_string(), "why"])).await
    }

    /// Changes how urgent a job is that has not started.
    ///
    /// # Errors
    /// `unknown_job`; `already_started` or `already_over` if its priority means nothing any more.
    pub async fn set_priority(&self, id: &JobId, priority: Priority) -> Result<Job, ClientError> {
        self.json(self.request(Method::PATCH, ["jobs", &id.to_string()]).json(&json!({"priority": priority}))).await
    }

    /// Lets those of these jobs of a queue (1,000 at most) run now that are `scheduled` or `retrying`.
    ///
    /// # Errors
    /// `unknown_queue` if there is none; `invalid_request` if a job is of another queue.
    pub async fn promote(&self, queue: &QueueName, ids: &[JobId]) -> Result<Promoted, ClientError> {
        let call = self.request(Method::POST, ["queues", queue.as_str(), "promote"]);
        self.json(call.json(&json!({"ids": ids}))).await
    }

    /// Says what would be lost with a queue and gives a token; with that token, deletes everything in it. `force`: also
    /// while jobs run.
    ///
    /// # Errors
    /// `unknown_queue`, `unknown_token`, `jobs_running`: nothing was deleted.
    pub async fn obliterate(
        &self,
        queue: &QueueName,
        token: Option<&str>,
        force: bool,
    ) -> Result<Obliteration, ClientError> {
        let call = self.request(Method::POST, ["queues", queue.as_str(), "obliterate"]);
        self.json(call.json(&json!({"token": token, "force": force}))).await
    }
}
