//! Submitting many jobs in one request.

use fourmi_model::JobId;
use reqwest::{Method, Response, header::CONTENT_TYPE};
use serde::Deserialize;

use crate::{Client, ClientError, Problem, Submit};

/// Many jobs about to be submitted, 10,000 at most. Nothing is sent before [`send`](Self::send).
#[must_use = "jobs are submitted by send()"]
pub struct SubmitMany {
    client: Client,
    lines: Vec<u8>,
    count: usize,
    idempotency_key: Option<String>,
    unusable: Option<ClientError>,
}

/// One of many jobs that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Its id.
    pub id: JobId,
    /// Whether it had been accepted before, under the same idempotency key.
    pub replayed: bool,
    /// Whether it is another job, which was accepted before and excludes its like.
    pub is_like: bool,
}

/// What the API says of one job.
#[derive(Deserialize)]
struct Line {
    index: usize,
    id: Option<JobId>,
    #[serde(default)]
    idempotency_replayed: bool,
    #[serde(default)]
    unique_conflict: bool,
    retry_after_s: Option<u64>,
    error: Option<Problem>,
}

impl Client {
    /// Many jobs, of any kinds, in one request.
    ///
    /// ```no_run
    /// # async fn example(client: fourmi_client::Client, files: Vec<fourmi_model::BlobId>) -> Result<(), Box<dyn std::error::Error>> {
    /// use fourmi_kinds::{MediaProbe, Source};
    ///
    /// let mut many = client.submit_many().idempotency_key("night of the 3rd");
    /// for file in files {
    ///     many = many.job(client.submit(&MediaProbe { source: Source::Upload(file) }).tag("night"));
    /// }
    /// for (place, job) in many.send().await?.into_iter().enumerate() {
    ///     match job {
    ///         Ok(job) => println!("{}", job.id),
    ///         Err(error) => eprintln!("job {place} was refused: {error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_many(&self) -> SubmitMany {
        SubmitMany { client: self.clone(), lines: Vec::new(), count: 0, idempotency_key: None, unusable: None }
    }
}

impl SubmitMany {
    /// One more job. Its idempotency key is its own; without one, that of the request stands for it.
    pub fn job<K>(mut self, job: Submit<K>) -> Self {
        match job.line() {
            Ok(line) => self.json(&line),
            Err(error) => {
                self.unusable.get_or_insert(error);
                self
            }
        }
    }

    /// One more job, as `POST /api/v1/jobs` reads it. What is no JSON is refused by the API, alone.
    pub fn json(mut self, job: &str) -> Self {
        // What ends a line must not stand in it; JSON has no other use for it than white space.
        self.lines.extend(job.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        self.lines.push(b'\n');
        self.count += 1;
        self
    }

    /// Stands for a key of each job that has none: sent again with the same jobs in the same order, each is accepted once.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Submits the jobs and says of each, in order, what became of it. Those that are accepted are kept. Where the
    /// connection breaks before the API has said it, that is the error of the job: it may have been accepted.
    ///
    /// # Errors
    /// If the API refuses the request as a whole or does not answer; of a job, as [`Submit::send`].
    pub async fn send(self) -> Result<Vec<Result<Submitted, ClientError>>, ClientError> {
        if let Some(error) = self.unusable {
            return Err(error);
        }
        let mut request = self.client.request(Method::POST, ["jobs", "bulk"]);
        request = request.header(CONTENT_TYPE, "application/x-ndjson").body(self.lines);
        if let Some(key) = self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let answer = self.client.send_slowly(request).await?;
        let mut results: Vec<_> = (0..self.count).map(|_| None).collect();
        let end = read(&self.client, answer, &mut results).await;
        let unsaid = || match &end {
            Err(error) => error.again(),
            Ok(()) => ClientError::Protocol("the API did not say what became of the job".to_owned()),
        };
        Ok(results.into_iter().map(|result| result.unwrap_or_else(|| Err(unsaid()))).collect())
    }
}

type Results = [Option<Result<Submitted, ClientError>>];

/// Reads the lines of an answer as they come. The error with which it ends is that of all jobs of which it says nothing.
async fn read(client: &Client, mut answer: Response, results: &mut Results) -> Result<(), ClientError> {
    let mut rest = Vec::new();
    while let Some(piece) = client.chunk(&mut answer).await? {
        rest.extend_from_slice(&piece);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in rest[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            take(client, line, results)?;
        }
        rest.drain(..whole);
    }
    // The last result may speak for all that come after it.
    let last = results.iter().rev().find_map(Option::as_ref);
    match last {
        Some(Err(error)) => Err(error.again()),
        _ => Ok(()),
    }
}

fn take(client: &Client, line: &[u8], results: &mut Results) -> Result<(), ClientError> {
    let strange = |what: &str| ClientError::Protocol(format!("{} answered as the API would not: {what}", client.url()));
    let line: Line = serde_json::from_slice(line).map_err(|error| strange(&error.to_string()))?;
    let place = results.get_mut(line.index).ok_or_else(|| strange("a job that was not sent"))?;
    *place = Some(match (line.id, line.error) {
        (Some(id), _) => Ok(Submitted { id, replayed: line.idempotency_replayed, is_like: line.unique_conflict }),
        (None, Some(mut problem)) => {
            problem.retry_after = line.retry_after_s.map(std::time::Duration::from_secs);
            Err(ClientError::Problem(Box::new(problem)))
        }
        (None, None) => return Err(strange("neither an id nor an error")),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::scripted::{Scripted, answer};

    #[tokio::test]
    async fn each_job_has_its_result_also_where_the_answer_ends_early() {
        let id = "media-0198c0de-0000-7000-8000-000000000001";
        let lines = [
            json!({"index": 0, "status": 202, "id": id}),
            json!({"index": 1, "status": 422, "error": {"status": 422, "code": "invalid_payload"}}),
            json!({"index": 2, "status": 429, "retry_after_s": 5, "error": {"status": 429, "code": "queue_full"}}),
        ];
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let api = Scripted::start([answer("200 OK", "", None, &body)]).await;
        let client = api.client();
        let mut many = client.submit_many().idempotency_key("k");
        for n in 0..4 {
            many = many.job(client.submit_raw("a.b", json!({ "n": n })).idempotency_key(format!("own {n}")));
        }
        assert_eq!(many.count(), 4);
        let results = many.send().await.unwrap();
        assert_eq!(results[0].as_ref().unwrap().id.to_string(), id);
        let codes: Vec<_> =
            results[1..].iter().map(|it| it.as_ref().unwrap_err().problem().unwrap().code.as_str()).collect();
        assert_eq!(codes, ["invalid_payload", "queue_full", "queue_full"]);
        let wait = results[2].as_ref().unwrap_err().problem().unwrap().retry_after;
        assert_eq!(wait, Some(std::time::Duration::from_secs(5)));
        assert!(api.requests()[0].starts_with("POST /api/v1/jobs/bulk "));
    }
}
