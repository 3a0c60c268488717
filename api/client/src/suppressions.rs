//! Addresses that get nothing any more.

use fourmi_model::{Channel, SuppressionInfo, SuppressionReason, TenantName};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::{Client, ClientError};

/// An address that is to get nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewSuppression {
    /// The way by which it is reached.
    pub channel: Channel,
    /// The address.
    pub address: String,
    /// Why; somebody has said so by hand, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<SuppressionReason>,
    /// What a person should know of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The tenant whose messages it does not get; without one, it gets those of nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
}

#[derive(Deserialize)]
struct Page {
    suppressions: Vec<SuppressionInfo>,
    next: Option<String>,
}

impl Client {
    /// The addresses of a channel that get nothing any more, in order: those of a tenant, or those that hold for all.
    ///
    /// # Errors
    /// `scope_missing`, or that the API does not answer.
    pub async fn suppressions(
        &self,
        channel: Channel,
        tenant: Option<&TenantName>,
    ) -> Result<Vec<SuppressionInfo>, ClientError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut request = self.request(Method::GET, ["suppressions"]);
            request = request.query(&[("channel", channel.as_str()), ("limit", "200")]);
            if let Some(tenant) = tenant {
                request = request.query(&[("tenant", tenant.as_str())]);
            }
            if let Some(after) = &after {
                request = request.query(&[("after", after)]);
            }
            let page: Page = self.json(request).await?;
            all.extend(page.suppressions);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Has an address get nothing any more. One that is there already stays as it is, and is given.
    ///
    /// # Errors
    /// `invalid_request`, `unknown_tenant`, `foreign_tenant`, `scope_missing`, or that the API does not answer.
    pub async fn add_suppression(&self, suppression: &NewSuppression) -> Result<SuppressionInfo, ClientError> {
        self.json(self.request(Method::POST, ["suppressions"]).json(suppression)).await
    }

    /// Lets an address get messages again.
    ///
    /// # Errors
    /// `unknown_suppression`, `scope_missing`, or that the API does not answer.
    pub async fn remove_suppression(
        &self,
        channel: Channel,
        address: &str,
        tenant: Option<&TenantName>,
    ) -> Result<(), ClientError> {
        let mut request = self.request(Method::DELETE, ["suppressions"]);
        request = request.query(&[("channel", channel.as_str()), ("address", address)]);
        if let Some(tenant) = tenant {
            request = request.query(&[("tenant", tenant.as_str())]);
        }
        self.send(request).await.map(drop)
    }
}
