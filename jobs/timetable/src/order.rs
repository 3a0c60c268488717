//! The job of a tick.

use std::time::Duration;

use fourmi_model::{
    Envelope, History, JobId, LimitName, MAX_PAYLOAD_BYTES, Priority, QueueName, Retention, ScheduleId, ScheduledJob,
    Submission, TenantName, Unique,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::payload::{Tick, fill};

/// What is known of the jobs of a schedule when it is made: all but the payload, which each tick fills in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OrderForm {
    queue: QueueName,
    envelope: Envelope,
    priority: Priority,
    isolated: bool,
    endless: bool,
    history: History,
    keep_done_ms: u64,
    keep_failed_ms: u64,
    tenant: Option<TenantName>,
    limits: Vec<LimitName>,
    unique: Option<Unique>,
}

/// For whom a job is ordered.
#[derive(Debug, Clone, Copy)]
pub struct Ordered<'a> {
    /// The schedule.
    pub id: &'a ScheduleId,
    /// Its name.
    pub name: &'a str,
    /// The job that it makes.
    pub job: &'a ScheduledJob,
    /// The tick.
    pub tick: &'a Tick,
}

impl OrderForm {
    /// What is known of a job of this queue that was found right.
    pub fn of(queue: QueueName, sample: &Submission) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            queue,
            // Each job has its own.
            envelope: Envelope {
                payload: RawValue::NULL.to_owned(),
                correlation_id: None,
                traceparent: None,
                deadline: None,
                ..sample.envelope.clone()
            },
            priority: sample.priority,
            isolated: sample.isolated,
            endless: sample.endless,
            history: sample.history,
            keep_done_ms: ms(sample.retention.done),
            keep_failed_ms: ms(sample.retention.failed),
            tenant: sample.tenant.clone(),
            limits: sample.limits.clone(),
            unique: sample.unique.clone(),
        }
    }

    /// The queue of the jobs.
    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// The job of a tick, under a new id. Made twice for one tick of a schedule, it is accepted once.
    ///
    /// # Errors
    /// Why its payload cannot be written, in words.
    pub fn order(&self, wanted: Ordered<'_>) -> Result<(JobId, Submission), String> {
        let Ordered { id, name, job, tick } = wanted;
        let payload = fill(&job.payload, tick).map_err(|name| format!("{{{{{name}}}}} stands for nothing"))?;
        let payload = to_raw_value(&payload).map_err(|error| error.to_string())?;
        if payload.get().len() > MAX_PAYLOAD_BYTES {
            return Err(format!("the payload has more than {MAX_PAYLOAD_BYTES} bytes"));
        }
        let mut submission = Submission::new(self.envelope.kind.clone(), payload.clone());
        submission.envelope = Envelope { payload, ..self.envelope.clone() };
        submission.envelope.tags.push(format!("schedule:{name}"));
        let deadline = job.deadline_s.and_then(|seconds| tick.at.checked_add(Duration::from_secs(seconds.into())).ok());
        submission.envelope.deadline = deadline;
        submission.priority = self.priority;
        submission.isolated = self.isolated;
        submission.endless = self.endless;
        submission.history = self.history;
        submission.retention = Retention {
            done: Duration::from_millis(self.keep_done_ms),
            failed: Duration::from_millis(self.keep_failed_ms),
        };
        submission.tenant.clone_from(&self.tenant);
        submission.limits.clone_from(&self.limits);
        submission.unique.clone_from(&self.unique);
        submission.idempotency_key = Some(format!("{id} {}", tick.at.as_millisecond()));
        Ok((JobId::new(self.queue.clone()), submission))
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_job_of_a_tick_is_what_was_found_right_with_the_tick_filled_in() {
        let mut sample = Submission::new("test.report".parse().unwrap(), RawValue::NULL.to_owned());
        sample.priority = Priority::High;
        sample.tenant = Some("acme".parse().unwrap());
        sample.envelope.tags = vec!["night".to_owned()];
        sample.envelope.correlation_id = Some("of the request".to_owned());
        let text = serde_json::to_string(&OrderForm::of("test".parse().unwrap(), &sample)).unwrap();
        let form: OrderForm = serde_json::from_str(&text).unwrap();

        let job: ScheduledJob = serde_json::from_value(
            json!({ "kind": "test.report", "payload": { "at": "{{tick_ms}}" }, "deadline_s": 60 }),
        )
        .unwrap();
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let tick = Tick { at, window_start: at, zone: TimeZone::UTC };
        let id = ScheduleId::random();
        let ordered = Ordered { id: &id, name: "report", job: &job, tick: &tick };
        let (one, first) = form.order(ordered).unwrap();
        let (other, second) = form.order(ordered).unwrap();
        assert_ne!(one, other);
        assert_eq!(first.idempotency_key, second.idempotency_key);
        assert_eq!(first.envelope.payload.get(), r#"{"at":1767225600000}"#);
        assert_eq!(first.envelope.tags, ["night", "schedule:report"]);
        assert_eq!(first.envelope.deadline, Some("2026-01-01T00:01:00Z".parse().unwrap()));
        assert_eq!(
            (first.priority, first.tenant, first.envelope.correlation_id),
            (Priority::High, sample.tenant, None)
        );
    }
}
