//! `fourmi audit`: who did what that concerns security.

use clap::Args;
use fourmi_client::{AuditPage, AuditQuery};
use fourmi_model::{AuditEvent, Outcome, TenantName};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    arguments::moment,
    commands::pages,
    exit::Exit,
    print::{self, Table},
    session::Session,
};

/// Which events.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi audit --action login --outcome failure --since 1d
  fourmi audit --target user-0198c0de000070008000000000000001
  fourmi audit --tenant acme --action user --json | jq -r '.events[] | [.time, .actor, .action, .target] | @tsv'")]
pub(crate) struct AuditArguments {
    /// Only what the person or key of this id did
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Only this, or all that begins with this word: user means user.created, user.deleted and so on
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what was done to the person, key, session or tenant of this id
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// Only what concerns this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantName>,
    /// Only what ended so: success, failure or denied
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<Outcome>,
    /// Only what happened at this time or later: a time, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what happened before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// The most events to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, conflicts_with = "all")]
    limit: usize,
    /// List all, however many
    #[arg(long, short)]
    all: bool,
}

pub(crate) async fn run(session: &Session, arguments: AuditArguments) -> anyhow::Result<Exit> {
    let AuditArguments { actor, action, target, tenant, outcome, since, until, limit, all } = arguments;
    let wanted = if all { usize::MAX } else { limit };
    let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let (after, before) = (text(since), text(until));
    let query = AuditQuery { tenant, actor, target, action, outcome, after, before, ..AuditQuery::default() };
    let client = session.client()?;
    let (events, next) = pages::collect(wanted, None, async |limit, cursor| {
        let page = client.audit(&AuditQuery { limit: Some(limit), cursor, ..query.clone() }).await?;
        Ok((page.events, page.next))
    })
    .await?;
    if session.json() {
        print::json(&AuditPage { events, next })?;
        return Ok(Exit::Done);
    }
    print_table(&events)?;
    if next.is_some() {
        session.note("There are more: --limit N or --all lists them.");
    }
    Ok(Exit::Done)
}

fn print_table(events: &[AuditEvent]) -> anyhow::Result<()> {
    if events.is_empty() {
        return print::line("No events.");
    }
    let mut table = Table::new(&["TIME", "ACTION", "OUTCOME", "ACTOR", "TARGET", "TENANT", "ADDRESS", "DETAILS"]);
    for event in events {
        let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
        table.row(vec![
            format!("{:.0}", event.time),
            event.action.clone(),
            event.outcome.to_string(),
            or_dash(event.actor.as_deref()),
            or_dash(event.target.as_deref()),
            or_dash(event.tenant.as_ref().map(TenantName::as_str)),
            or_dash(event.address.as_deref()),
            details(event),
        ]);
    }
    table.print()
}

/// The rest of an event on one line.
fn details(event: &AuditEvent) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    event.details.iter().map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::arguments::Arguments;

    #[test]
    fn details_stand_on_one_line() {
        let event = json!({
            "id": "event-1", "time": "2026-01-01T00:00:00Z", "action": "user.role_changed", "outcome": "success",
            "details": {"from": "user", "sessions": 2, "to": "admin"},
        });
        assert_eq!(details(&serde_json::from_value(event).unwrap()), "from=user sessions=2 to=admin");
    }

    #[test]
    fn only_outcomes_and_times_that_are_known_are_asked_for() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["fourmi", "audit"], words].concat());
        assert!(parse(&["--outcome", "denied", "--since", "1d", "--limit", "5"]).is_ok());
        assert!(parse(&["--outcome", "maybe"]).is_err() && parse(&["--since", "yesterday"]).is_err());
    }
}
