//! How many worker processes and slots a queue has, should have and needs.

use fourmi_model::{QueueName, ScaleBounds, ScaleSignal};
use reqwest::Method;
use serde::Serialize;

use crate::{Client, ClientError};

/// How a queue is to be scaled; what is `None` stays, an inner `None` takes the setting away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ScaleChange {
    /// Worker processes that each supervisor keeps running, 64 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Option<u32>>,
    /// The slots of all worker processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<Option<u32>>,
    /// For who autoscales the queue: its bounds, forgotten after ten seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<ScaleBounds>,
}

impl Client {
    /// What a scaler must know of a queue.
    ///
    /// # Errors
    /// `unknown_queue` if there is none.
    pub async fn scale(&self, queue: &QueueName) -> Result<ScaleSignal, ClientError> {
        self.json(self.request(Method::GET, ["queues", queue.as_str(), "scale"])).await
    }

    /// Sets how many worker processes and slots a queue shall have.
    ///
    /// # Errors
    /// `unknown_queue` if there is none; `invalid_request` if a number is too large.
    pub async fn set_scale(&self, queue: &QueueName, change: &ScaleChange) -> Result<ScaleSignal, ClientError> {
        self.json(self.request(Method::PUT, ["queues", queue.as_str(), "scale"]).json(change)).await
    }
}
