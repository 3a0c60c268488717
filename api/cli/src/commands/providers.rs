//! `fourmi providers`: how the providers of messages are, and what was spent with them.

use clap::Args;
use fourmi_model::{ProviderCheck, ProviderInfo, SpendingInfo};

use crate::{
    exit::Exit,
    print::{self, Table},
    session::Session,
};

/// Providers, as the workers have met and checked them.
#[derive(Debug, Args)]
pub(crate) struct ProvidersArguments {}

pub(crate) async fn run(session: &Session, _: ProvidersArguments) -> anyhow::Result<Exit> {
    let list = session.client()?.providers().await?;
    if session.json() {
        print::json(&list)?;
        return Ok(Exit::Done);
    }
    if list.providers.is_empty() {
        print::line("No account with a provider is known: put one into the folder secrets (docs/providers.md).")?;
        return Ok(Exit::Done);
    }
    let heads = ["ACCOUNT", "STATUS", "ANSWERS", "OUTAGES", "LATENCY", "LAST CODE", "CREDITS", "LAST CHECK"];
    let mut table = Table::new(&heads);
    for provider in list.providers {
        table.row(row(provider));
    }
    table.print()?;
    if !list.spending.is_empty() {
        let mut table = Table::new(&["TENANT", "ACCOUNT", &format!("SPENT IN {}", list.month)]);
        for SpendingInfo { tenant, account, amount } in list.spending {
            let tenant = tenant.map_or_else(|| "-".to_owned(), |tenant| tenant.to_string());
            table.row(vec![tenant, account, amount.to_string()]);
        }
        table.print()?;
    }
    Ok(Exit::Done)
}

fn row(provider: ProviderInfo) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let status = match provider.down_since {
        Some(since) => format!("down since {since:.0}"),
        None => provider.status.to_string(),
    };
    vec![
        provider.account,
        status,
        provider.answers.to_string(),
        provider.outages.to_string(),
        or_dash(provider.latency_ms.map(|ms| format!("{ms} ms"))),
        or_dash(provider.last_code),
        or_dash(provider.credits.map(|credits| credits.to_string())),
        or_dash(provider.check.map(in_words)),
    ]
}

fn in_words(ProviderCheck { checked_at, status, message, .. }: ProviderCheck) -> String {
    match message {
        Some(message) => format!("{status} at {checked_at:.0}: {message}"),
        None => format!("{status} at {checked_at:.0}"),
    }
}
