//! Doing something with many jobs at once. The API takes bounded steps; this walks on until the end.

use fourmi_model::{JobId, Priority};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Client, ClientError, JobQuery, steps::Steps};

/// What to do with jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAction {
    /// Stop those that are not over; those that run are asked to.
    Cancel,
    /// Run those again that have failed or were cancelled, and at once those that wait for a time or a cause.
    Retry,
    /// Let those run now that wait for their time.
    Promote,
    /// Give those that have not started this priority.
    Prioritize(Priority),
    /// Forget those that are over, with all that is known of them.
    Delete,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ActionTotal {
    /// Jobs that were meant, and with which there was something to do.
    pub matched: u64,
    /// Those of them with which it was done: all but those that somebody else has changed meanwhile.
    pub done: u64,
}

/// A walk through jobs, with each of which something is done.
pub struct ActionWalk {
    steps: Steps,
    total: ActionTotal,
}

impl Client {
    /// Does something with the jobs that a query wants (its limit and its cursor do not matter); all of them, if it says
    /// nothing. Nothing is sent before the first step.
    ///
    /// ```no_run
    /// # async fn example(client: fourmi_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use fourmi_client::{JobAction, JobQuery};
    ///
    /// let night = JobQuery { tag: Some("night".to_owned()), ..JobQuery::default() };
    /// let would_be = client.act(JobAction::Cancel, &night).dry_run().to_end().await?;
    /// println!("{} jobs would be cancelled", would_be.matched);
    /// let total = client.act(JobAction::Cancel, &night).to_end().await?;
    /// println!("{} jobs were", total.done);
    /// # Ok(())
    /// # }
    /// ```
    pub fn act(&self, action: JobAction, jobs: &JobQuery) -> ActionWalk {
        let filter = jobs.filter();
        let body = match action {
            JobAction::Cancel => json!({"action": "cancel", "filter": filter}),
            JobAction::Retry => json!({"action": "retry", "filter": filter}),
            JobAction::Promote => json!({"action": "promote", "filter": filter}),
            JobAction::Prioritize(priority) => json!({"action": "prioritize", "priority": priority, "filter": filter}),
            JobAction::Delete => json!({"action": "delete", "filter": filter}),
        };
        let steps = Steps::new(self.clone(), ["jobs", "actions"], body);
        ActionWalk { steps, total: ActionTotal::default() }
    }

    /// Forgets a job that is over, with its log, its runs, its result and its record. Its files stay.
    ///
    /// # Errors
    /// `unknown_job`; `not_over` if it has to be cancelled first.
    pub async fn delete(&self, id: &JobId) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, ["jobs", &id.to_string()])).await.map(drop)
    }
}

impl ActionWalk {
    /// Only counts the jobs.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.steps.body["dry_run"] = true.into();
        self
    }

    /// Only these (1,000 at most), of which those count that the query wants.
    #[must_use]
    pub fn only(mut self, ids: &[JobId]) -> Self {
        self.steps.body["filter"]["ids"] = json!(ids);
        self
    }

    /// Takes the next step and says what was done so far; `None` if there is nothing left to do.
    ///
    /// # Errors
    /// If the API refuses the query or does not answer: in that case the same step may be tried again.
    pub async fn step(&mut self) -> Result<Option<ActionTotal>, ClientError> {
        let Some(step) = self.steps.next().await? else { return Ok(None) };
        self.total.matched += step.matched;
        self.total.done += step.done;
        Ok(Some(self.total))
    }

    /// Takes all steps.
    ///
    /// # Errors
    /// As [`ActionWalk::step`]; what was done stays done.
    pub async fn to_end(mut self) -> Result<ActionTotal, ClientError> {
        while self.step().await?.is_some() {}
        Ok(self.total)
    }
}

impl JobQuery {
    /// The query as a body holds it.
    fn filter(&self) -> Value {
        let without_page = Self { limit: None, cursor: None, ..self.clone() };
        let mut filter = json!({});
        for (name, value) in without_page.pairs() {
            match (name, filter[name].as_array_mut()) {
                ("state", Some(states)) => states.push(value.into()),
                ("state", None) => filter[name] = json!([value]),
                _ => filter[name] = value.into(),
            }
        }
        filter
    }
}

#[cfg(test)]
mod tests {
    use fourmi_model::State;

    use super::*;

    #[test]
    fn a_query_is_a_filter_without_its_page() {
        let query = JobQuery {
            states: vec![State::Failed, State::Cancelled],
            tag: Some("a b".into()),
            limit: Some(7),
            cursor: Some("x".into()),
            ..JobQuery::default()
        };
        assert_eq!(query.filter(), json!({"state": ["failed", "cancelled"], "tag": "a b"}));
        assert_eq!(JobQuery::default().filter(), json!({}));
    }
}
