//! Following many jobs: those of a batch, or all that the key sees.

use std::time::Duration;

use fourmi_model::{Job, JobId, KindName, Progress, QueueName, State, TenantName};
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::Method;
use serde::Deserialize;

use super::connection::{Connection, data};
use crate::{Client, ClientError, sse::Event};

/// What happens to many jobs. Dropping it ends nothing but the watching.
pub type JobsUpdates = BoxStream<'static, Result<JobsUpdate, ClientError>>;

/// Which jobs to follow.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only these states, empty for all: a job that enters another one is left out then.
    pub states: Vec<State>,
    /// Only this kind.
    pub kind: Option<KindName>,
    /// Only this queue.
    pub queue: Option<QueueName>,
    /// Only jobs with this tag.
    pub tag: Option<String>,
    /// Only jobs of this tenant.
    pub tenant: Option<TenantName>,
}

impl EventQuery {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs: Vec<_> = self.states.iter().map(|state| ("state", state.to_string())).collect();
        let mut add = |name, value: Option<String>| pairs.extend(value.map(|value| (name, value)));
        add("kind", self.kind.as_ref().map(ToString::to_string));
        add("queue", self.queue.as_ref().map(ToString::to_string));
        add("tag", self.tag.clone());
        add("tenant", self.tenant.as_ref().map(ToString::to_string));
        pairs
    }
}

/// Something that happened to one of many jobs. Of two documents of a job, the one with the higher version is newer.
#[derive(Debug, Clone)]
pub enum JobsUpdate {
    /// A job as it is: at first, and again after a gap or a pause.
    Snapshot(Box<Job>),
    /// All jobs of the snapshot have been given; what follows is new.
    Live {
        /// How many they were.
        jobs: usize,
        /// Whether there are more than a snapshot holds ([`Client::jobs`] lists them).
        more: bool,
    },
    /// A job has entered another state.
    State(Box<Job>),
    /// The run of a job has come further.
    Progress {
        /// The job.
        id: JobId,
        /// Its version with this progress.
        version: u64,
        /// The run.
        run: u64,
        /// How far it is.
        progress: Progress,
    },
    /// Something was missed; a snapshot follows, also of jobs that have ended since.
    Gap {
        /// It happened then (RFC 3339) or later.
        since: String,
        /// How many changes of state were left out, if that is known.
        missed: Option<u64>,
        /// Why: `slow_reader`, `interrupted` (the API had lost Redis) or `reconnected`.
        reason: String,
    },
    /// The API does not answer at the moment; it will be asked again.
    Interrupted {
        /// Why.
        reason: String,
        /// When.
        again_in: Duration,
    },
}

impl Client {
    /// What happens to a batch and its members, up to and with the end of the batch, which comes last. `id` is that of the
    /// batch or of one of its jobs.
    ///
    /// The stream outlasts connections, and says with [`JobsUpdate::Gap`] or a new snapshot where it did not see all. An
    /// error is its last item: `unknown_job`, `unknown_batch`, or [`ClientError::Unreachable`] once the API has been away
    /// for two minutes.
    pub fn batch_events(&self, id: &JobId) -> JobsUpdates {
        let path = vec!["flows".to_owned(), id.to_string(), "events".to_owned()];
        Following::new(self, path, Vec::new()).updates()
    }

    /// What happens to all jobs that the key sees and the query wants, without an end; else as
    /// [`batch_events`](Self::batch_events).
    pub fn jobs_events(&self, query: &EventQuery) -> JobsUpdates {
        Following::new(self, vec!["events".to_owned()], query.pairs()).updates()
    }
}

struct Following {
    connection: Connection,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    last_id: Option<String>,
    over: bool,
}

#[derive(Deserialize)]
struct LiveEvent {
    jobs: usize,
    more: bool,
}

#[derive(Deserialize)]
struct ProgressEvent {
    id: JobId,
    version: u64,
    run: u64,
    progress: Progress,
}

#[derive(Deserialize)]
struct GapEvent {
    since: String,
    missed: Option<u64>,
    reason: String,
}

impl Following {
    fn new(client: &Client, path: Vec<String>, query: Vec<(&'static str, String)>) -> Self {
        Self { connection: Connection::new(client), path, query, last_id: None, over: false }
    }

    fn updates(self) -> JobsUpdates {
        stream::unfold(Some(self), |following| async {
            let mut following = following?;
            let update = following.next().await?;
            let more = if update.is_ok() && !following.over { Some(following) } else { None };
            Some((update, more))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<JobsUpdate, ClientError>> {
        loop {
            let Self { connection, path, query, last_id, .. } = self;
            let next = connection.next(|client| {
                let request = client.request(Method::GET, path.iter().map(String::as_str)).query(query);
                last_id.iter().fold(request, |request, id| request.header("last-event-id", id))
            });
            match next.await {
                Ok(Some(event)) => {
                    if let Some(update) = self.read(&event).transpose() {
                        return Some(update);
                    }
                }
                Ok(None) => return None,
                Err(error) => {
                    let interrupted = self.connection.interrupted(error);
                    return Some(interrupted.map(|(reason, again_in)| JobsUpdate::Interrupted { reason, again_in }));
                }
            }
        }
    }

    fn read(&mut self, event: &Event) -> Result<Option<JobsUpdate>, ClientError> {
        let update = match event.name.as_str() {
            "snapshot" => JobsUpdate::Snapshot(data(event)?),
            "state" => JobsUpdate::State(data(event)?),
            "live" => {
                let LiveEvent { jobs, more } = data(event)?;
                JobsUpdate::Live { jobs, more }
            }
            "progress" => {
                let ProgressEvent { id, version, run, progress } = data(event)?;
                JobsUpdate::Progress { id, version, run, progress }
            }
            "gap" => {
                let GapEvent { since, missed, reason } = data(event)?;
                JobsUpdate::Gap { since, missed, reason }
            }
            // A later API may say more.
            _ => return Ok(None),
        };
        if event.id.is_some() {
            self.last_id.clone_from(&event.id);
        }
        self.over = event.id.as_deref() == Some("over");
        Ok(Some(update))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Scripted, answer};

    const ID: &str = "media-0198c0de-0000-7000-8000-000000000001";

    fn job(state: &str, version: u64) -> String {
        format!(
            r#"{{"id":"{ID}","kind":"media.probe","schema_version":1,"queue":"media","state":"{state}","version":{version},"priority":"normal","run":1,"attempts":0,"crashes":0,"created_at":"2026-01-01T00:00:00Z","payload":{{}}}}"#
        )
    }

    fn event(name: &str, id: &str, data: &str) -> String {
        let id = if id.is_empty() { String::new() } else { format!("id: {id}\n") };
        format!("event: {name}\ndata: {data}\n{id}\n")
    }

    fn stream(events: &[String]) -> String {
        answer("200 OK", "content-type: text/event-stream\r\n", None, &format!("retry: 1\n\n{}", events.concat()))
    }

    async fn told(updates: JobsUpdates) -> Vec<String> {
        updates
            .map(|update| match update {
                Ok(JobsUpdate::Snapshot(job)) => format!("snapshot {}", job.version),
                Ok(JobsUpdate::State(job)) => format!("{} {}", job.state, job.version),
                Ok(JobsUpdate::Live { jobs, more }) => format!("live {jobs} {more}"),
                Ok(JobsUpdate::Progress { version, .. }) => format!("progress {version}"),
                Ok(JobsUpdate::Gap { missed, reason, .. }) => format!("gap {missed:?} {reason}"),
                Ok(JobsUpdate::Interrupted { .. }) => "interrupted".to_owned(),
                Err(error) => error.problem().unwrap().code.clone(),
            })
            .collect()
            .await
    }

    #[tokio::test]
    async fn a_batch_is_followed_over_a_cut_to_its_end() {
        let live = event("live", "100", r#"{"jobs":1,"more":false}"#);
        let far = format!(r#"{{"id":"{ID}","version":3,"run":1,"progress":{{"stage":"x","percent":5.0}}}}"#);
        let gap = event("gap", "", r#"{"since":"2026-01-01T00:00:00Z","reason":"interrupted"}"#);
        let api = Scripted::start([
            stream(&[event("snapshot", "", &job("running", 2)), live.clone(), event("progress", "120", &far)]),
            answer("503 Service Unavailable", "", None, r#"{"status":503,"code":"redis_unavailable"}"#),
            stream(&[gap, event("new", "", "{}"), live, event("state", "over", &job("succeeded", 4)), "x".to_owned()]),
        ])
        .await;
        let updates = told(api.client().batch_events(&ID.parse().unwrap())).await;
        let first = ["snapshot 2", "live 1 false", "progress 3", "interrupted"];
        assert_eq!(updates, [&first[..], &["gap None interrupted", "live 1 false", "succeeded 4"]].concat());
        let asked = api.requests();
        assert!(
            asked[0].starts_with(&format!("GET /api/v1/flows/{ID}/events ")) && !asked[0].contains("last-event-id")
        );
        assert!(asked[2].contains("last-event-id: 120\r\n"), "{}", asked[2]);
    }

    #[tokio::test]
    async fn a_query_says_which_jobs_and_a_refusal_ends_the_stream() {
        let api =
            Scripted::start([answer("400 Bad Request", "", None, r#"{"status":400,"code":"invalid_query"}"#)]).await;
        let query = EventQuery { states: vec![State::Failed], tag: Some("a b".into()), ..EventQuery::default() };
        assert_eq!(told(api.client().jobs_events(&query)).await, ["invalid_query"]);
        assert!(api.requests()[0].starts_with("GET /api/v1/events?state=failed&tag=a+b "), "{}", api.requests()[0]);
    }
}
