//! Reading and steering jobs; kinds, queues, files, health.

use std::time::Duration;

use fourmi_model::{BlobId, Job, JobId, LogPage, RunReport};
use futures_util::Stream;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{
    Client, ClientError, FileLink, Health, JobPage, JobQuery, KindDocument, QueueDocument, StoredFile,
    documents::{Kinds, Queues, Runs},
    pages,
    patience::Patience,
};

/// Seconds that one call of [`Client::wait`] lasts: less than proxies tolerate.
const WAIT_SECONDS: u64 = 20;

impl Client {
    /// The job as it is now.
    ///
    /// # Errors
    /// `unknown_job` if there is none.
    pub async fn job(&self, id: &JobId) -> Result<Job, ClientError> {
        self.json(self.request(Method::GET, ["jobs", &id.to_string()])).await
    }

    /// The job once it is over, however it ended.
    ///
    /// # Errors
    /// `unknown_job` if there is none; [`ClientError::Unreachable`] once the API has been away for two minutes.
    pub async fn wait(&self, id: &JobId) -> Result<Job, ClientError> {
        let mut patience = Patience::default();
        loop {
            let call =
                self.request(Method::GET, ["jobs", &id.to_string()]).header("prefer", format!("wait={WAIT_SECONDS}"));
            match self.json::<Job>(call).await {
                Ok(job) if job.state.is_final() => return Ok(job),
                Ok(_) => patience.restore(),
                Err(error) => tokio::time::sleep(patience.wait_after(error)?).await,
            }
        }
    }

    /// A page of jobs.
    ///
    /// # Errors
    /// If the API refuses the query or does not answer.
    pub async fn jobs(&self, query: &JobQuery) -> Result<JobPage, ClientError> {
        self.json(self.request(Method::GET, ["jobs"]).query(&query.pairs())).await
    }

    /// All jobs that a query wants, from its cursor on, page by page as they are asked for. After an error the same page is
    /// asked for again.
    ///
    /// ```no_run
    /// # async fn example(client: fourmi_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use fourmi_client::JobQuery;
    /// use fourmi_model::State;
    /// use futures_util::TryStreamExt;
    ///
    /// let query = JobQuery { states: vec![State::Failed], tag: Some("night".to_owned()), ..JobQuery::default() };
    /// let mut jobs = std::pin::pin!(client.all_jobs(query));
    /// while let Some(job) = jobs.try_next().await? {
    ///     println!("{} {:?}", job.id, job.error);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn all_jobs(&self, query: JobQuery) -> impl Stream<Item = Result<Job, ClientError>> + Send + use<> {
        let client = self.clone();
        pages::all(query, move |query| {
            let client = client.clone();
            async move {
                let JobPage { jobs, next } = client.jobs(&query).await?;
                Ok((jobs, next.map(|next| JobQuery { cursor: Some(next), ..query })))
            }
        })
    }

    /// Stops a job. A job that runs is asked to stop: its document says `cancel_requested` until it has.
    ///
    /// # Errors
    /// `unknown_job`; `already_over` if there is nothing to stop.
    pub async fn cancel(&self, id: &JobId) -> Result<Job, ClientError> {
        self.json(self.request(Method::POST, ["jobs", &id.to_string(), "cancel"])).await
    }

    /// Runs a job again that failed or was cancelled, or at once one that waits for its time.
    ///
    /// # Errors
    /// `unknown_job`; `not_retryable` if its state does not allow it.
    pub async fn retry(&self, id: &JobId) -> Result<Job, ClientError> {
        self.json(self.request(Method::POST, ["jobs", &id.to_string(), "retry"])).await
    }

    /// The runs of a job that did not succeed, oldest first.
    ///
    /// # Errors
    /// `unknown_job` if there is none.
    pub async fn runs(&self, id: &JobId) -> Result<Vec<RunReport>, ClientError> {
        let answer: Runs = self.json(self.request(Method::GET, ["jobs", &id.to_string(), "runs"])).await?;
        Ok(answer.runs)
    }

    /// The lines of a job's log after the one of this number (0: from the beginning), `limit` (1 to 1,000) of them.
    ///
    /// # Errors
    /// `unknown_job` if there is none.
    pub async fn log(&self, id: &JobId, after: u64, limit: usize) -> Result<LogPage, ClientError> {
        let request = self.request(Method::GET, ["jobs", &id.to_string(), "log"]);
        self.json(request.query(&[("after", after), ("limit", limit as u64)])).await
    }

    /// Every kind that the API knows.
    ///
    /// # Errors
    /// If the API does not answer.
    pub async fn kinds(&self) -> Result<Vec<KindDocument>, ClientError> {
        let answer: Kinds = self.json(self.request(Method::GET, ["kinds"])).await?;
        Ok(answer.kinds)
    }

    /// One kind.
    ///
    /// # Errors
    /// `unknown_kind` if there is none.
    pub async fn kind(&self, name: &str) -> Result<KindDocument, ClientError> {
        self.json(self.request(Method::GET, ["kinds", name])).await
    }

    /// Every queue with the number of its jobs.
    ///
    /// # Errors
    /// If the API does not answer.
    pub async fn queues(&self) -> Result<Vec<QueueDocument>, ClientError> {
        let answer: Queues = self.json(self.request(Method::GET, ["queues"])).await?;
        Ok(answer.queues)
    }

    /// What is known about a stored file.
    ///
    /// # Errors
    /// `unknown_file` if there is none.
    pub async fn stored_file(&self, id: BlobId) -> Result<StoredFile, ClientError> {
        self.json(self.request(Method::GET, ["files", &id.to_string(), "info"])).await
    }

    /// A link that opens a stored file without a key for this long (a second to seven days), in a browser as something to
    /// save (`download`) or to show.
    ///
    /// # Errors
    /// `unknown_file` if there is none; `invalid_request` if the time is too short or too long.
    pub async fn link(&self, id: BlobId, lasting: Duration, download: bool) -> Result<FileLink, ClientError> {
        let body = json!({"expires_in_s": lasting.as_secs(), "download": download});
        let call = self.request(Method::POST, ["files", &id.to_string(), "links"]).json(&body);
        let link: FileLink = self.json(call).await?;
        // The API does not know by which name we reach it.
        Ok(FileLink { url: format!("{}{}", self.url(), link.url), ..link })
    }

    /// Deletes a stored file.
    ///
    /// # Errors
    /// `unknown_file` if there is none.
    pub async fn delete_file(&self, id: BlobId) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, ["files", &id.to_string()])).await.map(drop)
    }

    /// How the platform is. A platform that is down and says so is an answer, not an error.
    ///
    /// # Errors
    /// If nothing answers.
    pub async fn health(&self) -> Result<Health, ClientError> {
        let request = self.request(Method::GET, ["health"]);
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() || answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            return self.read_json(answer).await;
        }
        Err(ClientError::Protocol(format!(
            "{} answered {} to a question about its health",
            self.url(),
            answer.status()
        )))
    }

    /// Whether the API answers at all.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::GET, ["health", "ping"])).await.map(drop)
    }
}
