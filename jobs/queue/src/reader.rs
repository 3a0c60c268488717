//! Reading jobs for many who ask at the same time: in groups, and one that several ask for once.

use std::{collections::HashMap, sync::Arc};

use fourmi_model::{Job, JobId, QueueName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::Uuid;

use crate::{QueueError, link::Link, read};

/// Jobs that are read at once.
const GROUP: usize = 200;

/// Groups that are under way at most: while Redis does not answer, others must not wait behind one.
const CALLS: usize = 4;

type Answer = Result<Option<Arc<Job>>, QueueError>;
type Asked = (JobId, oneshot::Sender<Answer>);

/// Reads jobs; cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader(mpsc::Sender<Asked>);

impl Reader {
    /// Stops when the last clone is gone.
    pub(crate) fn start(link: Link) -> Self {
        let (sender, inbox) = mpsc::channel(GROUP);
        tokio::spawn(run(link, inbox));
        Self(sender)
    }

    /// The job as it is after this was called; `None` if there is no such job.
    pub(crate) async fn get(&self, id: &JobId) -> Answer {
        let stopped = || QueueError::Unavailable("the program is stopping".into());
        let (sender, answer) = oneshot::channel();
        self.0.send((id.clone(), sender)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

async fn run(link: Link, mut inbox: mpsc::Receiver<Asked>) {
    let calls = Arc::new(Semaphore::new(CALLS));
    let mut group = Vec::with_capacity(GROUP);
    // Who comes while all calls are under way goes with the next one.
    while let Ok(call) = calls.clone().acquire_owned().await
        && inbox.recv_many(&mut group, GROUP).await > 0
    {
        tokio::spawn(answer(link.clone(), std::mem::take(&mut group), call));
    }
}

async fn answer(link: Link, group: Vec<Asked>, _call: OwnedSemaphorePermit) {
    let mut by_queue: HashMap<QueueName, HashMap<Uuid, Vec<oneshot::Sender<Answer>>>> = HashMap::new();
    for (id, asker) in group {
        by_queue.entry(id.queue().clone()).or_default().entry(id.uuid()).or_default().push(asker);
    }
    for (queue, askers) in by_queue {
        let ids: Vec<Uuid> = askers.keys().copied().collect();
        let mut answers: HashMap<Uuid, Answer> = ids.iter().copied().zip(jobs(&link, &queue, &ids).await).collect();
        for (id, askers) in askers {
            let answer = answers.remove(&id).unwrap_or(Ok(None));
            // Who does not wait any longer needs no answer.
            askers.into_iter().for_each(|asker| drop(asker.send(answer.clone())));
        }
    }
}

/// One answer a job, in order. What cannot be read of one job does not keep the others from being read.
pub(crate) async fn jobs(link: &Link, queue: &QueueName, ids: &[Uuid]) -> Vec<Answer> {
    match read::jobs(link, queue, ids).await {
        Ok(jobs) => jobs.into_iter().map(|job| Ok(job.map(Arc::new))).collect(),
        Err(QueueError::Corrupt(_)) if ids.len() > 1 => {
            let mut answers = Vec::with_capacity(ids.len());
            for id in ids {
                let job = read::jobs(link, queue, &[*id]).await;
                answers.push(job.map(|mut jobs| jobs.pop().flatten().map(Arc::new)));
            }
            answers
        }
        Err(error) => vec![Err(error); ids.len()],
    }
}
