//! What the hub remembers of jobs, so that it need not read them to know whether anybody is interested.

use std::collections::HashMap;

use fourmi_model::{Job, JobId, KindName, State, TenantName};
use uuid::Uuid;

use crate::JobFilter;

/// What never changes of a job, as far as it is filtered by.
#[derive(Debug)]
pub(super) struct About {
    kind: KindName,
    tags: Vec<String>,
    tenant: Option<TenantName>,
    submitted_by: Option<String>,
}

impl About {
    fn of(job: &Job) -> Self {
        Self {
            kind: job.kind.clone(),
            tags: job.tags.clone(),
            tenant: job.tenant.clone(),
            submitted_by: job.submitted_by.clone(),
        }
    }

    /// Whether a job of this sort may be what the filter wants.
    pub(super) fn fits(&self, filter: &JobFilter) -> bool {
        filter.kind.as_ref().is_none_or(|kind| *kind == self.kind)
            && filter.tag.as_ref().is_none_or(|tag| self.tags.contains(tag))
            && (filter.tenant.is_none() || filter.tenant == self.tenant)
            && (filter.submitted_by.is_none() || filter.submitted_by == self.submitted_by)
    }
}

/// A job that feeds have been told of, or would have been if they wanted it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: JobId,
    pub(super) about: About,
    /// The version that was told last; 0 if none was.
    pub(super) version: u64,
    pub(super) state: State,
}

impl Known {
    pub(super) fn of(job: &Job) -> Self {
        Self { id: job.id.clone(), about: About::of(job), version: job.version, state: job.state }
    }
}

/// Jobs of one generation at most.
const GENERATION: usize = 10_000;

/// Two generations of jobs: those that nothing is heard of go with the older one.
#[derive(Default)]
pub(super) struct Memory {
    young: HashMap<Uuid, Known>,
    old: HashMap<Uuid, Known>,
}

impl Memory {
    pub(super) fn get(&mut self, id: Uuid) -> Option<&mut Known> {
        if let Some(known) = self.old.remove(&id) {
            self.put(known);
        }
        self.young.get_mut(&id)
    }

    pub(super) fn put(&mut self, known: Known) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&known.id.uuid());
        self.young.insert(known.id.uuid(), known);
    }

    pub(super) fn remove(&mut self, id: Uuid) {
        self.young.remove(&id);
        self.old.remove(&id);
    }

    /// The jobs that are not over.
    pub(super) fn unfinished(&self) -> Vec<JobId> {
        let all = self.young.values().chain(self.old.values());
        all.filter(|known| !known.state.is_final()).map(|known| known.id.clone()).collect()
    }
}
