//! The audit log: who did what that concerns security, from where, and how it ended.

use fourmi_model::{AuditEvent, Outcome, TenantName};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::{Client, ClientError};

/// Which events to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only what concerns this tenant.
    pub tenant: Option<TenantName>,
    /// Only what the person or key of this id did.
    pub actor: Option<String>,
    /// Only what was done to the person, key, session or tenant of this id.
    pub target: Option<String>,
    /// Only this action, or those that begin with this word: `user` means `user.created` and so on.
    pub action: Option<String>,
    /// Only what ended so.
    pub outcome: Option<Outcome>,
    /// Only from this time (RFC 3339) on.
    pub after: Option<String>,
    /// Only before this time (RFC 3339).
    pub before: Option<String>,
    /// The most events of a page, 200 at most.
    pub limit: Option<usize>,
    /// Where the page starts: [`AuditPage::next`] of the page before.
    pub cursor: Option<String>,
}

impl AuditQuery {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("tenant", self.tenant.as_ref().map(ToString::to_string)),
            ("actor", self.actor.clone()),
            ("target", self.target.clone()),
            ("action", self.action.clone()),
            ("outcome", self.outcome.map(|outcome| outcome.to_string())),
            ("after", self.after.clone()),
            ("before", self.before.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("cursor", self.cursor.clone()),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// A part of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditPage {
    /// The events, newest first.
    pub events: Vec<AuditEvent>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<String>,
}

impl Client {
    /// A page of the audit log.
    ///
    /// # Errors
    /// `scope_missing`, `invalid_query`, `invalid_cursor`, or that the API does not answer.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, ClientError> {
        self.json(self.request(Method::GET, ["audit"]).query(&query.pairs())).await
    }
}
