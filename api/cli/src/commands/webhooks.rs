//! `fourmi webhooks`: who is told of the ends of jobs.

use clap::{Args, Subcommand};
use fourmi_client::{Delivery, NewWebhook, WebhookChange, WebhookSecret};
use fourmi_model::{JobId, TenantName, WebhookEvent, WebhookId, WebhookInfo};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    exit::{Exit, Stop},
    print::{self, Table},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  fourmi webhooks create https://app.example.org/hooks
  fourmi webhooks create https://app.example.org/hooks --events job.failed,batch.failed
  fourmi webhooks test hook-0198c0de000070008000000000000001
  fourmi webhooks redeliver hook-0198c0de000070008000000000000001 --since 2026-01-02T00:00:00Z";

/// What to do with webhooks.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum WebhooksCommand {
    /// List the webhooks
    List,
    /// Make a webhook, and show its secret this once
    Create(CreateArguments),
    /// Change the address, description or events of a webhook
    Change(ChangeArguments),
    /// Send messages to a webhook again that was disabled
    Enable(OneWebhook),
    /// Send no messages to a webhook
    Disable(OneWebhook),
    /// Give a webhook a new secret; for a while the old one signs too
    Rotate(RotateArguments),
    /// Send a test message to a webhook
    Test(OneWebhook),
    /// List the newest messages to a webhook, and what became of them
    Deliveries(DeliveriesArguments),
    /// Send messages once more
    Redeliver(RedeliverArguments),
    /// Delete a webhook
    Delete(OneWebhook),
}

/// A webhook.
#[derive(Debug, Args)]
pub(crate) struct OneWebhook {
    /// Id of the webhook
    id: WebhookId,
}

/// A webhook to be made.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CreateArguments {
    /// Where messages go
    #[arg(value_name = "URL")]
    address: String,
    /// What it is for, for people
    #[arg(long)]
    description: Option<String>,
    /// What it tells of, such as job.failed; of every end if nothing is said, `none` for jobs alone that name it
    #[arg(long, value_name = "EVENTS")]
    events: Option<Events>,
    /// The tenant whose jobs it tells of
    #[arg(long)]
    tenant: Option<TenantName>,
    /// A secret that the other side knows already (whsec_…)
    #[arg(long, env = "FOURMI_WEBHOOK_SECRET", hide_env_values = true)]
    secret: Option<String>,
}

/// What to change of a webhook.
#[derive(Debug, Args)]
pub(crate) struct ChangeArguments {
    /// Id of the webhook
    id: WebhookId,
    /// Where messages go
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// What it is for; '' for nothing
    #[arg(long)]
    description: Option<String>,
    /// What it tells of; `none` for jobs alone that name it
    #[arg(long, value_name = "EVENTS")]
    events: Option<Events>,
}

/// How to change a secret.
#[derive(Debug, Args)]
pub(crate) struct RotateArguments {
    /// Id of the webhook
    id: WebhookId,
    /// How long the old secret signs too, in seconds; 0 if it has become known
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    grace: u32,
}

/// Which messages to list.
#[derive(Debug, Args)]
pub(crate) struct DeliveriesArguments {
    /// Id of the webhook
    id: WebhookId,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
}

/// Which messages to send once more.
#[derive(Debug, Args)]
pub(crate) struct RedeliverArguments {
    /// Id of the webhook
    id: WebhookId,
    /// One message, by the id of its delivery
    #[arg(required_unless_present = "since")]
    delivery: Option<JobId>,
    /// All that came about since then and were given up
    #[arg(long, value_name = "TIME", conflicts_with = "delivery")]
    since: Option<Timestamp>,
}

/// Events, separated by commas, or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Events(Vec<WebhookEvent>);

impl std::str::FromStr for Events {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let events = text.split(',').map(|word| word.trim().parse::<WebhookEvent>());
        events.collect::<Result<_, _>>().map(Self).map_err(|error| error.to_string())
    }
}

pub(crate) async fn run(session: &Session, command: WebhooksCommand) -> anyhow::Result<Exit> {
    let client = session.client()?;
    match command {
        WebhooksCommand::List => list(session, &client.webhooks().await?)?,
        WebhooksCommand::Create(CreateArguments { address, description, events, tenant, secret }) => {
            let wanted =
                NewWebhook { url: address, description, events: events.map(|events| events.0), tenant, secret };
            tell_secret(session, &client.create_webhook(&wanted).await?)?;
        }
        WebhooksCommand::Change(ChangeArguments { id, address, description, events }) => {
            let change =
                WebhookChange { url: address, description, events: events.map(|events| events.0), enabled: None };
            if change == WebhookChange::default() {
                return Err(Stop::usage("say what to change: --address, --description or --events"));
            }
            tell(session, &client.change_webhook(&id, &change).await?, "is changed")?;
        }
        WebhooksCommand::Enable(OneWebhook { id }) => enable(session, &id, true).await?,
        WebhooksCommand::Disable(OneWebhook { id }) => enable(session, &id, false).await?,
        WebhooksCommand::Rotate(RotateArguments { id, grace }) => {
            tell_secret(session, &client.rotate_webhook(&id, grace).await?)?;
        }
        WebhooksCommand::Test(OneWebhook { id }) => {
            let delivery = client.test_webhook(&id).await?;
            if session.json() {
                print::json(&json!({ "delivery": delivery }))?;
            } else {
                print::line(&format!("{delivery} sends it; see `fourmi webhooks deliveries {id}`."))?;
            }
        }
        WebhooksCommand::Deliveries(DeliveriesArguments { id, limit }) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            deliveries(session, &client.deliveries(&id, limit).await?)?;
        }
        WebhooksCommand::Redeliver(RedeliverArguments { id, delivery, since }) => {
            let count = match (delivery, since) {
                (Some(delivery), _) => client.redeliver(&id, &delivery).await.map(|()| 1)?,
                (None, Some(since)) => client.redeliver_since(&id, since).await?,
                (None, None) => return Err(Stop::usage("name a delivery, or --since")),
            };
            if session.json() {
                print::json(&json!({ "redelivered": count }))?;
            } else {
                print::line(&format!("{count} on their way again."))?;
            }
        }
        WebhooksCommand::Delete(OneWebhook { id }) => {
            client.delete_webhook(&id).await?;
            if session.json() {
                print::json(&json!({ "deleted": id }))?;
            } else {
                print::line(&format!("{id} is deleted."))?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn enable(session: &Session, id: &WebhookId, enabled: bool) -> anyhow::Result<()> {
    let change = WebhookChange { enabled: Some(enabled), ..WebhookChange::default() };
    let webhook = session.client()?.change_webhook(id, &change).await?;
    tell(session, &webhook, if enabled { "is told again" } else { "is told nothing" })
}

fn tell(session: &Session, webhook: &WebhookInfo, text: &str) -> anyhow::Result<()> {
    if session.json() { print::json(webhook) } else { print::line(&format!("{} {text}.", webhook.id)) }
}

fn tell_secret(session: &Session, made: &WebhookSecret) -> anyhow::Result<()> {
    if session.json() {
        return print::json(made);
    }
    print::line(&format!("webhook  {}", made.webhook.id))?;
    print::line(&format!("secret   {}", made.secret))?;
    print::line("The secret is shown this once.")
}

fn list(session: &Session, webhooks: &[WebhookInfo]) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({ "webhooks": webhooks }));
    }
    if webhooks.is_empty() {
        return print::line("No webhooks.");
    }
    let mut table = Table::new(&["ID", "URL", "EVENTS", "TENANT", "STATE"]);
    for webhook in webhooks {
        let events = match webhook.events.len() {
            0 => "none".to_owned(),
            all if all == WebhookEvent::ALL.len() => "all".to_owned(),
            _ => webhook.events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(","),
        };
        let state = match &webhook.disabled_for {
            Some(reason) => format!("disabled ({reason})"),
            None if webhook.enabled => "enabled".to_owned(),
            None => "disabled".to_owned(),
        };
        let tenant = webhook.tenant.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        table.row(vec![webhook.id.to_string(), print::one_line(&webhook.url), events, tenant, state]);
    }
    table.print()
}

fn deliveries(session: &Session, deliveries: &[Delivery]) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({ "deliveries": deliveries }));
    }
    if deliveries.is_empty() {
        return print::line("No messages.");
    }
    let mut table = Table::new(&["ID", "EVENT", "STATE", "ATTEMPTS", "ANSWER", "CREATED"]);
    for delivery in deliveries {
        let answer = match (delivery.status, &delivery.error) {
            (Some(status), _) => status.to_string(),
            (None, Some(error)) => error.code.clone(),
            (None, None) => "-".to_owned(),
        };
        table.row(vec![
            delivery.id.to_string(),
            delivery.event.to_string(),
            delivery.state.to_string(),
            delivery.attempts.to_string(),
            answer,
            format!("{:.0}", delivery.created_at),
        ]);
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    #[test]
    fn events_are_words_and_a_redelivery_names_one_or_a_time() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["fourmi", "webhooks"], words].concat());
        let read = parse(&["create", "https://example.org", "--events", "job.failed, batch.failed"]).unwrap();
        assert_eq!(read.common.url, None, "it is not the address of the API");
        let Command::Webhooks(WebhooksCommand::Create(read)) = read.command else { panic!("nothing is made") };
        assert_eq!(read.address, "https://example.org");
        assert_eq!(read.events.unwrap().0, [WebhookEvent::JobFailed, WebhookEvent::BatchFailed]);
        let id = "hook-0198c0de000070008000000000000001";
        assert!(parse(&["redeliver", id, "--since", "2026-01-02T00:00:00Z"]).is_ok());
        for words in [
            &["create", "https://example.org", "--events", "job.started"][..],
            &["redeliver", id],
            &["test", "hook-1"],
            &["redeliver", id, "messaging-0198c0de-0000-7000-8000-000000000001", "--since", "2026-01-02T00:00:00Z"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
