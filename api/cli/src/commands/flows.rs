//! `fourmi flows`: jobs that wait for each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
};

use clap::{Args, Subcommand};
use fourmi_client::{Flow, FlowAccepted, FlowJob};
use fourmi_model::{JobId, Tie};
use serde_json::Value;

use crate::{
    arguments::OneJob,
    exit::{Exit, Stop},
    print::{self, Table},
    session::Session,
};

/// What to do with flows.
#[derive(Debug, Subcommand)]
pub(crate) enum FlowsCommand {
    /// Submit jobs that wait for each other
    Submit(SubmitArguments),
    /// Show the flow around a job, as a tree
    Show(OneJob),
}

/// A flow.
#[derive(Debug, Args)]
#[command(after_help = "\
Example of a file: two jobs, and a third that runs when both have succeeded
  {\"batch\": true, \"jobs\": [
    {\"name\": \"left\", \"kind\": \"media.probe\", \"payload\": {\"source\": {\"upload\": \"file-…\"}}},
    {\"name\": \"right\", \"kind\": \"media.probe\", \"payload\": {\"source\": {\"upload\": \"file-…\"}}},
    {\"name\": \"both\", \"kind\": \"media.probe\", \"payload\": {\"source\": {\"upload\": \"file-…\"}},
     \"after\": [\"left\", \"right\"]}]}")]
pub(crate) struct SubmitArguments {
    /// File with the jobs, in JSON, or - to read it from standard input
    file: String,
    /// Submit each job at most once under this key
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(crate) async fn run(session: &Session, command: FlowsCommand) -> anyhow::Result<Exit> {
    match command {
        FlowsCommand::Submit(arguments) => submit(session, &arguments).await,
        FlowsCommand::Show(arguments) => show(session, &arguments.id).await,
    }
}

async fn submit(session: &Session, arguments: &SubmitArguments) -> anyhow::Result<Exit> {
    let flow = read(&arguments.file)?;
    let accepted = session.client()?.submit_flow(&flow, arguments.idempotency_key.as_deref()).await?;
    if session.json() {
        print::json(&accepted)?;
    } else {
        print_accepted(&accepted)?;
    }
    Ok(Exit::Done)
}

fn read(file: &str) -> anyhow::Result<Value> {
    let text = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|error| Stop::usage(format!("the flow cannot be read from {file}: {error}")))?;
    serde_json::from_str(&text).map_err(|error| Stop::usage(format!("the flow in {file} is no JSON: {error}")))
}

fn print_accepted(accepted: &FlowAccepted) -> anyhow::Result<()> {
    let mut table = Table::new(&["NAME", "ID"]);
    for job in &accepted.jobs {
        table.row(vec![job.name.clone(), job.id.to_string()]);
    }
    for (name, id) in [("(batch)", &accepted.batch), ("(then)", &accepted.then)] {
        id.iter().for_each(|id| table.row(vec![name.to_owned(), id.to_string()]));
    }
    table.print()
}

async fn show(session: &Session, id: &JobId) -> anyhow::Result<Exit> {
    let flow = session.client()?.flow(id).await?;
    if session.json() {
        print::json(&flow)?;
        return Ok(Exit::Done);
    }
    for line in tree(&flow) {
        print::line(&line)?;
    }
    if flow.cut {
        session.note("There are more jobs than these.");
    }
    Ok(Exit::Done)
}

/// The jobs, each below the first of those that it follows. A batch stands by itself: its members do.
fn tree(flow: &Flow) -> Vec<String> {
    let mut followers: BTreeMap<&JobId, Vec<&JobId>> = BTreeMap::new();
    let mut below: BTreeSet<&JobId> = BTreeSet::new();
    for edge in flow.edges.iter().filter(|edge| edge.tie != Tie::Batch) {
        followers.entry(&edge.from).or_default().push(&edge.to);
        below.insert(&edge.to);
    }
    let jobs: BTreeMap<&JobId, &FlowJob> = flow.jobs.iter().map(|job| (&job.id, job)).collect();
    let mut lines = Vec::new();
    let mut shown = BTreeSet::new();
    let mut waiting: Vec<(usize, &JobId)> =
        flow.jobs.iter().rev().filter(|job| !below.contains(&job.id)).map(|job| (0, &job.id)).collect();
    while let Some((depth, id)) = waiting.pop() {
        let Some(job) = jobs.get(id) else { continue };
        let again = !shown.insert(id);
        lines.push(format!(
            "{}{}",
            "  ".repeat(depth.min(20)),
            if again { format!("{id} (above)") } else { line(job) }
        ));
        if !again {
            waiting.extend(followers.get(id).into_iter().flatten().rev().map(|follower| (depth + 1, *follower)));
        }
    }
    lines
}

fn line(job: &FlowJob) -> String {
    let state = job.state.map_or_else(|| "forgotten".to_owned(), print::state);
    let mut words = vec![job.id.to_string(), state];
    words.extend(job.kind.iter().map(ToString::to_string));
    words.extend(job.percent.map(|percent| format!("{:.0} %", percent.floor())));
    words.extend(job.error.as_ref().map(|code| format!("({})", print::one_line(code))));
    words.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_stands_below_those_that_it_follows_and_is_told_once() {
        let id = |n: u8| format!("media-0198c0de-0000-7000-8000-00000000000{n}");
        let job = |n| serde_json::json!({"id": id(n), "kind": "media.probe", "state": "blocked"});
        let edge = |from, to, tie: &str| serde_json::json!({"from": id(from), "to": id(to), "tie": tie});
        let flow: Flow = serde_json::from_value(serde_json::json!({
            "jobs": [job(3), job(1), job(2), job(4)],
            "edges": [edge(1, 3, "after"), edge(2, 3, "after"), edge(3, 4, "batch")],
            "cut": false,
        }))
        .unwrap();
        let said = |n: u8| format!("{}  blocked  media.probe", id(n));
        let expected = [said(1), format!("  {}", said(3)), said(2), format!("  {} (above)", id(3)), said(4)];
        assert_eq!(tree(&flow), expected);
    }
}
