//! Calls of one address, each of which says where the next one starts.

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::{Client, ClientError};

pub(crate) struct Steps {
    client: Client,
    address: Vec<String>,
    pub(crate) body: Value,
    over: bool,
}

#[derive(Deserialize)]
pub(crate) struct Step {
    #[serde(default)]
    pub(crate) matched: u64,
    #[serde(default)]
    pub(crate) done: u64,
    #[serde(default)]
    pub(crate) released: u64,
    next: Option<String>,
}

impl Steps {
    pub(crate) fn new<'a>(client: Client, address: impl IntoIterator<Item = &'a str>, body: Value) -> Self {
        Self { client, address: address.into_iter().map(str::to_owned).collect(), body, over: false }
    }

    /// Takes the next step; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Step>, ClientError> {
        if self.over {
            return Ok(None);
        }
        let address = self.address.iter().map(String::as_str);
        let step: Step = self.client.json(self.client.request(Method::POST, address).json(&self.body)).await?;
        match &step.next {
            Some(next) => self.body["cursor"] = next.as_str().into(),
            None => self.over = true,
        }
        Ok(Some(step))
    }
}
