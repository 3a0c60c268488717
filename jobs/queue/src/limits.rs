//! Limits over all processes, and the weights of tenants.

use std::collections::BTreeMap;

use fourmi_model::{JobId, Limit, LimitName, LimitState, QueueName, Rate, TenantName};
use redis::Value;
use uuid::Uuid;

use crate::{
    QueueError, Queues,
    read::{key, meta_key, number, text},
    scripts,
};

/// The limits that a queue may have: what has many values gets one for its class.
pub const MAX_QUEUE_LIMITS: u64 = 1_000;

/// The heaviest weight of a tenant.
pub const MAX_WEIGHT: u32 = 100;

impl Queues {
    /// Sets a limit of a queue; `None` for no such limit. In force with the next fetch of any process. What runs goes on,
    /// and jobs that started before there was a limit do not count against it. Whether it was set: no, if the queue has
    /// [`MAX_QUEUE_LIMITS`] already.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn set_limit(
        &self,
        queue: &QueueName,
        name: &LimitName,
        limit: Option<Limit>,
    ) -> Result<bool, QueueError> {
        self.link().check_layout(queue).await?;
        let word = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
        let mut call = scripts::LIMIT.key(meta_key(queue));
        call.arg(name.as_str());
        match limit {
            None => call.arg("").arg("-").arg("-"),
            Some(Limit { concurrency, rate: None }) => call.arg(word(concurrency)).arg("-").arg("-"),
            Some(Limit { concurrency, rate: Some(rate) }) => {
                // The words in which it was said come behind what the scripts need of it.
                let bucket = format!("{} {rate}", rate.capacity());
                call.arg(word(concurrency)).arg(rate.per_second()).arg(bucket)
            }
        };
        let set: bool = self.link().invoke(call.arg(MAX_QUEUE_LIMITS)).await?;
        if name.is_class() {
            self.rouse(queue, name.class()).await?;
        }
        Ok(set)
    }

    async fn rouse(&self, queue: &QueueName, class: &str) -> Result<(), QueueError> {
        let mut cursor = "0".to_owned();
        loop {
            let mut call = scripts::ROUSE.key(meta_key(queue));
            cursor = self.link().invoke(call.arg(class).arg(&cursor)).await?;
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    /// The limits of a queue, and how far they are used, by name. Of a class, what each value uses is not told.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn limits(&self, queue: &QueueName) -> Result<Vec<LimitState>, QueueError> {
        let mut names: Vec<String> = self.link().query(redis::cmd("HKEYS").arg(key(queue, "limits"))).await?;
        names.sort_unstable();
        let mut call = scripts::LIMITS.key(meta_key(queue));
        call.arg("").arg(names);
        Self::limit_states(queue, &self.link().invoke::<Vec<Vec<Value>>>(&call).await?)
    }

    /// The limits that bind a job now, and how far they are used.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn limits_of(&self, id: &JobId) -> Result<Vec<LimitState>, QueueError> {
        let mut call = scripts::LIMITS.key(meta_key(id.queue()));
        call.arg(id.uuid().hyphenated().to_string());
        Self::limit_states(id.queue(), &self.link().invoke::<Vec<Vec<Value>>>(&call).await?)
    }

    fn limit_states(queue: &QueueName, rows: &[Vec<Value>]) -> Result<Vec<LimitState>, QueueError> {
        let states = rows.iter().map(|row| limit_state(queue, row));
        states.collect::<Option<_>>().ok_or_else(|| QueueError::Corrupt(format!("the limits of queue {queue}")))
    }

    /// Sets how many jobs a tenant's lanes give in their turn (1, as everybody, to [`MAX_WEIGHT`]).
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn set_weight(&self, queue: &QueueName, tenant: &TenantName, weight: u32) -> Result<(), QueueError> {
        self.link().check_layout(queue).await?;
        let mut call = scripts::WEIGH.key(meta_key(queue));
        let _set: u8 = self.link().invoke(call.arg(tenant.as_str()).arg(weight.clamp(1, MAX_WEIGHT))).await?;
        Ok(())
    }

    /// The weights of the tenants that have another than 1.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn weights(&self, queue: &QueueName) -> Result<BTreeMap<TenantName, u32>, QueueError> {
        let weights: BTreeMap<String, u32> =
            self.link().query(redis::cmd("HGETALL").arg(key(queue, "weights"))).await?;
        Ok(weights.into_iter().filter_map(|(tenant, weight)| Some((tenant.parse().ok()?, weight))).collect())
    }
}

/// What `limits.lua` says of one.
fn limit_state(queue: &QueueName, row: &[Value]) -> Option<LimitState> {
    let [name, concurrency, rate, running, tokens, asleep, holders] = row else { return None };
    let holders = match holders {
        Value::Array(ids) => ids.iter().filter_map(|id| Uuid::try_parse(text(id)).ok()).collect(),
        _ => Vec::new(),
    };
    Some(LimitState {
        name: text(name).parse().ok()?,
        limit: Limit { concurrency: text(concurrency).parse().ok(), rate: text(rate).parse::<Rate>().ok() },
        running: number(running).try_into().ok()?,
        tokens: text(tokens).parse().ok(),
        lanes_asleep: number(asleep).try_into().ok()?,
        holders: holders.into_iter().map(|uuid| JobId::from_parts(queue.clone(), uuid)).collect(),
    })
}
