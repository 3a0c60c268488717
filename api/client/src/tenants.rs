//! Tenants.

use fourmi_model::{KindName, LimitState, QueueName, TenantInfo, TenantName};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::{Client, ClientError};

/// A tenant to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewTenant {
    /// The name, which never changes.
    pub name: TenantName,
    /// What it is called, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Whether people may make accounts for themselves.
    pub registration: bool,
    /// The address of its app, where the links in mails to its people lead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_url: Option<String>,
}

impl NewTenant {
    /// A tenant of this name, of which nothing else is said: its admins invite its people.
    pub fn of(name: TenantName) -> Self {
        Self { name, title: None, registration: false, app_url: None }
    }
}

/// What to change of a tenant; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TenantChange {
    /// What it is called; an empty text for nothing but its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Whether people may make accounts for themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<bool>,
    /// The address of its app; an empty text for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_url: Option<String>,
    /// Whether its people and keys are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
}

/// A tenant, with what it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantDetails {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: TenantInfo,
    /// How many people it has.
    pub people: u64,
    /// How many API keys it has that were not taken back.
    pub keys: u64,
    /// Its place in each queue.
    pub queues: Vec<TenantInQueue>,
}

/// The place of a tenant in a queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantInQueue {
    /// The queue.
    pub queue: QueueName,
    /// How many of its jobs start in its turn.
    pub weight: u32,
    /// What limits its jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitState>,
}

/// What a tenant has used, by the records of its jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantUsage {
    /// From when on (RFC 3339): jobs that were over since then.
    pub since: String,
    /// Jobs that have succeeded.
    pub succeeded: u64,
    /// Jobs that have failed.
    pub failed: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// How long all of them ran, in milliseconds.
    pub run_ms: u64,
    /// The same by kind; those with most jobs first, a hundred at most.
    pub kinds: Vec<KindUsage>,
}

/// What a tenant has used of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindUsage {
    /// The kind.
    pub kind: KindName,
    /// Jobs that were over.
    pub jobs: u64,
    /// Those of them that had failed.
    pub failed: u64,
    /// How long all of them ran, in milliseconds.
    pub run_ms: u64,
}

#[derive(Deserialize)]
struct Page {
    tenants: Vec<TenantInfo>,
    next: Option<String>,
}

impl Client {
    /// Makes a tenant: then it can have people and keys.
    ///
    /// # Errors
    /// `invalid_request`, `name_taken`, `scope_missing`, or that the API does not answer.
    pub async fn create_tenant(&self, tenant: &NewTenant) -> Result<TenantInfo, ClientError> {
        self.json(self.request(Method::POST, ["tenants"]).json(tenant)).await
    }

    /// All tenants that this client sees, by name.
    ///
    /// # Errors
    /// `scope_missing`, or that the API does not answer.
    pub async fn tenants(&self) -> Result<Vec<TenantInfo>, ClientError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut request = self.request(Method::GET, ["tenants"]).query(&[("limit", "1000")]);
            if let Some(after) = &after {
                request = request.query(&[("after", after)]);
            }
            let page: Page = self.json(request).await?;
            all.extend(page.tenants);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// A tenant with its people, keys, weights and limits.
    ///
    /// # Errors
    /// `unknown_tenant`, `scope_missing`, or that the API does not answer.
    pub async fn tenant(&self, name: &TenantName) -> Result<TenantDetails, ClientError> {
        self.json(self.request(Method::GET, ["tenants", name.as_str()])).await
    }

    /// Changes a tenant; in force everywhere within two seconds.
    ///
    /// # Errors
    /// `unknown_tenant`, `invalid_request`, `changed_meanwhile`, `scope_missing`, or that the API does not answer.
    pub async fn change_tenant(&self, name: &TenantName, change: &TenantChange) -> Result<TenantInfo, ClientError> {
        self.json(self.request(Method::PATCH, ["tenants", name.as_str()]).json(change)).await
    }

    /// Deletes a tenant that has neither people nor keys. Its jobs and files stay.
    ///
    /// # Errors
    /// `unknown_tenant`, `tenant_not_empty`, `scope_missing`, or that the API does not answer.
    pub async fn delete_tenant(&self, name: &TenantName) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, ["tenants", name.as_str()])).await.map(drop)
    }

    /// What a tenant has used in the last `days` days (1 to 366).
    ///
    /// # Errors
    /// `unknown_tenant`, `invalid_query`, `scope_missing`, or that the API does not answer.
    pub async fn tenant_usage(&self, name: &TenantName, days: u32) -> Result<TenantUsage, ClientError> {
        self.json(self.request(Method::GET, ["tenants", name.as_str(), "usage"]).query(&[("days", days)])).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_sent() {
        let change = TenantChange { suspended: Some(false), title: Some(String::new()), ..TenantChange::default() };
        assert_eq!(serde_json::to_string(&change).unwrap(), r#"{"title":"","suspended":false}"#);
    }

    #[test]
    fn a_tenant_comes_with_its_place_in_the_queues() {
        let text = r#"{"name":"acme","registration":true,"created_at":"2026-01-01T00:00:00Z","people":2,"keys":1,
            "queues":[{"queue":"media","weight":3}]}"#;
        let details: TenantDetails = serde_json::from_str(text).unwrap();
        assert_eq!((details.tenant.name.as_str(), details.people, details.keys), ("acme", 2, 1));
        assert_eq!((details.queues[0].weight, &details.queues[0].limit), (3, &None));
    }
}
