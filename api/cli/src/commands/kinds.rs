//! `fourmi kinds`: what the platform can do.

use clap::Args;
use fourmi_client::KindDocument;

use crate::{
    exit::Exit,
    print::{self, Table},
    session::Session,
};

/// Which kinds.
#[derive(Debug, Args)]
pub(crate) struct KindsArguments {
    /// Show this kind with the schemas of its payload and result
    name: Option<String>,
}

pub(crate) async fn run(session: &Session, arguments: KindsArguments) -> anyhow::Result<Exit> {
    let client = session.client()?;
    match arguments.name {
        Some(name) => show(session, &client.kind(&name).await?)?,
        None => list(session, &client.kinds().await?)?,
    }
    Ok(Exit::Done)
}

fn list(session: &Session, kinds: &[KindDocument]) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&serde_json::json!({"kinds": kinds}));
    }
    let mut table = Table::new(&["KIND", "QUEUE", "WHAT IT DOES"]);
    for kind in kinds {
        table.row(vec![kind.name.to_string(), kind.queue.to_string(), kind.summary.clone()]);
    }
    table.print()
}

fn show(session: &Session, kind: &KindDocument) -> anyhow::Result<()> {
    if session.json() {
        return print::json(kind);
    }
    let attempts = kind.attempts.map_or_else(|| "no limit".to_owned(), |attempts| attempts.to_string());
    let timeout = print::rough(std::time::Duration::from_millis(kind.timeout_ms));
    let place = if kind.isolated { "in a process of its own" } else { "in the worker" };
    print::line(&format!("{}: {}", kind.name, kind.summary))?;
    print::line(&format!("  queue     {}", kind.queue))?;
    print::line(&format!("  attempts  {attempts}"))?;
    print::line(&format!("  timeout   {timeout} a run"))?;
    print::line(&format!("  priority  {}", kind.priority))?;
    print::line(&format!("  runs      {place}"))?;
    if kind.internal {
        print::line("  for       the platform itself alone")?;
    }
    if kind.staff_only {
        print::line("  for       who sees the jobs of others")?;
    }
    if kind.operators_only {
        print::line("  for       operators of the platform alone")?;
    }
    print::line(&format!("\nPayload:\n{}", serde_json::to_string_pretty(&kind.payload_schema)?))?;
    print::line(&format!("\nResult:\n{}", serde_json::to_string_pretty(&kind.result_schema)?))
}
