//! Following a job: snapshot, then tail, over as many connections as it takes.

mod connection;
mod many;

use std::time::Duration;

use fourmi_model::{Job, JobId, LogLine, Progress};
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;

use self::connection::{Connection, data};
pub use self::many::{EventQuery, JobsUpdate, JobsUpdates};
use crate::{Client, ClientError, sse::Event};

/// What happens to a job, until it is over. Dropping it ends nothing but the watching.
pub type Updates = BoxStream<'static, Result<Update, ClientError>>;

/// Something that happened to a job.
#[derive(Debug, Clone)]
pub enum Update {
    /// The job as it was when the connection was made: the first update, and again after a pause.
    Snapshot(Box<Job>),
    /// It has entered another state.
    State(Box<Job>),
    /// Its run has come further.
    Progress {
        /// The job's version with this progress.
        version: u64,
        /// The run.
        run: u64,
        /// How far it is.
        progress: Progress,
    },
    /// A run has written a line to the job's log. Each line comes once, in order.
    Log {
        /// The line.
        line: LogLine,
        /// Lines before it that are gone: the log keeps its newest only.
        missed: u64,
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
    /// What happens to a job: the job as it is, then every change, up to and with its final state.
    ///
    /// The stream outlasts connections: it goes on where it was cut (`Last-Event-ID`), and passes over what it has
    /// given already. An error is its last item: `unknown_job`, or [`ClientError::Unreachable`] once the API has been
    /// away for two minutes.
    pub fn events(&self, id: &JobId) -> Updates {
        self.follow(Following::new(self, id, None))
    }

    /// [`events`](Self::events) with the lines of the log after the one of this number (0: all that are kept), also those
    /// that were written before.
    pub fn events_with_log(&self, id: &JobId, after: u64) -> Updates {
        self.follow(Following::new(self, id, Some(after)))
    }

    fn follow(&self, following: Following) -> Updates {
        stream::unfold(Some(following), |following| async {
            let mut following = following?;
            let update = following.next().await?;
            let more = if update.is_ok() && !following.over { Some(following) } else { None };
            Some((update, more))
        })
        .boxed()
    }
}

struct Following {
    connection: Connection,
    id: JobId,
    seen: Option<u64>,
    /// The newest line of the log that was given, or where the log is to begin.
    logged: Option<u64>,
    /// The number of the last line, once the job is over.
    last_line: Option<u64>,
    over: bool,
}

#[derive(Deserialize)]
struct ProgressEvent {
    version: u64,
    run: u64,
    progress: Progress,
}

#[derive(Deserialize)]
struct LogEvent {
    #[serde(flatten)]
    line: LogLine,
    #[serde(default)]
    missed: u64,
}

impl Following {
    fn new(client: &Client, id: &JobId, logged: Option<u64>) -> Self {
        let connection = Connection::new(client);
        Self { connection, id: id.clone(), seen: None, logged, last_line: None, over: false }
    }

    async fn next(&mut self) -> Option<Result<Update, ClientError>> {
        loop {
            let Self { connection, id, seen, logged, .. } = self;
            match connection.next(|client| request(client, id, *seen, *logged)).await {
                Ok(Some(event)) => {
                    if let Some(update) = self.read(&event).transpose() {
                        return Some(update);
                    }
                }
                Ok(None) => return Some(self.final_state().await),
                Err(error) => {
                    let interrupted = self.connection.interrupted(error);
                    return Some(interrupted.map(|(reason, again_in)| Update::Interrupted { reason, again_in }));
                }
            }
        }
    }

    /// The API has nothing newer than what was seen, and never will have. That happens before the final state was seen
    /// only if Redis was put back to an earlier time.
    async fn final_state(&mut self) -> Result<Update, ClientError> {
        self.over = true;
        self.connection.client().job(&self.id).await.map(|job| Update::Snapshot(Box::new(job)))
    }

    /// The update of an event, if it is news.
    fn read(&mut self, event: &Event) -> Result<Option<Update>, ClientError> {
        if self.logged.is_none() {
            // Where the lines begin that this stream will give.
            let place = event.id.as_deref().and_then(|id| id.split_once('.'));
            self.logged = place.and_then(|(_, line)| line.parse().ok()).filter(|_| event.name != "log");
        }
        match event.name.as_str() {
            "snapshot" => Ok(self.job(event)?.map(Update::Snapshot)),
            "state" => Ok(self.job(event)?.map(Update::State)),
            "progress" => {
                let ProgressEvent { version, run, progress } = data(event)?;
                Ok(self.is_news(version).then_some(Update::Progress { version, run, progress }))
            }
            "log" => {
                let LogEvent { line, missed } = data(event)?;
                let news = self.logged.is_none_or(|logged| line.n > logged);
                if news {
                    self.logged = Some(line.n);
                }
                self.over = self.last_line.is_some_and(|last| line.n >= last);
                Ok(news.then_some(Update::Log { line, missed }))
            }
            // A later API may say more.
            _ => Ok(None),
        }
    }

    fn job(&mut self, event: &Event) -> Result<Option<Box<Job>>, ClientError> {
        let job: Box<Job> = data(event)?;
        let is_final = job.state.is_final();
        // Of a job that was over before, the lines that were asked for are still to come.
        self.last_line = Some(job.log_lines).filter(|_| is_final);
        self.over = is_final && self.logged.is_none_or(|line| line >= job.log_lines);
        // Versions fall if Redis was put back to an earlier time; the end of a job is news all the same.
        Ok((self.is_news(job.version) || is_final).then_some(job))
    }

    fn is_news(&mut self, version: u64) -> bool {
        let news = self.seen.is_none_or(|seen| version > seen);
        if news {
            self.seen = Some(version);
        }
        news
    }
}

fn request(client: &Client, id: &JobId, seen: Option<u64>, logged: Option<u64>) -> RequestBuilder {
    let request = client.request(Method::GET, ["jobs", &id.to_string(), "events"]);
    match (seen, logged) {
        (Some(seen), None) => request.header("last-event-id", seen),
        (Some(seen), Some(line)) => request.header("last-event-id", format!("{seen}.{line}")),
        (None, Some(line)) => request.query(&[("log_after", line)]),
        (None, None) => request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Scripted, answer};

    const ID: &str = "media-0198c0de-0000-7000-8000-000000000001";

    fn job(state: &str, version: u64) -> String {
        format!(
            r#"{{"id":"{ID}","kind":"media.probe","schema_version":1,"queue":"media","state":"{state}","version":{version},
            "priority":"normal","run":1,"attempts":0,"crashes":0,"created_at":"2026-01-01T00:00:00Z","payload":{{}}}}"#
        )
        .replace('\n', "")
    }

    fn event(name: &str, version: u64, data: &str) -> String {
        format!("id: {version}\nevent: {name}\ndata: {data}\n\n")
    }

    fn progress(version: u64) -> String {
        let data = format!(r#"{{"version":{version},"run":1,"progress":{{"stage":"encode","percent":50.0}}}}"#);
        event("progress", version, &data)
    }

    fn stream(events: &[String]) -> String {
        answer("200 OK", "content-type: text/event-stream\r\n", None, &format!("retry: 1\n\n{}", events.concat()))
    }

    async fn versions_of(api: &Scripted) -> Vec<String> {
        let updates = api.client().events(&ID.parse().unwrap());
        updates
            .map(|update| match update {
                Ok(Update::Snapshot(job)) => format!("snapshot {}", job.version),
                Ok(Update::State(job)) => format!("{} {}", job.state, job.version),
                Ok(Update::Progress { version, .. }) => format!("progress {version}"),
                Ok(Update::Log { line, missed }) => format!("line {} after {missed}", line.n),
                Ok(Update::Interrupted { .. }) => "interrupted".to_owned(),
                Err(error) => error.problem().unwrap().code.clone(),
            })
            .collect()
            .await
    }

    #[tokio::test]
    async fn a_cut_stream_goes_on_where_it_was_and_repeats_nothing() {
        let api = Scripted::start([
            stream(&[event("snapshot", 3, &job("running", 3)), progress(4), "id: 5\nevent: progr".to_owned()]),
            String::new(),
            answer("503 Service Unavailable", "", None, r#"{"status":503,"code":"redis_unavailable"}"#),
            stream(&[event("snapshot", 4, &job("running", 4)), progress(5), event("state", 6, &job("succeeded", 6))]),
        ])
        .await;
        let updates = versions_of(&api).await;
        assert_eq!(updates, ["snapshot 3", "progress 4", "interrupted", "interrupted", "progress 5", "succeeded 6"]);
        let requests = api.requests();
        assert!(!requests[0].contains("last-event-id"));
        assert!(requests[3].contains("last-event-id: 4\r\n"), "{}", requests[3]);
    }

    #[tokio::test]
    async fn the_end_is_told_even_if_versions_fell() {
        let api = Scripted::start([
            stream(&[event("snapshot", 9, &job("running", 9))]),
            answer("204 No Content", "", Some(0), ""),
            answer("200 OK", "", None, &job("failed", 7)),
        ])
        .await;
        assert_eq!(versions_of(&api).await, ["snapshot 9", "snapshot 7"]);
    }

    #[tokio::test]
    async fn lines_come_once_also_over_a_cut_and_after_the_end() {
        let line = |n: u64| {
            let data = format!(r#"{{"n":{n},"time":"2026-01-01T00:00:00Z","run":1,"level":"info","text":"x"}}"#);
            format!("id: 3.{n}\nevent: log\ndata: {data}\n\n")
        };
        let snapshot = |state: &str, version: u64, lines: u64| {
            let job = job(state, version).replacen('{', &format!("{{\"log_lines\":{lines},"), 1);
            event("snapshot", version, &job)
        };
        let api = Scripted::start([
            stream(&[snapshot("running", 3, 2), line(1), line(2)]),
            stream(&[line(2), line(3), snapshot("succeeded", 4, 5), line(4)]),
            stream(&[line(5)]),
        ])
        .await;
        let updates = api.client().events_with_log(&ID.parse().unwrap(), 0);
        let lines = updates.filter_map(async |update| match update.unwrap() {
            Update::Log { line, .. } => Some(line.n),
            _ => None,
        });
        assert_eq!(lines.collect::<Vec<_>>().await, [1, 2, 3, 4, 5]);
        let asked = api.requests();
        assert!(asked[0].contains("/events?log_after=0 "), "{}", asked[0]);
        assert!(asked[1].contains("last-event-id: 3.2\r\n") && asked[2].contains("last-event-id: 4.4\r\n"));
    }

    #[tokio::test]
    async fn an_unknown_job_ends_the_stream() {
        let api = Scripted::start([answer("404 Not Found", "", None, r#"{"status":404,"code":"unknown_job"}"#)]).await;
        assert_eq!(versions_of(&api).await, ["unknown_job"]);
    }
}
