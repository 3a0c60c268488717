//! Flows: jobs that wait for each other, submitted and seen as a whole.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use fourmi_model::{
    BATCH_KIND, Job, JobId, KindName, ParentOutcome, QueueName, Scope, State, Submission, TenantName, Tie,
};
use fourmi_queue::{Flow, FlowEdge, FlowJob, Pushed, QueueError, Refusal};
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{HeaderValue, Method, StatusCode, header::LOCATION},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{json, value::to_raw_value};
use uuid::Uuid;

use crate::{
    body,
    caller::Caller,
    headers,
    operation::{JSON, Operation, Place, schema, state_of},
    problem::{Code, Problem},
    redis::in_time,
    routes::{
        flow_plan::{Before, FlowSubmission, Plan},
        jobs::{IDEMPOTENCY_REPLAYED, Jobs, PUSH_AGAIN, unknown_job},
        parents,
        webhooks::check_target,
    },
};

/// The largest flow, in bytes of JSON.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// An accepted flow.
#[derive(Serialize, JsonSchema)]
struct FlowAccepted {
    /// Its jobs, in the order in which they were sent.
    jobs: Vec<FlowMember>,
    /// The job that stands for all of them, if they are a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<JobId>,
    /// The job that follows the batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    then: Option<JobId>,
}

/// A job of a flow.
#[derive(Serialize, JsonSchema)]
struct FlowMember {
    /// Its name in the flow.
    name: String,
    /// Its id; not one of its own if the job is unique and there is another of its like.
    id: JobId,
}

/// The flow around a job.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Flow")]
struct FlowDocument {
    /// The jobs; the one that was asked for comes first.
    jobs: Vec<FlowJobDocument>,
    /// What ties them.
    edges: Vec<FlowEdgeDocument>,
    /// Whether there are more jobs than are shown (1,000).
    cut: bool,
}

/// A job of a flow.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FlowJob")]
struct FlowJobDocument {
    /// The id.
    id: JobId,
    /// The type; not there if nothing is known of the job any longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<KindName>,
    /// Where it is in its life; not there if nothing is known of the job any longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    /// How far it is, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<f32>,
    /// The code of its newest error.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    finished_at: Option<Timestamp>,
    /// Whether the queue has forgotten it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    archived: bool,
}

/// A tie between two jobs.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FlowEdge")]
struct FlowEdgeDocument {
    /// The earlier one: what is waited for, a member of the batch, what made the other.
    from: JobId,
    /// The later one: what waits, the batch, what was made.
    to: JobId,
    /// What ties them.
    tie: Tie,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new("submit_flow", Method::POST, "/api/v1/flows", submit_flow)
            .needs(&[Scope::JobsSubmit])
.says("Submits jobs that wait for each other", SUBMIT)
            .takes(Place::Header, "Idempotency-Key", schema::<String>, "Sent twice with the same flow, each of its jobs is accepted once; a flow of which only a part was accepted is completed.")
            .reads(JSON, schema::<FlowSubmission<'static>>)
            .answers(StatusCode::ACCEPTED, JSON, schema::<FlowAccepted>, "All its jobs are accepted.")
            .with_headers(&["Location", "Idempotency-Replayed"])
            .fails(&[Code::BadRequest, Code::InvalidHeader, Code::InvalidJson, Code::IdempotencyConflict])
            .fails(&[Code::PayloadTooLarge, Code::InvalidRequest, Code::UnknownKind, Code::InvalidPayload])
            .fails(&[Code::KindInternal, Code::KindStaffOnly, Code::KindOperatorsOnly, Code::MissingFile, Code::UnknownParent, Code::Cycle])
            .fails(&[Code::QueueFull, Code::RedisFull, Code::RedisUnavailable, Code::RecordsUnavailable])
            .fails(&[Code::DiskFull]),
        Operation::new("get_flow", Method::GET, "/api/v1/flows/{id}", get_flow)
            .needs(&[Scope::JobsRead])
.says("Shows the flow around a job", "The jobs that can be reached from it: those that it waits for, those that wait for it, its batch, those that it has made; 1,000 at most.")
            .takes(Place::Path, "id", schema::<JobId>, "Any job of the flow.")
            .answers(StatusCode::OK, JSON, schema::<FlowDocument>, "The flow.")
            .fails(&[Code::UnknownJob, Code::RedisUnavailable, Code::RecordsUnavailable]),
    ]
}

const SUBMIT: &str = "Up to 1,000 jobs, each with a name by which others wait for it (`after`), so that a chain, a fan-out and a fan-in are \
    written alike. `after` may also name jobs that are there already, by their ids. All are checked before the first is accepted. With \
    `batch`, a job of the kind `flow.batch` stands for all of them: it has one progress, ends when the last of them has, and fails if one \
    of them did not succeed; `then` is a job that follows it.";

#[handler]
async fn submit_flow(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let key = headers::idempotency_key(request.headers())?;
    let wanted: FlowSubmission<'_> = body::parse(body::read_up_to(request, MAX_BYTES).await?)?;
    let caller = Caller::of(depot)?;
    for job in wanted.jobs.iter().chain(&wanted.then) {
        jobs.check_room(&job.kind)?;
    }
    for job in &wanted.jobs {
        jobs.keeper.limits().count_kind(&job.kind, &caller).await?;
    }
    let flow = Checked::of(&jobs, &caller, wanted, key.as_deref()).await?;
    let mut push = Push::new(&jobs, flow, key.is_some()).await?;
    let accepted = match push.all().await {
        Ok(accepted) => accepted,
        Err(problem) => {
            push.undo().await;
            return Err(problem);
        }
    };
    let place = accepted.batch.as_ref().or(accepted.jobs.first().map(|job| &job.id)).ok_or_else(unknown_job)?;
    response.headers_mut().insert(LOCATION, headers::value(format!("/api/v1/flows/{place}"))?);
    if push.existed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    body::write(response, StatusCode::ACCEPTED, &accepted)
}

/// A flow whose every job may be pushed.
struct Checked {
    plan: Plan,
    ids: Vec<JobId>,
    submissions: Vec<Submission>,
    /// What became of jobs that it waits for and that the queues have forgotten.
    known: Vec<(JobId, ParentOutcome)>,
    batch: Option<(JobId, Submission)>,
    then: Option<(JobId, Submission)>,
}

impl Checked {
    async fn of(
        jobs: &Jobs,
        caller: &Caller,
        mut wanted: FlowSubmission<'_>,
        key: Option<&str>,
    ) -> Result<Self, Problem> {
        let plan = Plan::of(&mut wanted)?;
        let policies: Vec<_> = wanted.jobs.iter().map(|job| job.on_parent_failure).collect();
        let others = plan.before.iter().enumerate().flat_map(|(place, before)| {
            let policy = policies[place];
            before.iter().enumerate().filter_map(move |(index, before)| match before {
                Before::Other(id) => Some((format!("jobs[{place}].after[{index}]"), id, policy)),
                Before::Member(_) => None,
            })
        });
        let known = parents::look_up(jobs, caller, others.collect()).await?;
        let (mut ids, mut submissions) = (Vec::new(), Vec::new());
        for (place, job) in wanted.jobs.into_iter().enumerate() {
            let checked = job.check(&jobs.kinds, jobs, caller, None).await;
            let (id, submission) = checked.map_err(|problem| problem.within(&format!("jobs[{place}]")))?;
            ids.push(id);
            submissions.push(submission);
        }
        let then = match wanted.then {
            Some(then) => {
                let checked = then.check(&jobs.kinds, jobs, caller, None).await;
                Some(checked.map_err(|problem| problem.within("then"))?)
            }
            None => None,
        };
        let batch = match ids.first() {
            Some(first) if wanted.batch => {
                let (id, mut submission) = handle(first.queue(), wanted.name.as_deref(), ids.len())?;
                submission.tenant = submissions.first().and_then(|job| job.tenant.clone());
                submission.envelope.submitted_by = Some(caller.id().to_owned());
                if let Some(target) = &wanted.webhook {
                    check_target(jobs, caller, target).await?;
                }
                submission.envelope.webhook = wanted.webhook;
                Some((id, submission))
            }
            _ => None,
        };
        let mut flow = Self { plan, ids, submissions, known, batch, then };
        if let Some(key) = key {
            flow.name_by(key, caller);
        }
        flow.tie();
        Ok(flow)
    }

    /// Gives the jobs the ids that they have whenever the flow is sent with this key.
    fn name_by(&mut self, key: &str, caller: &Caller) {
        let tenant = self.submissions.first().and_then(|job| job.tenant.as_ref()).map_or("", TenantName::as_str);
        let own = if caller.own_only() { format!("{}:", caller.id()) } else { String::new() };
        let flow = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("fourmi:flow:{tenant}:{own}{key}").as_bytes());
        let id =
            |queue: &QueueName, name: String| JobId::from_parts(queue.clone(), Uuid::new_v5(&flow, name.as_bytes()));
        for (job, name) in self.ids.iter_mut().zip(&self.plan.names) {
            *job = id(job.queue(), format!("job:{name}"));
        }
        for (role, job) in [("batch", &mut self.batch), ("then", &mut self.then)] {
            if let Some((job, _)) = job {
                *job = id(job.queue(), role.to_owned());
            }
        }
    }

    fn tie(&mut self) {
        let Some((batch, _)) = &self.batch else { return };
        for submission in &mut self.submissions {
            submission.envelope.batch = Some(batch.clone());
        }
        if let Some((_, then)) = &mut self.then {
            then.envelope.after = vec![batch.clone()];
        }
    }
}

/// The job that stands for a batch.
fn handle(queue: &QueueName, name: Option<&str>, jobs: usize) -> Result<(JobId, Submission), Problem> {
    let payload = match name {
        Some(name) => json!({ "name": name, "jobs": jobs }),
        None => json!({ "jobs": jobs }),
    };
    let kind = BATCH_KIND.parse().map_err(Problem::internal)?;
    let submission = Submission::new(kind, to_raw_value(&payload).map_err(Problem::internal)?);
    Ok((JobId::new(queue.clone()), submission))
}

/// A flow on its way into the queues.
struct Push<'a> {
    jobs: &'a Jobs,
    flow: Checked,
    /// Whether it was sent with a key: then what was accepted stays, to be completed later.
    keyed: bool,
    /// What became of its own jobs that were accepted long ago and that the queues have forgotten.
    archived: HashMap<JobId, ParentOutcome>,
    /// The ids under which its jobs were accepted.
    accepted: Vec<Option<JobId>>,
    /// Whether all that was pushed had been accepted before.
    existed: bool,
}

impl<'a> Push<'a> {
    async fn new(jobs: &'a Jobs, flow: Checked, keyed: bool) -> Result<Self, Problem> {
        let accepted = vec![None; flow.ids.len()];
        let mut push = Self { jobs, flow, keyed, archived: HashMap::new(), accepted, existed: keyed };
        if keyed {
            push.compare_with_earlier().await?;
        }
        Ok(push)
    }

    /// What was accepted under the key must be what was sent now.
    async fn compare_with_earlier(&mut self) -> Result<(), Problem> {
        let Checked { ids, submissions, batch, then, .. } = &self.flow;
        let others = batch.iter().chain(then).map(|(id, submission)| (id, submission));
        for (id, submission) in ids.iter().zip(submissions).chain(others) {
            let earlier = match in_time(self.jobs.queues.get(id)).await? {
                Some(job) => Some(job),
                None => self.jobs.record(id).await?.map(|record| record.job),
            };
            let Some(job) = earlier else { continue };
            if !is_same(&job, submission) {
                return Err(Refusal::IdempotencyConflict(job.id).into());
            }
            if job.archived {
                self.archived.insert(job.id.clone(), parents::outcome(job));
            }
        }
        Ok(())
    }

    async fn all(&mut self) -> Result<FlowAccepted, Problem> {
        for level in self.flow.plan.levels.clone() {
            let mut by_queue: BTreeMap<QueueName, Vec<usize>> = BTreeMap::new();
            for place in level {
                let id = self.flow.ids[place].clone();
                if self.archived.contains_key(&id) {
                    self.accepted[place] = Some(id);
                } else {
                    by_queue.entry(id.queue().clone()).or_default().push(place);
                }
            }
            for (queue, places) in by_queue {
                self.push_many(&queue, &places).await?;
            }
        }
        let members: Vec<JobId> = self.accepted.iter().flatten().cloned().collect();
        let batch = self.push_batch(&members).await?;
        let then = match self.flow.then.clone() {
            Some((id, submission)) => Some(self.push_one(&id, &submission).await?),
            None => None,
        };
        let named = self.flow.plan.names.iter().cloned().zip(members);
        Ok(FlowAccepted { jobs: named.map(|(name, id)| FlowMember { name, id }).collect(), batch, then })
    }

    /// The job at this place, with the ids of those that it waits for.
    fn submission(&self, place: usize) -> Submission {
        let mut submission = self.flow.submissions[place].clone();
        let mut after: Vec<JobId> = Vec::new();
        for before in &self.flow.plan.before[place] {
            let id = match before {
                Before::Member(parent) => self.accepted[*parent].as_ref().unwrap_or(&self.flow.ids[*parent]),
                Before::Other(id) => id,
            };
            // Two names may stand for one job that is unique.
            if !after.contains(id) {
                after.push(id.clone());
            }
        }
        let known = self.flow.known.iter().filter(|(id, _)| after.contains(id)).cloned();
        let archived = after.iter().filter_map(|id| Some((id.clone(), self.archived.get(id)?.clone())));
        submission.known_parents = known.chain(archived).collect();
        submission.envelope.after = after;
        submission
    }

    async fn push_many(&mut self, queue: &QueueName, places: &[usize]) -> Result<(), Problem> {
        let job = |place: &usize| (self.flow.ids[*place].clone(), self.submission(*place));
        let jobs: Vec<_> = places.iter().map(job).collect();
        let pushed = in_time(self.jobs.push_many(queue, &jobs)).await?;
        let mut refused = None;
        for (place, answer) in places.iter().zip(pushed) {
            match answer {
                Ok(pushed) => {
                    self.existed &= pushed.existing();
                    self.accepted[*place] = Some(pushed.id);
                }
                Err(refusal) => refused = Some(refusal),
            }
        }
        refused.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    async fn push_batch(&mut self, members: &[JobId]) -> Result<Option<JobId>, Problem> {
        let Some((id, submission)) = self.flow.batch.clone() else { return Ok(None) };
        if self.archived.contains_key(&id) {
            return Ok(Some(id));
        }
        let mut members = members.to_vec();
        members.sort_unstable();
        members.dedup();
        let pushed = in_time(self.jobs.push_batch(&id, &submission, &members)).await??;
        self.existed &= pushed.existing();
        Ok(Some(pushed.id))
    }

    async fn push_one(&mut self, id: &JobId, submission: &Submission) -> Result<JobId, Problem> {
        if self.archived.contains_key(id) {
            return Ok(id.clone());
        }
        let pushed = in_time(self.jobs.push(id, submission)).await??;
        self.existed &= pushed.existing();
        Ok(pushed.id)
    }

    /// Takes back what was accepted of a flow that nobody can complete.
    async fn undo(&self) {
        if self.keyed {
            return;
        }
        for id in self.accepted.iter().flatten().filter(|id| self.flow.ids.contains(id)) {
            if let Err(error) = self.jobs.queues.cancel(id).await {
                tracing::warn!(job.id = %id, %error, "a job of a flow that was refused could not be cancelled");
            }
        }
    }
}

impl Jobs {
    /// Puts jobs into one queue, again and again while Redis does not answer, as [`Jobs::push`] does.
    pub(super) async fn push_many(
        &self,
        queue: &QueueName,
        jobs: &[(JobId, Submission)],
    ) -> Result<Vec<Result<Pushed, Refusal>>, QueueError> {
        loop {
            match self.queues.push_many(queue, jobs).await {
                Err(QueueError::Unavailable(_)) => tokio::time::sleep(PUSH_AGAIN).await,
                answer => return answer,
            }
        }
    }

    async fn push_batch(
        &self,
        id: &JobId,
        submission: &Submission,
        members: &[JobId],
    ) -> Result<Result<Pushed, Refusal>, QueueError> {
        loop {
            match self.queues.push_batch(id.clone(), submission.clone(), members).await {
                Err(QueueError::Unavailable(_)) => tokio::time::sleep(PUSH_AGAIN).await,
                answer => return answer,
            }
        }
    }
}

fn is_same(job: &Job, submission: &Submission) -> bool {
    let payload = serde_json::from_str(submission.envelope.payload.get()).ok();
    job.kind == submission.envelope.kind && Some(&job.payload) == payload.as_ref()
}

#[handler]
async fn get_flow(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let id = jobs.seen_by(&caller, request).await?;
    let mut starts = vec![id.clone()];
    if in_time(jobs.queues.get(&id)).await?.is_none() {
        let job = jobs.record(&id).await?.ok_or_else(unknown_job)?.job;
        let others = FlowEdge::of(&job).into_iter().flat_map(|edge| [edge.from, edge.to]);
        starts.extend(others.filter(|other| *other != id));
    }
    let Flow { jobs: found, mut edges, cut } = in_time(jobs.queues.flow(&starts)).await?;
    let mut documents = Vec::with_capacity(found.len());
    for FlowJob { id, job } in found {
        let job = match job {
            Some(job) => Some(job),
            None => jobs.record(&id).await?.map(|record| record.job),
        };
        if let Some(job) = job.as_ref().filter(|job| job.archived) {
            edges.extend(FlowEdge::of(job));
        }
        if caller.sees_all() || job.as_ref().is_some_and(|job| caller.sees_job(job)) {
            documents.push(document(id, job));
        }
    }
    edges.retain(|edge| [&edge.from, &edge.to].iter().all(|end| documents.iter().any(|job| job.id == **end)));
    edges.sort_unstable();
    edges.dedup();
    let edges = edges.into_iter().map(|FlowEdge { from, to, tie }| FlowEdgeDocument { from, to, tie }).collect();
    body::write(response, StatusCode::OK, &FlowDocument { jobs: documents, edges, cut })
}

fn document(id: JobId, job: Option<Job>) -> FlowJobDocument {
    let known = job.as_ref();
    FlowJobDocument {
        id,
        kind: known.map(|job| job.kind.clone()),
        state: known.map(|job| job.state),
        percent: known.and_then(|job| job.progress.as_ref()).map(|progress| progress.percent),
        error: known.and_then(|job| job.error.as_ref()).map(|error| error.code.clone()),
        finished_at: known.and_then(|job| job.finished_at),
        archived: known.is_none_or(|job| job.archived),
    }
}
