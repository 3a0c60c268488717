//! The flow that a job is part of: what it waits for, what waits for it, what it made, its batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fourmi_model::{Job, JobId, QueueName, Tie};
use redis::Value;

use super::{hyphenated, job_id};
use crate::{
    QueueError, Queues,
    link::Link,
    read::{self, meta_key, text},
    scripts,
};

/// Jobs of a flow that are shown at most.
const MOST: usize = 1_000;

/// Jobs that are read at once.
const BATCH: usize = 100;

/// A job of a flow.
#[derive(Debug, Clone)]
pub struct FlowJob {
    /// Its id.
    pub id: JobId,
    /// The job; `None` if the queue has forgotten it.
    pub job: Option<Job>,
}

/// A tie between two jobs of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowEdge {
    /// The earlier one: what is waited for, the member of a batch, or what made the other.
    pub from: JobId,
    /// The later one.
    pub to: JobId,
    /// What ties them.
    pub tie: Tie,
}

/// The jobs that can be reached from one, and their ties.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The jobs, in the order in which they were met; those that were asked for come first.
    pub jobs: Vec<FlowJob>,
    /// The ties among them.
    pub edges: Vec<FlowEdge>,
    /// Whether there are more jobs than are shown (1,000).
    pub cut: bool,
}

impl Queues {
    /// The flow around these jobs.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn flow(&self, ids: &[JobId]) -> Result<Flow, QueueError> {
        let mut walk = Walk::default();
        ids.iter().for_each(|id| walk.meet(id));
        while let Some(next) = walk.next_ids() {
            let (jobs, kin) = (jobs(self.link(), &next).await?, kin(self.link(), &next).await?);
            for id in next {
                jobs.get(&id).map(FlowEdge::of).into_iter().flatten().for_each(|edge| walk.tie(edge));
                kin.get(&id).into_iter().flatten().for_each(|kin| walk.meet(kin));
                walk.jobs.push(FlowJob { job: jobs.get(&id).cloned(), id });
            }
        }
        Ok(walk.end())
    }
}

#[derive(Default)]
struct Walk {
    met: BTreeSet<JobId>,
    waiting: Vec<JobId>,
    jobs: Vec<FlowJob>,
    edges: BTreeSet<FlowEdge>,
    cut: bool,
}

impl Walk {
    fn meet(&mut self, id: &JobId) {
        if self.met.contains(id) {
            return;
        }
        if self.met.len() == MOST {
            self.cut = true;
            return;
        }
        self.met.insert(id.clone());
        self.waiting.push(id.clone());
    }

    fn tie(&mut self, edge: FlowEdge) {
        self.meet(&edge.from);
        self.meet(&edge.to);
        self.edges.insert(edge);
    }

    fn next_ids(&mut self) -> Option<Vec<JobId>> {
        let count = self.waiting.len().min(BATCH);
        (count > 0).then(|| self.waiting.drain(..count).collect())
    }

    fn end(self) -> Flow {
        let Self { met, jobs, edges, cut, .. } = self;
        let among = |edge: &FlowEdge| met.contains(&edge.from) && met.contains(&edge.to);
        Flow { jobs, edges: edges.into_iter().filter(among).collect(), cut }
    }
}

impl FlowEdge {
    /// The ties that a job names itself.
    pub fn of(job: &Job) -> Vec<Self> {
        let edge = |from: &JobId, to: &JobId, tie| Self { from: from.clone(), to: to.clone(), tie };
        let mut edges: Vec<_> = job.after.iter().map(|parent| edge(parent, &job.id, Tie::After)).collect();
        edges.extend(job.parent.iter().map(|parent| edge(parent, &job.id, Tie::Child)));
        edges.extend(job.batch.iter().map(|batch| edge(&job.id, batch, Tie::Batch)));
        edges
    }
}

fn by_queue(ids: &[JobId]) -> BTreeMap<&QueueName, Vec<&JobId>> {
    let mut by_queue: BTreeMap<&QueueName, Vec<&JobId>> = BTreeMap::new();
    for id in ids {
        by_queue.entry(id.queue()).or_default().push(id);
    }
    by_queue
}

/// Those of these jobs that are there.
async fn jobs(link: &Link, ids: &[JobId]) -> Result<HashMap<JobId, Job>, QueueError> {
    let mut jobs = HashMap::new();
    for (queue, ids) in by_queue(ids) {
        let uuids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
        let there = read::jobs(link, queue, &uuids).await?.into_iter().flatten();
        jobs.extend(there.map(|job| (job.id.clone(), job)));
    }
    Ok(jobs)
}

/// Which jobs come after these, or are their members.
async fn kin(link: &Link, ids: &[JobId]) -> Result<HashMap<JobId, Vec<JobId>>, QueueError> {
    let mut kin = HashMap::new();
    for (queue, ids) in by_queue(ids) {
        let mut left = ids.as_slice();
        while !left.is_empty() {
            let mut call = scripts::KIN.key(meta_key(queue));
            for id in left {
                call.arg(hyphenated(id));
            }
            let answers: Vec<Vec<Value>> = link.invoke(&call).await?;
            // At least the first is answered.
            let rest = left.get(answers.len().max(1)..).unwrap_or_default();
            for (id, answer) in left.iter().zip(answers) {
                let found = answer.iter().map(|kin| job_id(text(kin)));
                kin.insert(JobId::clone(id), found.collect::<Result<_, _>>()?);
            }
            left = rest;
        }
    }
    Ok(kin)
}
