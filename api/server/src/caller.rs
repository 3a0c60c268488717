//! Who calls, by key or logged in: what they may do, and whose jobs and files they see.

use std::sync::Arc;

use fourmi_model::{Job, Scope, Scopes, TenantName};
use fourmi_queue::JobFilter;
use fourmi_settings::RateLimit;
use salvo::Depot;
use serde_json::Value;

use crate::{people::Login, problem::Problem};

/// Whoever sent a request, as far as it matters to what is answered; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<Rights>);

/// What a key or a person may do.
#[derive(Debug)]
pub(crate) struct Rights {
    /// The id: of a key, which keeps it when its secret changes, or of a person.
    pub(crate) id: String,
    /// The tenant whose jobs and files are seen; without one, those of all.
    pub(crate) tenant: Option<TenantName>,
    /// Whether only what they submitted themselves is seen: people without a special role, and the keys of devices, which
    /// may be stolen.
    pub(crate) own_only: bool,
    /// What may be done.
    pub(crate) scopes: Scopes,
    /// How often they may ask, if not as often as others.
    pub(crate) rate_limit: Option<RateLimit>,
    /// Where the person is logged in, if it is one.
    pub(crate) login: Option<Login>,
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

    /// The id of the key or of the person.
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    /// Where the person is logged in, if it is one.
    pub(crate) fn login(&self) -> Option<&Login> {
        self.0.login.as_ref()
    }

    /// What they may do.
    pub(crate) fn scopes(&self) -> Scopes {
        self.0.scopes
    }

    /// The tenant that it is bound to.
    pub(crate) fn tenant(&self) -> Option<&TenantName> {
        self.0.tenant.as_ref()
    }

    /// Whether they see only what they submitted themselves.
    pub(crate) fn own_only(&self) -> bool {
        self.0.own_only
    }

    /// Whether it may do this.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.0.scopes.contains(scope)
    }

    /// Whether they see what belongs to this tenant and was submitted by this key or person. What they do not see must be
    /// answered as if it were not there.
    pub(crate) fn sees(&self, tenant: Option<&TenantName>, submitted_by: Option<&str>) -> bool {
        let Rights { id, tenant: own, own_only, .. } = &*self.0;
        (own.is_none() || own.as_ref() == tenant) && (!own_only || submitted_by == Some(id))
    }

    /// How often it may ask, if not as often as others.
    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        self.0.rate_limit
    }

    /// Whether it sees everything that there is.
    pub(crate) fn sees_all(&self) -> bool {
        self.0.tenant.is_none() && !self.0.own_only
    }

    /// Whether it steers the queues of the whole platform.
    pub(crate) fn is_operator(&self) -> bool {
        self.sees_all() && self.may(Scope::QueuesAdmin)
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
            if filter.submitted_by.as_ref().is_some_and(|id| id != self.id()) {
                return None;
            }
            filter.submitted_by = Some(self.id().to_owned());
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
            webhook: None,
            worker: None,
            result: None,
            error: job.error.map(hidden),
            payload: Value::Null,
            ..job
        }
    }
}
