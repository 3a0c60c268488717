//! A line of jobs, each of which stands in it once.

use std::collections::{HashMap, VecDeque};

use fourmi_model::JobId;
use uuid::Uuid;

/// Jobs in the order in which they came, each with what is to be done about it.
pub(super) struct Line<T> {
    order: VecDeque<JobId>,
    entries: HashMap<Uuid, T>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), entries: HashMap::new() }
    }
}

impl<T> Line<T> {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn contains(&self, id: Uuid) -> bool {
        self.entries.contains_key(&id)
    }

    pub(super) fn get_mut(&mut self, id: Uuid) -> Option<&mut T> {
        self.entries.get_mut(&id)
    }

    /// Puts a job at the end that is not there yet.
    pub(super) fn push(&mut self, id: JobId, entry: T) {
        if self.entries.insert(id.uuid(), entry).is_none() {
            self.order.push_back(id);
        }
    }

    pub(super) fn first(&self) -> Option<&JobId> {
        self.order.front()
    }

    pub(super) fn pop(&mut self) -> Option<(JobId, T)> {
        let id = self.order.pop_front()?;
        let entry = self.entries.remove(&id.uuid())?;
        Some((id, entry))
    }

    /// Takes the first job out of which this is true.
    pub(super) fn remove_first(&mut self, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let found = |id: &JobId| self.entries.get(&id.uuid()).is_some_and(&is_it);
        let id = self.order.remove(self.order.iter().position(found)?)?;
        self.entries.remove(&id.uuid())
    }
}
