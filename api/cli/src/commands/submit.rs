//! `fourmi submit`: a job of any kind, or many.

use std::{io::Read, time::Duration};

use clap::Args;
use fourmi_client::{JobHandle, Raw};
use fourmi_model::{
    JobId, LimitName, ParentFailure, PolicyOverrides, Priority, State, TenantName, Unique, UniqueUntil,
};
use serde_json::{Value, json};

use crate::{
    arguments::lasting,
    commands::submit_many,
    exit::{Exit, Stop},
    follow::{self, Telling},
    print,
    progress::Progress,
    session::Session,
};

/// What is said of one job.
const OF_ONE: [&str; 15] = [
    "kind",
    "payload",
    "watch",
    "tag",
    "priority",
    "idempotency_ttl",
    "not_before",
    "deadline",
    "after",
    "on_parent_failure",
    "attempts",
    "tenant",
    "limit",
    "unique",
    "unique_by",
];

const EXAMPLES: &str = "\
Examples:
  fourmi submit media.probe --payload '{\"source\": {\"upload\": \"file-…\"}}' --watch
  fourmi submit audio.extract --payload @payload.json --tag talks --priority high
  jq -n '…' | fourmi submit audio.extract --payload -
  fourmi submit --from jobs.ndjson --idempotency-key night-2041

`fourmi kinds NAME` shows what a payload looks like. With --watch the result goes to standard
output once the job is over, and the exit code tells how it ended. With --from the ids go to standard output in the order
of the lines, and what is refused to standard error; the exit code is 1 if something was.";

/// The job.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SubmitArguments {
    /// Kind of the job, such as media.probe
    #[arg(required_unless_present = "from")]
    kind: Option<String>,
    /// Payload: JSON, @FILE to read it from a file, or - to read it from standard input
    #[arg(long, short, value_name = "JSON|@FILE|-", required_unless_present = "from")]
    payload: Option<String>,
    /// Submit many: each line of this file (-: standard input) is a job as JSON, with its kind and all else
    #[arg(long, value_name = "FILE|-", conflicts_with_all = OF_ONE)]
    from: Option<String>,
    /// Wait until the job is over, showing how far it is
    #[arg(long, short)]
    watch: bool,
    /// Label to find the job by; may be given several times
    #[arg(long, short, value_name = "TAG")]
    tag: Vec<String>,
    /// How urgent it is: urgent, high, normal or low [default: what the kind says]
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<Priority>,
    /// Submit at most once under this key
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// How long that key is remembered, such as 90m or 7d [default: 1d]
    #[arg(long, value_name = "TIME", value_parser = lasting, requires = "idempotency_key")]
    idempotency_ttl: Option<Duration>,
    /// Not before this time, such as 2027-01-31T08:00:00Z
    #[arg(long, value_name = "TIME")]
    not_before: Option<jiff::Timestamp>,
    /// Do not start it after this time
    #[arg(long, value_name = "TIME")]
    deadline: Option<jiff::Timestamp>,
    /// Wait for this job to be over first; may be given several times
    #[arg(long, value_name = "ID")]
    after: Vec<JobId>,
    /// What becomes of it when one of those does not succeed: cancel, run or wait (for its replay)
    #[arg(long, value_name = "POLICY", requires = "after", default_value_t = ParentFailure::default())]
    on_parent_failure: ParentFailure,
    /// Runs that may fail before the job is given up [default: what the kind says]
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// Whose it is: the jobs of each tenant take turns
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantName>,
    /// What limits it beside its tenant and its kind, such as host/example.org; may be given twice
    #[arg(long, value_name = "NAME")]
    limit: Vec<LimitName>,
    /// Let it exclude its like: until it is started or finished, or for a time such as 90m
    #[arg(long, value_name = "started|finished|TIME", value_parser = until)]
    unique: Option<UniqueUntil>,
    /// Field of the payload that makes jobs alike, such as source.url [default: all of it]
    #[arg(long, value_name = "FIELD", requires = "unique")]
    unique_by: Vec<String>,
}

fn until(text: &str) -> Result<UniqueUntil, String> {
    match text {
        "started" => Ok(UniqueUntil::Started),
        "finished" => Ok(UniqueUntil::Finished),
        time => {
            let seconds = lasting(time)?.as_secs().try_into().map_err(|_| "thirty days at most".to_owned())?;
            Ok(UniqueUntil::ForS(seconds))
        }
    }
}

pub(crate) async fn run(session: &Session, arguments: SubmitArguments) -> anyhow::Result<Exit> {
    if let Some(from) = arguments.from {
        return submit_many::run(session, &from, arguments.idempotency_key).await;
    }
    let payload = payload(&arguments.payload.unwrap_or_default())?;
    let client = session.client()?;
    let mut submit = client
        .submit_raw(&arguments.kind.unwrap_or_default(), payload)
        .after(arguments.after)
        .on_parent_failure(arguments.on_parent_failure)
        .policy(PolicyOverrides { attempts: arguments.attempts, ..PolicyOverrides::default() });
    for tag in arguments.tag {
        submit = submit.tag(tag);
    }
    if let Some(priority) = arguments.priority {
        submit = submit.priority(priority);
    }
    if let Some(key) = arguments.idempotency_key {
        submit = submit.idempotency_key(key);
    }
    if let Some(life) = arguments.idempotency_ttl {
        submit = submit.idempotency_ttl(life);
    }
    if let Some(time) = arguments.not_before {
        submit = submit.not_before(time.to_string());
    }
    if let Some(time) = arguments.deadline {
        submit = submit.deadline(time.to_string());
    }
    if let Some(tenant) = arguments.tenant {
        submit = submit.tenant(tenant);
    }
    for name in arguments.limit {
        submit = submit.limit(name);
    }
    if let Some(until) = arguments.unique {
        submit = submit.unique(Unique { until, by: arguments.unique_by });
    }
    let handle = submit.send().await?;
    if !arguments.watch {
        print_accepted(session, &handle)?;
        return Ok(Exit::Done);
    }
    session.note(&format!("{} is {}", handle.id(), handle.accepted().state));
    watch(session, &client, handle.id()).await
}

fn print_accepted(session: &Session, handle: &JobHandle<Raw>) -> anyhow::Result<()> {
    let job = handle.accepted();
    if session.json() {
        return print::json(job);
    }
    if handle.replayed() {
        session.note("This idempotency key was used before; this is the job that it made:");
    }
    if handle.is_like() {
        session.note("A job like this one is there; it excludes others:");
    }
    print::line(&job.id.to_string())
}

/// Follows a job; its result goes to standard output.
pub(crate) async fn watch(
    session: &Session,
    client: &fourmi_client::Client,
    id: &fourmi_model::JobId,
) -> anyhow::Result<Exit> {
    if session.json() {
        let job = follow::follow(session, client, id, &Progress::silent(), Telling::Lines).await?;
        return Ok(Exit::of(job.state));
    }
    let job = follow::follow(session, client, id, &session.progress(), Telling::ProgressAndLog).await?;
    if let (State::Succeeded, Some(result)) = (job.state, &job.result) {
        print::line(&serde_json::to_string_pretty(result)?)?;
    }
    Ok(follow::tell_end(&job))
}

/// The payload that an argument stands for.
pub(crate) fn payload(text: &str) -> anyhow::Result<Value> {
    let (text, place) = match text.strip_prefix('@') {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Stop::usage(format!("the payload cannot be read from {path}: {error}")))?;
            (text, path)
        }
        None if text == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Stop::usage(format!("the payload cannot be read from standard input: {error}")))?;
            (text, "standard input")
        }
        None => (text.to_owned(), "--payload"),
    };
    serde_json::from_str(&text).map_err(|error| {
        let example = json!({"source": {"upload": "file-…"}});
        Stop::usage(format!("the payload in {place} is no JSON ({error}); it should look like {example}"))
    })
}
