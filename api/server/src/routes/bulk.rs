//! Submitting many jobs in one request: an array, or a line each.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use fourmi_model::Scope;
use futures_util::{Stream, StreamExt, future, stream};
use salvo::{
    Depot, Request, Response, handler,
    http::{
        HeaderValue, Method, ReqBody, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    hyper::body::Body,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::{
    body,
    caller::Caller,
    headers,
    lines::{Line, Lines},
    operation::{JSON, NDJSON, Operation, Place, schema, state_of},
    problem::{Code, Problem},
    routes::{
        bulk_items::{BulkResult, Items},
        jobs::Jobs,
        submission::JobSubmission,
    },
};

/// The most jobs of a request.
const MAX_ITEMS: usize = 10_000;

/// The largest array, in bytes: all of it is held.
const MAX_ARRAY: usize = 8 * 1024 * 1024;

/// The most bytes of lines.
const MAX_LINES: usize = 64 * 1024 * 1024;

/// Jobs that are checked and pushed together.
const GROUP: usize = 400;

/// What became of the jobs of an array.
#[derive(Serialize, JsonSchema)]
struct BulkAnswer {
    /// How many are kept from now on, or were accepted before.
    accepted: usize,
    /// How many are not.
    refused: usize,
    /// What became of each, in the order in which they were sent.
    #[schemars(with = "Vec<BulkResult<'static>>")]
    results: Vec<Box<RawValue>>,
}

const SUBMIT: &str = "Up to 10,000 jobs, each as `submit_job` reads it: a JSON array (8 MiB at most), or a job a line (NDJSON, 64 MiB at most, \
    256 KiB a line; empty lines are passed over). The answer comes in the form of the body and says of each job, in order, what \
    `submit_job` would have: `status`, and its `id` or the `error`. It is 200 whatever became of them: one that is refused changes nothing \
    for the others. Lines are accepted, and their results sent, as they come; if the rest of them cannot be read or are too many, the last \
    result has that error and the index of the first job that was not read. When a connection breaks, each job that was sent whole is \
    accepted or not: with idempotency keys, sending all again is safe.";

const KEY: &str = "Stands for a key of each job that names none: sent again with the same jobs in the same order, each is accepted once.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new("submit_jobs", Method::POST, "/api/v1/jobs/bulk", submit_jobs)
            .needs(&[Scope::JobsSubmit])
            .says("Submits many jobs", SUBMIT)
            .takes(Place::Header, "Idempotency-Key", schema::<String>, KEY)
            .reads(JSON, schema::<Vec<JobSubmission<'static>>>)
            .reads(NDJSON, schema::<JobSubmission<'static>>)
            .answers(StatusCode::OK, JSON, schema::<BulkAnswer>, "What became of them.")
            .answers(StatusCode::OK, NDJSON, schema::<BulkResult<'static>>, "What became of them.")
            .fails(&[Code::BadRequest, Code::InvalidHeader, Code::InvalidJson, Code::PayloadTooLarge])
            .fails(&[Code::InvalidRequest, Code::RedisUnavailable]),
    ]
}

#[handler]
async fn submit_jobs(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let key = headers::idempotency_key(request.headers())?;
    let items = Items::new(jobs, Caller::of(depot)?, key);
    match body::given_type(request).as_deref() {
        Some(NDJSON | "application/ndjson" | "application/jsonl") => submit_lines(items, request, response).await,
        _ => submit_array(items, request, response).await,
    }
}

/// Refuses callers who do not accept the form that the answer has.
fn check_accepted(request: &Request, media_type: &str) -> Result<(), Problem> {
    let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if headers::accepts(accepted, media_type) {
        return Ok(());
    }
    Err(Problem::new(Code::NotAcceptable, format!("The answer has the form of the body: {media_type}.")))
}

async fn submit_array(mut items: Items, request: &mut Request, response: &mut Response) -> Result<(), Problem> {
    check_accepted(request, JSON)?;
    let sent = read_array(body::read_up_to(request, MAX_ARRAY).await?)?;
    if sent.len() > MAX_ITEMS {
        return Err(Problem::field(Code::InvalidRequest, "", format!("There may be {MAX_ITEMS} jobs at most.")));
    }
    let mut results = Vec::with_capacity(sent.len());
    for group in sent.chunks(GROUP) {
        for result in items.take(group).await? {
            results.push(RawValue::from_string(result).map_err(Problem::internal)?);
        }
    }
    let (accepted, refused) = items.counts();
    body::write(response, StatusCode::OK, &BulkAnswer { accepted, refused, results })
}

fn read_array(sent: &[u8]) -> Result<Vec<Line>, Problem> {
    let items: Vec<&RawValue> = serde_json::from_slice(sent).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Problem::field(Code::InvalidRequest, "", "The body must be an array of jobs, or a job a line (NDJSON).")
        }
        _ => Problem::new(Code::InvalidJson, error.to_string()),
    })?;
    Ok(items.iter().map(|item| Line::of(item.get().as_bytes())).collect())
}

async fn submit_lines(items: Items, request: &mut Request, response: &mut Response) -> Result<(), Problem> {
    check_accepted(request, NDJSON)?;
    if Body::size_hint(request.body()).lower() > MAX_LINES as u64 {
        return Err(too_large());
    }
    let mut pieces = pieces(request.take_body());
    // Who waits for a word that the body is welcome gets it before the answer begins.
    let first = pieces.next().await.transpose().map_err(|error| broken(&error))?;
    let (results, mut written) = unbounded_channel();
    tokio::spawn(Submission { items, results, size: 0 }.run(first, pieces));
    response.status_code(StatusCode::OK);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    response.stream(stream::poll_fn(move |context| {
        written.poll_recv(context).map(|lines| lines.map(Ok::<Bytes, Infallible>))
    }));
    Ok(())
}

fn pieces(body: ReqBody) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
    body.filter_map(|frame| future::ready(frame.map(|frame| frame.into_data().ok()).transpose()))
}

fn broken(error: &io::Error) -> Problem {
    match crate::problem::is_timeout(error) {
        true => Problem::new(Code::RequestTimeout, "The rest of the body did not come."),
        false => Problem::new(Code::BadRequest, "The body did not arrive whole."),
    }
}

fn too_large() -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("The lines may have {MAX_LINES} bytes in all."))
}

/// Lines on their way into the queues.
///
/// The next lines are read when those before are accepted. Results do not wait for whoever sends them to read: most clients
/// read when they have sent all, and what they leave lying is bounded by the number of jobs.
struct Submission {
    items: Items,
    results: UnboundedSender<Bytes>,
    size: usize,
}

impl Submission {
    async fn run(mut self, first: Option<Bytes>, mut pieces: impl Stream<Item = io::Result<Bytes>> + Send + Unpin) {
        let mut lines = Lines::default();
        let mut next = first.map(Ok);
        while let Some(piece) = next {
            let read = match piece {
                Ok(piece) => self.read(lines.push(&piece), piece.len()).await,
                Err(error) => Err(broken(&error)),
            };
            if let Err(problem) = read {
                self.give_up(&problem);
                // Who is still sending would lose the answer if the connection were closed now.
                return self.pass_over(pieces).await;
            }
            if self.results.is_closed() {
                return;
            }
            next = pieces.next().await;
        }
        if let Err(problem) = self.read(lines.end().into_iter().collect(), 0).await {
            self.give_up(&problem);
        }
    }

    /// Takes the lines that a piece of the body has completed.
    async fn read(&mut self, lines: Vec<Line>, size: usize) -> Result<(), Problem> {
        self.size += size;
        if self.size > MAX_LINES {
            return Err(too_large());
        }
        let room = MAX_ITEMS - self.items.count();
        for group in lines[..lines.len().min(room)].chunks(GROUP) {
            let results = self.items.take(group).await?;
            let text: String = results.into_iter().flat_map(|result| [result, "\n".to_owned()]).collect();
            // Who has gone away does not need it.
            let _ = self.results.send(text.into());
        }
        match lines.len() > room {
            true => Err(Problem::new(Code::PayloadTooLarge, format!("There may be {MAX_ITEMS} jobs at most."))),
            false => Ok(()),
        }
    }

    fn give_up(&mut self, problem: &Problem) {
        let _ = self.results.send(format!("{}\n", self.items.refuse(problem)).into());
    }

    async fn pass_over(mut self, mut pieces: impl Stream<Item = io::Result<Bytes>> + Send + Unpin) {
        while let Some(Ok(piece)) = pieces.next().await
            && self.size <= MAX_LINES
            && !self.results.is_closed()
        {
            self.size += piece.len();
        }
    }
}
