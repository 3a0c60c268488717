//! `fourmi keys`: who may do what.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use fourmi_client::{KeyChange, NewKey};
use fourmi_model::{KeyInfo, NewSecret, Scope, Scopes, TenantName};
use jiff::Timestamp;

use crate::{
    arguments::{coming, lasting},
    exit::{Exit, Stop},
    print::{self, Table},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  fourmi keys create web --for app --tenant acme
  fourmi keys create 'kiosk in the hall' --for device --tenant acme --rate-limit 300/60
  fourmi keys create dashboard --scope queues:read --scope jobs:read --expires 90d
  fourmi keys rotate key-0198c0de0000 --grace 1h
  fourmi keys revoke key-0198c0de0000";

/// What to do with keys.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum KeysCommand {
    /// List the keys, with those that have ended or were taken back
    List,
    /// Show a key; without an id, the one that is used here
    Show {
        /// The key's id
        id: Option<String>,
    },
    /// Make a key; its secret is shown this once
    Create(CreateArguments),
    /// Change what a key is for, what it may do, how often and until when
    Change(ChangeArguments),
    /// Give a key a new secret; the old one stays valid for a while
    Rotate(RotateArguments),
    /// Take a key back, for good
    Revoke {
        /// The key's id
        id: String,
    },
}

/// Whom a key is for: a set of scopes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Purpose {
    /// A program that submits jobs and reads what became of them: jobs:submit, jobs:read, jobs:control, files:*
    App,
    /// A worker of another system, which registers kinds and runs their jobs: jobs:work, files:*
    Worker,
    /// A machine in a public place, which sees only what it has submitted: jobs:submit, jobs:read, files:*
    Device,
    /// A page that anybody may read: public:read
    Public,
    /// A person or program that looks at everything: *:read
    Reader,
    /// Whoever runs the platform: everything
    Admin,
}

impl Purpose {
    fn scopes(self) -> Scopes {
        use Scope::{FilesRead, FilesWrite, JobsControl, JobsRead, JobsSubmit, JobsWork, PublicRead, QueuesRead};
        match self {
            Self::App => [JobsSubmit, JobsRead, JobsControl, FilesWrite, FilesRead].into_iter().collect(),
            Self::Worker => [JobsWork, FilesWrite, FilesRead].into_iter().collect(),
            Self::Device => [JobsSubmit, JobsRead, FilesWrite, FilesRead].into_iter().collect(),
            Self::Public => [PublicRead].into_iter().collect(),
            Self::Reader => [JobsRead, FilesRead, QueuesRead].into_iter().collect(),
            Self::Admin => Scopes::all(),
        }
    }
}

/// A key to be made.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CreateArguments {
    /// What it is for, for people
    name: String,
    /// Whom it is for: a set of scopes
    #[arg(long = "for", value_name = "PURPOSE", required_unless_present = "scopes")]
    purpose: Option<Purpose>,
    /// What it may do beside that; may be given again
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// The tenant whose jobs and files it sees; without one, those of all
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantName>,
    /// How often it may ask, such as 100/60: in 60 seconds
    #[arg(long, value_name = "N/SECONDS")]
    rate_limit: Option<String>,
    /// When it ends: a time, or how long it lives, such as 90d
    #[arg(long, value_name = "WHEN", value_parser = coming)]
    expires: Option<Timestamp>,
}

/// What to change of a key.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChangeArguments {
    /// The key's id
    id: String,
    /// What it is for, for people
    #[arg(long)]
    name: Option<String>,
    /// What it may do, instead of what it could; may be given again
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// How often it may ask, such as 100/60; '' for as often as the settings say
    #[arg(long, value_name = "N/SECONDS")]
    rate_limit: Option<String>,
    /// When it ends: a time, or how long it lives from now, such as 90d
    #[arg(long, value_name = "WHEN", value_parser = coming)]
    expires: Option<Timestamp>,
}

/// How a key gets a new secret.
#[derive(Debug, Args)]
pub(crate) struct RotateArguments {
    /// The key's id
    id: String,
    /// How long the old secret stays valid too, such as 1h; 0s if it has become known
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = lasting)]
    grace: Duration,
}

pub(crate) async fn run(session: &Session, command: KeysCommand) -> anyhow::Result<Exit> {
    let client = session.client()?;
    match command {
        KeysCommand::List => list(session, &client.keys().await?)?,
        KeysCommand::Show { id: Some(id) } => show(session, &client.key(&id).await?)?,
        KeysCommand::Show { id: None } => show(session, &client.own_key().await?)?,
        KeysCommand::Create(arguments) => {
            let device = matches!(arguments.purpose, Some(Purpose::Device));
            let scopes = arguments.purpose.map(Purpose::scopes).unwrap_or_default();
            let key = NewKey {
                name: arguments.name,
                scopes: scopes.iter().chain(arguments.scopes).collect(),
                tenant: arguments.tenant,
                device,
                rate_limit: arguments.rate_limit,
                expires_at: arguments.expires.map(|time| time.to_string()),
            };
            show_secret(session, &client.create_key(&key).await?)?;
        }
        KeysCommand::Change(ChangeArguments { id, name, scopes, rate_limit, expires }) => {
            let scopes = (!scopes.is_empty()).then(|| scopes.into_iter().collect());
            let expires_at = expires.map(|time| time.to_string());
            let change = KeyChange { name, scopes, rate_limit, expires_at };
            if change == KeyChange::default() {
                return Err(Stop::usage("say what to change: --name, --scope, --rate-limit or --expires"));
            }
            show(session, &client.change_key(&id, &change).await?)?;
        }
        KeysCommand::Rotate(RotateArguments { id, grace }) => {
            let seconds = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX);
            show_secret(session, &client.rotate_key(&id, seconds).await?)?;
        }
        KeysCommand::Revoke { id } => {
            client.revoke_key(&id).await?;
            session.note(&format!("{id} opens nothing any more"));
        }
    }
    Ok(Exit::Done)
}

fn list(session: &Session, keys: &[KeyInfo]) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&keys);
    }
    let mut table = Table::new(&["ID", "NAME", "SECRET", "TENANT", "SCOPES", "LAST USED", "STATE"]);
    for key in keys {
        table.row(vec![
            key.id.clone(),
            key.name.clone(),
            format!("{}…", key.prefix),
            key.tenant.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            scopes(key),
            key.last_used_at.map_or_else(|| "never".to_owned(), |time| time.to_string()),
            state(key),
        ]);
    }
    table.print()
}

fn show(session: &Session, key: &KeyInfo) -> anyhow::Result<()> {
    if session.json() { print::json(key) } else { list(session, std::slice::from_ref(key)) }
}

fn show_secret(session: &Session, new: &NewSecret) -> anyhow::Result<()> {
    if session.json() {
        return print::json(new);
    }
    show(session, &new.key)?;
    print::line("")?;
    print::line(&new.secret)?;
    session.note("This is the secret. It is not shown again.");
    Ok(())
}

fn scopes(key: &KeyInfo) -> String {
    if key.scopes == Scopes::all() {
        return "all".to_owned();
    }
    key.scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
}

fn state(key: &KeyInfo) -> String {
    match (key.revoked_at, key.expires_at) {
        (Some(time), _) => format!("taken back {time}"),
        (None, Some(end)) if end <= Timestamp::now() => format!("ended {end}"),
        (None, Some(end)) => format!("until {end}"),
        (None, None) if key.device => "device".to_owned(),
        (None, None) => "valid".to_owned(),
    }
}
