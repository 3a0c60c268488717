//! API keys.

use fourmi_model::{KeyInfo, NewSecret, Scopes, TenantName};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Client, ClientError};

/// A key to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NewKey {
    /// What it is for, for people.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The tenant whose jobs and files it sees; without one, those of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// Whether it sees only what was submitted with it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub device: bool,
    /// How often it may ask, such as `100/60` (in 60 seconds).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<String>,
    /// When it ends (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// What to change of a key; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// What it is for, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// How often it may ask; an empty text for as often as the settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<String>,
    /// When it ends (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    keys: Vec<KeyInfo>,
    next: Option<String>,
}

impl Client {
    /// Makes a key. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// `invalid_request`, `scope_missing`, `foreign_tenant`, or that the API does not answer.
    pub async fn create_key(&self, key: &NewKey) -> Result<NewSecret, ClientError> {
        self.json(self.request(Method::POST, ["keys"]).json(key)).await
    }

    /// All keys that this one sees, oldest first, with those that have ended or were taken back.
    ///
    /// # Errors
    /// `scope_missing`, or that the API does not answer.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>, ClientError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut request = self.request(Method::GET, ["keys"]).query(&[("limit", "1000")]);
            if let Some(after) = &after {
                request = request.query(&[("after", after)]);
            }
            let page: Page = self.json(request).await?;
            all.extend(page.keys);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// A key.
    ///
    /// # Errors
    /// `unknown_key`, `scope_missing`, or that the API does not answer.
    pub async fn key(&self, id: &str) -> Result<KeyInfo, ClientError> {
        self.json(self.request(Method::GET, ["keys", id])).await
    }

    /// The key that this client asks with.
    ///
    /// # Errors
    /// That the API does not answer.
    pub async fn own_key(&self) -> Result<KeyInfo, ClientError> {
        self.json(self.request(Method::GET, ["keys", "current"])).await
    }

    /// Changes a key; in force everywhere within two seconds.
    ///
    /// # Errors
    /// `unknown_key`, `invalid_request`, `key_revoked`, `last_admin_key`, or that the API does not answer.
    pub async fn change_key(&self, id: &str, change: &KeyChange) -> Result<KeyInfo, ClientError> {
        self.json(self.request(Method::PATCH, ["keys", id]).json(change)).await
    }

    /// Gives a key a new secret; the old one stays valid for `grace_s` seconds.
    ///
    /// # Errors
    /// `unknown_key`, `key_revoked`, or that the API does not answer.
    pub async fn rotate_key(&self, id: &str, grace_s: u32) -> Result<NewSecret, ClientError> {
        self.json(self.request(Method::POST, ["keys", id, "rotate"]).json(&json!({"grace_s": grace_s}))).await
    }

    /// Takes a key back, for good.
    ///
    /// # Errors
    /// `unknown_key`, `last_admin_key`, or that the API does not answer.
    pub async fn revoke_key(&self, id: &str) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, ["keys", id])).await.map(drop)
    }
}
