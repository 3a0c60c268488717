//! Statistics of finished jobs: how many, how well, how long they waited and ran.

use fourmi_model::{JobStats, KindName, QueueName, StatDimension, StatStep, TenantName};
use jiff::Timestamp;
use reqwest::Method;

use crate::{Client, ClientError};

/// Which statistics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsQuery {
    /// The length of the points; minutes, if nothing is said.
    pub step: Option<StatStep>,
    /// Where they begin; sixty steps before their end, if nothing is said.
    pub from: Option<Timestamp>,
    /// Where they end; now, if nothing is said.
    pub to: Option<Timestamp>,
    /// What to tell jobs apart by; nothing, if nothing is said.
    pub by: Option<StatDimension>,
    /// Only jobs of this kind.
    pub kind: Option<KindName>,
    /// Only jobs of this queue.
    pub queue: Option<QueueName>,
    /// Only jobs of this tenant.
    pub tenant: Option<TenantName>,
}

impl StatsQuery {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("step", self.step.map(|step| step.to_string())),
            ("from", self.from.map(|from| from.to_string())),
            ("to", self.to.map(|to| to.to_string())),
            ("by", self.by.map(|by| by.to_string())),
            ("kind", self.kind.as_ref().map(ToString::to_string)),
            ("queue", self.queue.as_ref().map(ToString::to_string)),
            ("tenant", self.tenant.as_ref().map(ToString::to_string)),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl Client {
    /// What became of the jobs that ended in a span of time. Steps in which none ended are left out.
    ///
    /// # Errors
    /// `scope_missing`, `invalid_query`, `records_unavailable`, or that the API does not answer.
    pub async fn job_stats(&self, query: &StatsQuery) -> Result<JobStats, ClientError> {
        self.json(self.request(Method::GET, ["stats", "jobs"]).query(&query.pairs())).await
    }
}
