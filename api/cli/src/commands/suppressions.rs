//! `fourmi suppressions`: addresses that get nothing any more.

use clap::{Args, Subcommand};
use fourmi_client::NewSuppression;
use fourmi_model::{Channel, SuppressionInfo, SuppressionReason, TenantName};
use serde_json::json;

use crate::{
    exit::Exit,
    print::{self, Table},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  fourmi suppressions list mail
  fourmi suppressions add mail ada@example.org --note 'asked by telephone'
  fourmi suppressions remove sms +33612345678 --tenant acme";

/// What to do with addresses that get nothing any more.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum SuppressionsCommand {
    /// List the addresses that get nothing any more
    List(ListArguments),
    /// Have an address get nothing any more
    Add(AddArguments),
    /// Let an address get messages again
    Remove(RemoveArguments),
}

/// Which addresses to list.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// sms, mail or push
    channel: Channel,
    /// Those of this tenant; without it those that hold for all
    #[arg(long)]
    tenant: Option<TenantName>,
}

/// An address that is to get nothing any more.
#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// sms, mail or push
    channel: Channel,
    /// A number (+33612345678), a mail address, or an owner of devices
    address: String,
    /// Why: opted_out, bounced, complained or manual
    #[arg(long)]
    reason: Option<SuppressionReason>,
    /// What a person should know of it
    #[arg(long)]
    note: Option<String>,
    /// The tenant whose messages it does not get; without it, it gets those of nobody
    #[arg(long)]
    tenant: Option<TenantName>,
}

/// An address that is to get messages again.
#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// sms, mail or push
    channel: Channel,
    /// The address
    address: String,
    /// The tenant whose messages it does not get
    #[arg(long)]
    tenant: Option<TenantName>,
}

pub(crate) async fn run(session: &Session, command: SuppressionsCommand) -> anyhow::Result<Exit> {
    let client = session.client()?;
    match command {
        SuppressionsCommand::List(ListArguments { channel, tenant }) => {
            list(session, &client.suppressions(channel, tenant.as_ref()).await?)?;
        }
        SuppressionsCommand::Add(AddArguments { channel, address, reason, note, tenant }) => {
            let wanted = NewSuppression { channel, address, reason, note, tenant };
            let added = client.add_suppression(&wanted).await?;
            if session.json() {
                print::json(&added)?;
            } else {
                print::line(&format!("{} gets nothing by {channel} ({}).", added.address, added.reason))?;
            }
        }
        SuppressionsCommand::Remove(RemoveArguments { channel, address, tenant }) => {
            client.remove_suppression(channel, &address, tenant.as_ref()).await?;
            if session.json() {
                print::json(&json!({ "removed": address }))?;
            } else {
                print::line(&format!("{address} gets messages by {channel} again."))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn list(session: &Session, suppressions: &[SuppressionInfo]) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({ "suppressions": suppressions }));
    }
    if suppressions.is_empty() {
        return print::line("No addresses.");
    }
    let mut table = Table::new(&["ADDRESS", "REASON", "SINCE", "NOTE"]);
    for suppression in suppressions {
        table.row(vec![
            print::one_line(&suppression.address),
            suppression.reason.to_string(),
            format!("{:.0}", suppression.created_at),
            suppression.note.as_deref().map_or_else(|| "-".to_owned(), print::one_line),
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
    fn a_channel_comes_before_the_address() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["fourmi", "suppressions"], words].concat());
        let read = parse(&["remove", "sms", "+33612345678", "--tenant", "acme"]).unwrap();
        let Command::Suppressions(SuppressionsCommand::Remove(read)) = read.command else {
            panic!("nothing is removed")
        };
        assert_eq!((read.channel, &*read.address), (Channel::Sms, "+33612345678"));
        for words in
            [&["list"][..], &["list", "fax"], &["add", "mail"], &["add", "mail", "a@b.co", "--reason", "bored"]]
        {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
