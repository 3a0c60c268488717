//! Who calls: what the key may do, and whose jobs and files it sees.

use std::sync::Arc;

use fourmi_model::{Job, Scope, Scopes, TenantName};
use fourmi_queue::JobFilter;
use fourmi_settings::RateLimit;
use salvo::Depot;
use serde_json::Value;

use crate::problem::Problem;

/// The key of a request, as far as it matters to what is answered; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller(Arc<Rights>);

/// What a key may do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Its id, which it keeps when its secret changes.
    pub(crate) key: String,
    /// The tenant whose jobs and files it sees; without one, those of all.
    pub(crate) tenant: Option<TenantName>,
    /// Whether it sees only what was submitted with it: the key of a device that may be stolen.
    pub(crate) own_only: bool,
    /// What it may do.
    pub(crate) scopes: Scopes,
    /// How often it may ask, if not as often as others.
    pub(crate) rate_limit: Option<RateLimit>,
}

impl Caller {
    pub(crate) fn new(rights: Rights) -> Self {
        Self(Arc::new(rights))
    }

    /// Who sent the request.
    ///
    /// # Errors
    /// If the route asks for no key: a mistake of the programmer.
    pub(crate) fn of(depot: &Depot) -> Result<Self, Problem> {
        depot.get_typed::<Self>().cloned().map_err(|_| Problem::internal("the route does not ask who calls"))
    }

    /// The id of the key.
    pub(crate) fn key(&self) -> &str {
        &self.0.key
    }

    /// The tenant that it is bound to.
    pub(crate) fn tenant(&self) -> Option<&TenantName> {
        self.0.tenant.as_ref()
    }

    /// Whether it sees only what was submitted with it.
    pub(crate) fn own_only(&self) -> bool {
        self.0.own_only
    }

    /// Whether it may do this.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.0.scopes.contains(scope)
    }

    /// Whether it sees what belongs to this tenant and was submitted with this key. What it does not see must be answered
    /// as if it were not there.
    pub(crate) fn sees(&self, tenant: Option<&TenantName>, submitted_by: Option<&str>) -> bool {
        let Rights { key, tenant: own, own_only, .. } = &*self.0;
        (own.is_none() || own.as_ref() == tenant) && (!own_only || submitted_by == Some(key))
    }

    /// How often it may ask, if not as often as others.
    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        self.0.rate_limit
    }

    /// Whether it sees everything that there is.
    pub(crate) fn sees_all(&self) -> bool {
        self.0.tenant.is_none() && !self.0.own_only
    }

    /// Whether it sees this job.
    pub(crate) fn sees_job(&self, job: &Job) -> bool {
        self.sees(job.tenant.as_ref(), job.submitted_by.as_deref())
    }

    /// The filter that wants what this one wants and the caller sees; `None` if that is nothing.
    pub(crate) fn narrow(&self, mut filter: JobFilter) -> Option<JobFilter> {
        if let Some(own) = self.tenant() {
            if filter.tenant.as_ref().is_some_and(|tenant| tenant != own) {
                return None;
            }
            filter.tenant = Some(own.clone());
        }
        if self.own_only() {
            if filter.submitted_by.as_ref().is_some_and(|key| key != self.key()) {
                return None;
            }
            filter.submitted_by = Some(self.key().to_owned());
        }
        Some(filter)
    }

    /// What it may read of a job that it sees: without [`Scope::JobsRead`], not what the job holds.
    pub(crate) fn show(&self, job: Job) -> Job {
        if self.may(Scope::JobsRead) {
            return job;
        }
        let hidden = |mut error: fourmi_model::ErrorReport| {
            error.message.clear();
            error.cause = None;
            error
        };
        Job {
            tenant: None,
            limits: Vec::new(),
            tags: Vec::new(),
            correlation_id: None,
            after: Vec::new(),
            parent: None,
            batch: None,
            submitted_by: None,
            worker: None,
            result: None,
            error: job.error.map(hidden),
            payload: Value::Null,
            ..job
        }
    }
}
