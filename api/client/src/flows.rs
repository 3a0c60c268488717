//! Flows: jobs that wait for each other.

use fourmi_model::{JobId, KindName, State, Tie};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Client, ClientError};

/// An accepted flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowAccepted {
    /// Its jobs, in the order in which they were sent.
    pub jobs: Vec<FlowMember>,
    /// The job that stands for all of them, if they are a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<JobId>,
    /// The job that follows the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<JobId>,
}

/// A job of a flow that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowMember {
    /// Its name in the flow.
    pub name: String,
    /// Its id.
    pub id: JobId,
}

/// The flow around a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// The jobs; the one that was asked for comes first.
    pub jobs: Vec<FlowJob>,
    /// What ties them.
    pub edges: Vec<FlowEdge>,
    /// Whether there are more jobs than are shown.
    pub cut: bool,
}

/// A job of a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowJob {
    /// The id.
    pub id: JobId,
    /// The type; `None` if nothing is known of the job any longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<KindName>,
    /// Where it is in its life; `None` if nothing is known of the job any longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// How far it is, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f32>,
    /// The code of its newest error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was over (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Whether the queue has forgotten it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
}

/// A tie between two jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEdge {
    /// The earlier one: what is waited for, a member of the batch, what made the other.
    pub from: JobId,
    /// The later one: what waits, the batch, what was made.
    pub to: JobId,
    /// What ties them.
    pub tie: Tie,
}

impl Client {
    /// Submits jobs that wait for each other, as `POST /api/v1/flows` reads them. Once this returns, all are kept. With an
    /// idempotency key it may be sent again: each job is accepted once.
    ///
    /// # Errors
    /// `unknown_parent`, `cycle` and those of [`Submit::send`](crate::Submit::send), each with the path of the mistake.
    pub async fn submit_flow(&self, flow: &Value, key: Option<&str>) -> Result<FlowAccepted, ClientError> {
        let mut request = self.request(Method::POST, ["flows"]).json(flow);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.json(request).await
    }

    /// The flow around a job: the jobs that can be reached from it, and what ties them.
    ///
    /// # Errors
    /// `unknown_job` if there is none.
    pub async fn flow(&self, id: &JobId) -> Result<Flow, ClientError> {
        self.json(self.request(Method::GET, ["flows", &id.to_string()])).await
    }
}
