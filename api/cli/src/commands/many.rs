//! `fourmi cancel`, `retry`, `delete`: one job, or all that a filter wants.

use clap::Args;
use fourmi_client::{ActionTotal, Client, JobAction, JobQuery};
use fourmi_model::{Job, JobId, KindName, ParkReason, QueueName, State, TenantName};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    arguments::moment,
    commands::{
        dead::{agrees, check_that_somebody_is_there, jobs_are, jobs_of},
        submit,
    },
    exit::{Exit, Stop},
    print,
    session::Session,
};

/// The most jobs that the API takes in one call.
const MOST_IDS: usize = 1_000;

/// Which jobs.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only jobs in this state; may be given several times
    #[arg(long, short, value_name = "STATE")]
    state: Vec<State>,
    /// Only jobs of this kind
    #[arg(long, short, value_name = "KIND")]
    kind: Option<KindName>,
    /// Only jobs in this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<QueueName>,
    /// Only jobs with this label
    #[arg(long, short, value_name = "TAG")]
    tag: Option<String>,
    /// Only jobs of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantName>,
    /// Only jobs that were submitted with the API key of this id
    #[arg(long, value_name = "KEY")]
    submitted_by: Option<String>,
    /// Only jobs whose newest error has this code
    #[arg(long, short, value_name = "CODE")]
    error: Option<String>,
    /// Only jobs that are parked for this reason
    #[arg(long, value_name = "REASON")]
    parked: Option<ParkReason>,
    /// Only jobs that were submitted at this time or later: a time, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only jobs that were submitted before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only jobs that were over at this time or later
    #[arg(long, value_name = "TIME", value_parser = moment)]
    finished_since: Option<Timestamp>,
    /// Only jobs that were over before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    finished_until: Option<Timestamp>,
}

impl Filter {
    pub(crate) fn query(self) -> JobQuery {
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        JobQuery {
            states: self.state,
            kind: self.kind,
            queue: self.queue,
            tag: self.tag,
            tenant: self.tenant,
            submitted_by: self.submitted_by,
            error: self.error,
            parked_reason: self.parked,
            created_after: text(self.since),
            created_before: text(self.until),
            finished_after: text(self.finished_since),
            finished_before: text(self.finished_until),
            ..JobQuery::default()
        }
    }
}

/// Which jobs to do something with.
#[derive(Debug, Args)]
struct Selection {
    /// Ids of the jobs; without, a filter or --all says which
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: Filter,
    /// All jobs
    #[arg(long, short, conflicts_with = "ids")]
    all: bool,
    /// Only count them
    #[arg(long)]
    dry_run: bool,
}

/// Which jobs to stop.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi cancel media-…
  fourmi cancel --tag night --state waiting --dry-run
  fourmi cancel --kind audio.extract --since 2h --yes")]
pub(crate) struct CancelArguments {
    #[command(flatten)]
    selection: Selection,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Which jobs to run again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi retry media-… --watch
  fourmi retry --state cancelled --tag night")]
pub(crate) struct RetryArguments {
    #[command(flatten)]
    selection: Selection,
    /// Wait until the job is over, showing how far it is
    #[arg(long, short)]
    watch: bool,
}

/// Which jobs to forget.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi delete media-…
  fourmi delete --finished-until 7d --dry-run
  fourmi delete --tag trial --yes

What was deleted is gone, with its log, its runs and its record. Files stay.")]
pub(crate) struct DeleteArguments {
    #[command(flatten)]
    selection: Selection,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(crate) async fn cancel(session: &Session, arguments: CancelArguments) -> anyhow::Result<Exit> {
    let CancelArguments { selection, yes } = arguments;
    let Some(id) = selection.one() else {
        return Many { action: JobAction::Cancel, word: "cancel", done: "stopped, or asked to stop", asks: !yes }
            .run(session, selection)
            .await;
    };
    let job: Job = session.client()?.cancel(id).await?;
    if session.json() {
        print::json(&job)?;
    } else if job.state == State::Cancelled {
        print::line(&format!("{} is cancelled.", job.id))?;
    } else {
        print::line(&format!("{} was asked to stop; `fourmi watch {0}` tells when it has.", job.id))?;
    }
    Ok(Exit::Done)
}

pub(crate) async fn retry(session: &Session, arguments: RetryArguments) -> anyhow::Result<Exit> {
    let RetryArguments { selection, watch } = arguments;
    let Some(id) = selection.one() else {
        if watch {
            return Err(Stop::usage("--watch follows one job: give its id, and nothing else"));
        }
        return Many { action: JobAction::Retry, word: "retry", done: "ready to run again", asks: false }
            .run(session, selection)
            .await;
    };
    let client = session.client()?;
    let job = client.retry(id).await?;
    if watch {
        return submit::watch(session, &client, id).await;
    }
    if session.json() {
        print::json(&job)?;
    } else {
        print::line(&format!("{id} is {} again.", job.state))?;
    }
    Ok(Exit::Done)
}

pub(crate) async fn delete(session: &Session, arguments: DeleteArguments) -> anyhow::Result<Exit> {
    let DeleteArguments { selection, yes } = arguments;
    let Some(id) = selection.one() else {
        return Many { action: JobAction::Delete, word: "delete", done: "forgotten", asks: !yes }
            .run(session, selection)
            .await;
    };
    session.client()?.delete(id).await?;
    if session.json() {
        print::json(&json!({"deleted": id}))?;
    } else {
        print::line(&format!("{id} is forgotten."))?;
    }
    Ok(Exit::Done)
}

/// Something to be done with many jobs.
struct Many {
    action: JobAction,
    word: &'static str,
    /// What is said of the jobs with which it was done.
    done: &'static str,
    /// Whether a person is asked first.
    asks: bool,
}

impl Many {
    async fn run(&self, session: &Session, selection: Selection) -> anyhow::Result<Exit> {
        let Selection { mut ids, filter, all, dry_run } = selection;
        let query = filter.query();
        if !all && ids.is_empty() && query == JobQuery::default() {
            return Err(Stop::usage("say which jobs: their ids, a filter such as --tag TAG, or --all"));
        }
        ids.sort();
        ids.dedup();
        // What is named is meant.
        let asks = self.asks && ids.is_empty();
        if asks && !dry_run {
            let why = format!("many jobs are a lot to {}", self.word);
            check_that_somebody_is_there(&why, "--yes, or --dry-run to count it first")?;
        }
        let client = session.client()?;
        if dry_run || asks {
            let total = self.walk(session, &client, &query, &ids, true).await?;
            let text = format!("{}.", jobs_are(total.matched, "meant"));
            if dry_run || total.matched == 0 {
                return tell(session, total, "dry_run", &text);
            }
            if !agrees(&format!("{text} Go on? [y/N] "))? {
                return Err(Stop::usage("nothing was done"));
            }
        }
        let total = self.walk(session, &client, &query, &ids, false).await?;
        tell(session, total, self.word, &format!("{}.", jobs_are(total.done, self.done)))
    }

    async fn walk(
        &self,
        session: &Session,
        client: &Client,
        query: &JobQuery,
        ids: &[JobId],
        dry_run: bool,
    ) -> anyhow::Result<ActionTotal> {
        let walk = || client.act(self.action, query);
        let walks = match ids {
            [] => vec![walk()],
            ids => ids.chunks(MOST_IDS).map(|ids| walk().only(ids)).collect(),
        };
        let progress = session.progress();
        let mut total = ActionTotal::default();
        for walk in walks {
            let mut walk = if dry_run { walk.dry_run() } else { walk };
            let before = total;
            while let Some(so_far) = walk.step().await? {
                total = ActionTotal { matched: before.matched + so_far.matched, done: before.done + so_far.done };
                progress.wait(&format!("{} so far", jobs_of(total.matched)), "");
            }
        }
        progress.clear();
        Ok(total)
    }
}

fn tell(session: &Session, total: ActionTotal, what: &str, text: &str) -> anyhow::Result<Exit> {
    if session.json() {
        print::json(&json!({"action": what, "matched": total.matched, "done": total.done}))?;
    } else {
        print::line(text)?;
    }
    Ok(Exit::Done)
}

impl Selection {
    /// The id, if it is one that is named and nothing else is said.
    fn one(&self) -> Option<&JobId> {
        let Filter {
            state,
            kind,
            queue,
            tag,
            tenant,
            submitted_by,
            error,
            parked,
            since,
            until,
            finished_since,
            finished_until,
        } = &self.filter;
        let texts = [tag, submitted_by, error];
        let times = [since, until, finished_since, finished_until];
        let is_plain = state.is_empty()
            && kind.is_none()
            && queue.is_none()
            && tenant.is_none()
            && parked.is_none()
            && texts.iter().all(|text| text.is_none())
            && times.iter().all(|time| time.is_none())
            && !self.dry_run;
        self.ids.first().filter(|_| is_plain && self.ids.len() == 1)
    }
}
