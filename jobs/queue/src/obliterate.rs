//! Deleting a queue with all its jobs, for who has said so twice.

use std::time::Duration;

use fourmi_model::QueueName;
use uuid::Uuid;

use crate::{Counts, QueueError, Queues, queues::milliseconds, read::meta_key, scripts};

/// How long a token is valid.
const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// What would be lost, and how to say so again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObliterateOffer {
    /// To be repeated.
    pub token: String,
    /// How long it is valid.
    pub valid_for: Duration,
    /// The jobs that would be lost, by their states.
    pub counts: Counts,
}

/// The answer to who repeats a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obliterated {
    /// The queue is empty, as if it were new; so many keys are gone.
    Done(u64),
    /// There is no such token, or not any more: nothing was done.
    Unasked,
    /// Jobs run: nothing was done.
    Running,
}

impl Queues {
    /// Says what [`Queues::obliterate`] would delete, and gives the token for it.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn offer_to_obliterate(&self, queue: &QueueName) -> Result<ObliterateOffer, QueueError> {
        let counts = self.counts(queue).await?;
        let token = Uuid::new_v4().simple().to_string();
        let mut call = scripts::OBLITERATE.key(meta_key(queue));
        call.arg("ask").arg(&token).arg(milliseconds(TOKEN_LIFE));
        let _asked: u8 = self.link().invoke(&call).await?;
        Ok(ObliterateOffer { token, valid_for: TOKEN_LIFE, counts })
    }

    /// Deletes everything that a queue has: jobs in every state, their logs and results, what waits to be recorded, pause,
    /// cap, slots and limit. Refused while jobs run, unless by `force`: their runs are stopped then, and what they give is
    /// lost. Meanwhile the queue takes no jobs and hands out none; workers go on with it afterwards.
    ///
    /// # Errors
    /// If Redis does not answer, or keeps this queue in another layout. If some keys were deleted already, the queue is
    /// closed until it is called again.
    pub async fn obliterate(&self, queue: &QueueName, token: &str, force: bool) -> Result<Obliterated, QueueError> {
        self.link().check_layout(queue).await?;
        let mut call = scripts::OBLITERATE.key(meta_key(queue));
        let begun: String = self.link().invoke(call.arg("begin").arg(token).arg(u8::from(force))).await?;
        match begun.as_str() {
            "begun" => {}
            "running" => return Ok(Obliterated::Running),
            _ => return Ok(Obliterated::Unasked),
        }
        // Until its job is gone a run may write keys that the first sweep has passed already.
        let gone = self.sweep(queue).await? + self.sweep(queue).await?;
        let mut call = scripts::OBLITERATE.key(meta_key(queue));
        let _done: u8 = self.link().invoke(call.arg("end")).await?;
        Ok(Obliterated::Done(gone))
    }

    /// Deletes the keys of a queue that are there from the beginning to the end of this; how many.
    async fn sweep(&self, queue: &QueueName) -> Result<u64, QueueError> {
        let (mut cursor, mut gone) = ("0".to_owned(), 0);
        loop {
            let mut call = scripts::OBLITERATE.key(meta_key(queue));
            let (next, keys): (String, u64) = self.link().invoke(call.arg("sweep").arg(&cursor)).await?;
            gone += keys;
            if next == "0" {
                return Ok(gone);
            }
            cursor = next;
        }
    }
}
