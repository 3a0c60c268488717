//! The members of a batch.

use fourmi_model::JobId;

use super::{hyphenated, job_id};
use crate::{QueueError, Queues, read};

/// Entries that are read at once, about.
const STEP: usize = 500;

impl Queues {
    /// The members of a batch, in no order; none if it is no batch, or the queue has forgotten it.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn members(&self, batch: &JobId) -> Result<Vec<JobId>, QueueError> {
        if !self.is_batch(batch).await? {
            return Ok(Vec::new());
        }
        // Those that are not over first: a member goes from there to the others, and is met at least once.
        let mut found = self.scan("SSCAN", batch, "dep", 1).await?;
        found.extend(self.scan("HSCAN", batch, "par", 2).await?);
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    async fn is_batch(&self, id: &JobId) -> Result<bool, QueueError> {
        let hash = read::key(id.queue(), format_args!("j:{}", hyphenated(id)));
        self.link().query(redis::cmd("HEXISTS").arg(hash).arg("virtual")).await
    }

    /// The ids in a collection, of which every `width`th element is one.
    async fn scan(&self, command: &str, id: &JobId, name: &str, width: usize) -> Result<Vec<JobId>, QueueError> {
        let key = read::key(id.queue(), format_args!("{name}:{}", hyphenated(id)));
        let mut found = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut step = redis::cmd(command);
            step.arg(&key).arg(&cursor).arg("COUNT").arg(STEP);
            let (next, elements): (String, Vec<String>) = self.link().query(&step).await?;
            for id in elements.iter().step_by(width) {
                found.push(job_id(id)?);
            }
            if next == "0" {
                return Ok(found);
            }
            cursor = next;
        }
    }
}
