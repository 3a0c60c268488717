//! Submitting a job.

use std::{marker::PhantomData, time::Duration};

use fourmi_kinds::JobKind;
use fourmi_model::{
    Job, JobId, LimitName, ParentFailure, PolicyOverrides, Priority, State, TenantName, Unique, WebhookTarget,
};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;

use crate::{Client, ClientError, Updates};

/// In the place of a kind: the payload is plain JSON.
#[derive(Debug, Clone, Copy)]
pub enum Raw {}

/// A job about to be submitted. Nothing is sent before [`send`](Self::send).
#[must_use = "a job is submitted by send()"]
pub struct Submit<K> {
    client: Client,
    body: Result<Body, serde_json::Error>,
    kind: PhantomData<fn() -> K>,
}

#[derive(Serialize)]
struct Body {
    kind: String,
    payload: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    #[serde(skip_serializing_if = "PolicyOverrides::is_empty")]
    policy: PolicyOverrides,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_ttl_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<TenantName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<LimitName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<Unique>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    after: Vec<JobId>,
    #[serde(skip_serializing_if = "ParentFailure::is_default")]
    on_parent_failure: ParentFailure,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<WebhookTarget>,
}

impl Client {
    /// A job of the kind of `payload`.
    pub fn submit<K: JobKind>(&self, payload: &K) -> Submit<K> {
        Submit::new(self, K::NAME, serde_json::to_value(payload))
    }

    /// A job of any kind, known to this build or not.
    pub fn submit_raw(&self, kind: &str, payload: Value) -> Submit<Raw> {
        Submit::new(self, kind, Ok(payload))
    }
}

impl<K> Submit<K> {
    fn new(client: &Client, kind: &str, payload: Result<Value, serde_json::Error>) -> Self {
        let body = payload.map(|payload| Body {
            kind: kind.to_owned(),
            payload,
            priority: None,
            not_before: None,
            deadline: None,
            policy: PolicyOverrides::default(),
            tags: Vec::new(),
            correlation_id: None,
            idempotency_key: None,
            idempotency_ttl_s: None,
            tenant: None,
            limits: Vec::new(),
            unique: None,
            after: Vec::new(),
            on_parent_failure: ParentFailure::default(),
            webhook: None,
        });
        Self { client: client.clone(), body, kind: PhantomData }
    }

    fn with(mut self, change: impl FnOnce(&mut Body)) -> Self {
        if let Ok(body) = &mut self.body {
            change(body);
        }
        self
    }

    /// How urgent it is; by default what its kind says.
    pub fn priority(self, priority: Priority) -> Self {
        self.with(|body| body.priority = Some(priority))
    }

    /// Not before this time (RFC 3339).
    pub fn not_before(self, time: impl Into<String>) -> Self {
        self.with(|body| body.not_before = Some(time.into()))
    }

    /// A run that would start after this time (RFC 3339) does not; the job then fails with `expired`.
    pub fn deadline(self, time: impl Into<String>) -> Self {
        self.with(|body| body.deadline = Some(time.into()))
    }

    /// Not before these jobs, of any queues, are over; may be called several times.
    pub fn after(self, ids: impl IntoIterator<Item = JobId>) -> Self {
        self.with(|body| body.after.extend(ids))
    }

    /// What becomes of it when one of those does not succeed; without this it is cancelled.
    pub fn on_parent_failure(self, policy: ParentFailure) -> Self {
        self.with(|body| body.on_parent_failure = policy)
    }

    /// What differs from the kind's policy.
    pub fn policy(self, policy: PolicyOverrides) -> Self {
        self.with(|body| body.policy = policy)
    }

    /// A label more, to find the job by.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.with(|body| body.tags.push(tag.into()))
    }

    /// A word that runs through all logs.
    pub fn correlation_id(self, id: impl Into<String>) -> Self {
        self.with(|body| body.correlation_id = Some(id.into()))
    }

    /// The same key and payload give the same job, however often they are sent within a day.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.with(|body| body.idempotency_key = Some(key.into()))
    }

    /// How long the idempotency key is remembered instead of a day, between a second and thirty days.
    pub fn idempotency_ttl(self, life: Duration) -> Self {
        self.with(|body| body.idempotency_ttl_s = Some(life.as_secs()))
    }

    /// Whose the job is: the jobs of each tenant wait in lanes of their own, which take turns.
    pub fn tenant(self, tenant: TenantName) -> Self {
        self.with(|body| body.tenant = Some(tenant))
    }

    /// One more limit that binds the job, such as `host/example.org`; two at most.
    pub fn limit(self, name: LimitName) -> Self {
        self.with(|body| body.limits.push(name))
    }

    /// The job excludes its like: the answer to a second one is the first.
    pub fn unique(self, unique: Unique) -> Self {
        self.with(|body| body.unique = Some(unique))
    }

    /// Who is told of its end, beside those who are told of every job's.
    pub fn webhook(self, target: WebhookTarget) -> Self {
        self.with(|body| body.webhook = Some(target))
    }

    /// Submits the job. Once this returns, the job is kept.
    ///
    /// # Errors
    /// `unknown_kind`, `kind_internal`, `kind_staff_only`, `kind_operators_only`, `invalid_payload`, `payload_too_large`,
    /// `idempotency_conflict`, `unknown_parent`; `queue_full`, `redis_full`, `disk_full`, `redis_unavailable` with the time
    /// after which to try again.
    pub async fn send(self) -> Result<JobHandle<K>, ClientError> {
        let mut body = self.body.map_err(unusable)?;
        let key = body.idempotency_key.take();
        let mut request = self.client.request(Method::POST, ["jobs"]).json(&body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = self.client.send(request).await?;
        let says = |name| answer.headers().get(name).is_some_and(|value| value.as_bytes() == b"true");
        let (replayed, is_like) = (says("idempotency-replayed"), says("unique-conflict"));
        let job = self.client.read_json(answer).await?;
        Ok(JobHandle { client: self.client, accepted: job, replayed, is_like, kind: PhantomData })
    }
}

impl<K> Submit<K> {
    /// The job as it stands among others.
    pub(crate) fn line(self) -> Result<String, ClientError> {
        self.body.and_then(|body| serde_json::to_string(&body)).map_err(unusable)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn unusable(error: serde_json::Error) -> ClientError {
    ClientError::Unusable(format!("the payload is no JSON: {error}"))
}

/// An accepted job.
pub struct JobHandle<K> {
    client: Client,
    accepted: Job,
    replayed: bool,
    is_like: bool,
    kind: PhantomData<fn() -> K>,
}

impl<K> JobHandle<K> {
    /// Its id.
    pub fn id(&self) -> &JobId {
        &self.accepted.id
    }

    /// The job as it was when it was accepted.
    pub fn accepted(&self) -> &Job {
        &self.accepted
    }

    /// Whether it had been accepted before, under the same idempotency key.
    pub fn replayed(&self) -> bool {
        self.replayed
    }

    /// Whether it is another job, which was accepted before and excludes its like.
    pub fn is_like(&self) -> bool {
        self.is_like
    }

    /// What happens to it from now on; see [`Client::events`].
    pub fn events(&self) -> Updates {
        self.client.events(self.id())
    }

    /// The job once it is over; see [`Client::wait`].
    ///
    /// # Errors
    /// As [`Client::wait`].
    pub async fn wait(&self) -> Result<Job, ClientError> {
        self.client.wait(self.id()).await
    }
}

impl<K: JobKind> JobHandle<K> {
    /// Waits for the job's result.
    ///
    /// # Errors
    /// [`ClientError::NotSucceeded`] if it failed or was cancelled; and as [`Client::wait`].
    pub async fn output(&self) -> Result<K::Output, ClientError> {
        let job = self.wait().await?;
        if job.state != State::Succeeded {
            return Err(ClientError::NotSucceeded(Box::new(job)));
        }
        serde_json::from_value(job.result.unwrap_or_default())
            .map_err(|error| ClientError::Protocol(format!("the result of {} is not of its kind: {error}", job.id)))
    }
}
