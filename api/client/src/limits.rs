//! Limits of queues, and weights of their tenants.

use std::collections::BTreeMap;

use fourmi_model::{Limit, LimitName, LimitState, QueueName, TenantName};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Client, ClientError};

/// The limits of a queue, and the weights of its tenants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsDocument {
    /// The limits, by name, and how far they are used.
    pub limits: Vec<LimitState>,
    /// How many jobs of a tenant start in its turn, where that is not 1.
    pub weights: BTreeMap<TenantName, u32>,
}

impl Client {
    /// The limits of a queue.
    ///
    /// # Errors
    /// `unknown_queue`, or that the API does not answer.
    pub async fn limits(&self, queue: &QueueName) -> Result<LimitsDocument, ClientError> {
        self.json(self.request(Method::GET, ["queues", queue.as_str(), "limits"])).await
    }

    /// Sets a limit of a queue, or takes it away if it bounds nothing.
    ///
    /// # Errors
    /// `unknown_queue`, `invalid_request`, or that the API does not answer.
    pub async fn set_limit(
        &self,
        queue: &QueueName,
        name: &LimitName,
        limit: Limit,
    ) -> Result<LimitsDocument, ClientError> {
        let body = json!({"name": name, "concurrency": limit.concurrency, "rate": limit.rate});
        self.json(self.request(Method::PUT, ["queues", queue.as_str(), "limits"]).json(&body)).await
    }

    /// Sets how many jobs of a tenant start in its turn.
    ///
    /// # Errors
    /// `unknown_queue`, `invalid_request`, or that the API does not answer.
    pub async fn set_weight(
        &self,
        queue: &QueueName,
        tenant: &TenantName,
        weight: u32,
    ) -> Result<LimitsDocument, ClientError> {
        let body = json!({"tenant": tenant, "weight": weight});
        self.json(self.request(Method::PUT, ["queues", queue.as_str(), "weights"]).json(&body)).await
    }
}
