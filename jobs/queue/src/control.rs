//! Steering a queue as a whole: pause, cap, slots, processes, limit; draining one of its worker processes.

use fourmi_model::QueueName;

use crate::{QueueError, Queues, link::Link, read::meta_key, scripts};

/// What steers a queue as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Control {
    /// Whether nothing is fetched; what runs goes on.
    pub paused: bool,
    /// Running jobs at most, of all processes together; exact.
    pub cap: Option<u32>,
    /// Slots of all worker processes together, shared out among those that live; each has its own number if not set.
    pub slots: Option<u32>,
    /// Worker processes that each supervisor keeps running; one if not set.
    pub processes: Option<u32>,
    /// Waiting and scheduled jobs at most: further ones are refused.
    pub limit: Option<u64>,
}

/// What to change of it; what is `None` stays, an inner `None` takes the setting away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ControlChange {
    /// Pause or go on.
    pub paused: Option<bool>,
    /// See [`Control::cap`].
    pub cap: Option<Option<u32>>,
    /// See [`Control::slots`].
    pub slots: Option<Option<u32>>,
    /// See [`Control::processes`].
    pub processes: Option<Option<u32>>,
    /// See [`Control::limit`].
    pub limit: Option<Option<u64>>,
}

impl Queues {
    /// What steers a queue now.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn control(&self, queue: &QueueName) -> Result<Control, QueueError> {
        let mut command = redis::cmd("HMGET");
        command.arg(meta_key(queue)).arg("paused").arg("cap").arg("slots").arg("processes").arg("limit");
        let (paused, cap, slots, processes, limit): (Option<String>, _, _, _, _) = self.link().query(&command).await?;
        Ok(Control { paused: paused.is_some(), cap, slots, processes, limit })
    }

    /// Changes what steers a queue, all at one moment. It is in force at the next fetch or push; shares of slots within a
    /// second.
    ///
    /// # Errors
    /// If Redis does not answer, or keeps this queue in another layout.
    pub async fn set_control(&self, queue: &QueueName, change: &ControlChange) -> Result<(), QueueError> {
        self.link().check_layout(queue).await?;
        let number = |number: Option<Option<u64>>| number.map(|it| it.map_or_else(String::new, |it| it.to_string()));
        let paused = change.paused.map(|paused| if paused { "1".to_owned() } else { String::new() });
        set(
            self.link(),
            queue,
            &[
                ("paused", paused),
                ("cap", number(change.cap.map(|cap| cap.map(u64::from)))),
                ("slots", number(change.slots.map(|slots| slots.map(u64::from)))),
                ("processes", number(change.processes.map(|processes| processes.map(u64::from)))),
                ("limit", number(change.limit)),
            ],
        )
        .await
    }

    /// Fetches nothing more from a queue; what runs goes on.
    ///
    /// # Errors
    /// As [`Queues::set_control`].
    pub async fn pause(&self, queue: &QueueName) -> Result<(), QueueError> {
        self.set_control(queue, &ControlChange { paused: Some(true), ..ControlChange::default() }).await
    }

    /// Fetches from a queue again.
    ///
    /// # Errors
    /// As [`Queues::set_control`].
    pub async fn resume(&self, queue: &QueueName) -> Result<(), QueueError> {
        self.set_control(queue, &ControlChange { paused: Some(false), ..ControlChange::default() }).await
    }

    /// Lets at most so many jobs of a queue run at the same time; `None`: as many as there are slots.
    ///
    /// # Errors
    /// As [`Queues::set_control`].
    pub async fn set_cap(&self, queue: &QueueName, cap: Option<u32>) -> Result<(), QueueError> {
        self.set_control(queue, &ControlChange { cap: Some(cap), ..ControlChange::default() }).await
    }

    /// Shares so many slots out among the worker processes of a queue; `None`: each has its own number.
    ///
    /// # Errors
    /// As [`Queues::set_control`].
    pub async fn set_slots(&self, queue: &QueueName, slots: Option<u32>) -> Result<(), QueueError> {
        self.set_control(queue, &ControlChange { slots: Some(slots), ..ControlChange::default() }).await
    }

    /// Takes new jobs into a queue only while fewer than so many are waiting or scheduled; `None`: always.
    ///
    /// # Errors
    /// As [`Queues::set_control`].
    pub async fn set_backlog_limit(&self, queue: &QueueName, limit: Option<u64>) -> Result<(), QueueError> {
        self.set_control(queue, &ControlChange { limit: Some(limit), ..ControlChange::default() }).await
    }

    /// Tells a worker process to fetch no more jobs and to end once its runs have, as SIGTERM would; whether there is such
    /// a process.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn drain(&self, queue: &QueueName, worker: &str) -> Result<bool, QueueError> {
        let mut call = scripts::DRAIN.key(meta_key(queue));
        let known: u8 = self.link().invoke(call.arg(worker)).await?;
        Ok(known == 1)
    }
}

/// Sets fields that steer a queue; what is `None` stays, the text '' takes a field away.
async fn set(link: &Link, queue: &QueueName, fields: &[(&str, Option<String>)]) -> Result<(), QueueError> {
    let mut call = scripts::CONTROL.key(meta_key(queue));
    for (name, value) in fields {
        if let Some(value) = value {
            call.arg(name).arg(value);
        }
    }
    let _done: u8 = link.invoke(&call).await?;
    Ok(())
}
