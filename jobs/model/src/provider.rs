//! Providers of messages, as everyone reads of them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HealthStatus, TenantName};

/// The providers that the workers have met, and what was spent with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderList {
    /// The providers, by account.
    pub providers: Vec<ProviderInfo>,
    /// The month that the spending is of (`2026-11`, UTC).
    pub month: String,
    /// What tenants have spent in it, most first, 200 at most.
    pub spending: Vec<SpendingInfo>,
}

/// A provider of messages, as the workers have met it; a few seconds old.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderInfo {
    /// The account with it: the name of the operator's secret.
    pub account: String,
    /// `down` while its jobs are parked, else `ok`.
    pub status: HealthStatus,
    /// Since when it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub down_since: Option<Timestamp>,
    /// How often it has answered so far.
    pub answers: u64,
    /// How often it did not answer, or said that it could not.
    pub outages: u64,
    /// When it answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub answered_at: Option<Timestamp>,
    /// When it last did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub failed_at: Option<Timestamp>,
    /// How long its answers took lately, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// The code of its last answer, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_code: Option<String>,
    /// The credits that are left with it, if it counts any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credits: Option<f64>,
    /// What its last check has found, if its sort is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<ProviderCheck>,
}

/// What the last check of a provider has found, beside what jobs meet: nothing is sent by it, and nothing paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderCheck {
    /// When it was checked.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub checked_at: Timestamp,
    /// `ok`; `degraded` if it answers, but for instance has few credits left; `down` if it does not answer as it should;
    /// `not_configured` if it does not let the account in.
    pub status: HealthStatus,
    /// Why it is not well, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long the check took, in milliseconds.
    pub latency_ms: u64,
}

/// What a tenant has spent with an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpendingInfo {
    /// The tenant; absent, if the messages were of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The account.
    pub account: String,
    /// How much, in what the account counts in, such as credits.
    pub amount: f64,
}
