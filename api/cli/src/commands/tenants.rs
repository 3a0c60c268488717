//! `fourmi tenants`: the apps, customers or teams that share a platform.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use fourmi_client::{NewTenant, TenantChange, TenantDetails, TenantUsage};
use fourmi_model::{TenantInfo, TenantName};
use serde_json::json;

use crate::{
    exit::{Exit, Stop},
    print::{self, Table},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  fourmi tenants create acme --registration --app-url https://app.example.org
  fourmi tenants change acme --registration off
  fourmi tenants suspend acme
  fourmi tenants usage acme --days 7";

/// What to do with tenants.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum TenantsCommand {
    /// List the tenants, by name
    List,
    /// Show a tenant with its people, keys, weights and limits
    Show(OneTenant),
    /// Make a tenant: then it can have people and keys
    Create(CreateArguments),
    /// Change what a tenant is called, who may make accounts, where its app is
    Change(ChangeArguments),
    /// Refuse the people and keys of a tenant
    Suspend(OneTenant),
    /// Let the people and keys of a tenant in again
    Resume(OneTenant),
    /// Delete a tenant that has neither people nor keys; its jobs and files stay
    Delete(OneTenant),
    /// Say what the jobs of a tenant came to
    Usage(UsageArguments),
}

/// A tenant.
#[derive(Debug, Args)]
pub(crate) struct OneTenant {
    /// Name of the tenant
    name: TenantName,
}

/// A tenant to be made.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CreateArguments {
    /// Its name, which never changes
    name: TenantName,
    /// What it is called, for people
    #[arg(long)]
    title: Option<String>,
    /// Let people make accounts for themselves
    #[arg(long)]
    registration: bool,
    /// Address of its app, where the links in mails to its people lead
    #[arg(long, value_name = "URL")]
    app_url: Option<String>,
}

/// What to change of a tenant.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChangeArguments {
    /// Name of the tenant
    name: TenantName,
    /// What it is called, for people; '' for nothing but its name
    #[arg(long)]
    title: Option<String>,
    /// Whether people may make accounts for themselves
    #[arg(long, value_name = "on|off")]
    registration: Option<Switch>,
    /// Address of its app, where the links in mails to its people lead; '' for none
    #[arg(long, value_name = "URL")]
    app_url: Option<String>,
}

/// Something that is or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// Of what to say how much it was.
#[derive(Debug, Args)]
pub(crate) struct UsageArguments {
    /// Name of the tenant
    name: TenantName,
    /// How many days back
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
}

pub(crate) async fn run(session: &Session, command: TenantsCommand) -> anyhow::Result<Exit> {
    match command {
        TenantsCommand::List => list(session, &session.client()?.tenants().await?)?,
        TenantsCommand::Show(OneTenant { name }) => show(session, &session.client()?.tenant(&name).await?)?,
        TenantsCommand::Create(CreateArguments { name, title, registration, app_url }) => {
            let tenant = session.client()?.create_tenant(&NewTenant { name, title, registration, app_url }).await?;
            tell(session, &tenant, "is made")?;
        }
        TenantsCommand::Change(ChangeArguments { name, title, registration, app_url }) => {
            let registration = registration.map(|switch| switch == Switch::On);
            let change = TenantChange { title, registration, app_url, suspended: None };
            if change == TenantChange::default() {
                return Err(Stop::usage("say what to change: --title, --registration or --app-url"));
            }
            tell(session, &session.client()?.change_tenant(&name, &change).await?, "is changed")?;
        }
        TenantsCommand::Suspend(tenant) => suspend(session, &tenant.name, true).await?,
        TenantsCommand::Resume(tenant) => suspend(session, &tenant.name, false).await?,
        TenantsCommand::Delete(OneTenant { name }) => {
            session.client()?.delete_tenant(&name).await?;
            if session.json() {
                print::json(&json!({"deleted": name}))?;
            } else {
                print::line(&format!("{name} is deleted."))?;
            }
        }
        TenantsCommand::Usage(UsageArguments { name, days }) => {
            let usage = session.client()?.tenant_usage(&name, days).await?;
            show_usage(session, &usage)?;
        }
    }
    Ok(Exit::Done)
}

async fn suspend(session: &Session, name: &TenantName, suspended: bool) -> anyhow::Result<()> {
    let change = TenantChange { suspended: Some(suspended), ..TenantChange::default() };
    let tenant = session.client()?.change_tenant(name, &change).await?;
    let text = if suspended { "is suspended: its people and keys are refused" } else { "goes on" };
    tell(session, &tenant, text)
}

fn tell(session: &Session, tenant: &TenantInfo, text: &str) -> anyhow::Result<()> {
    if session.json() { print::json(tenant) } else { print::line(&format!("{} {text}.", tenant.name)) }
}

fn list(session: &Session, tenants: &[TenantInfo]) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({"tenants": tenants}));
    }
    if tenants.is_empty() {
        return print::line("No tenants.");
    }
    let mut table = Table::new(&["NAME", "TITLE", "REGISTRATION", "APP", "STATE"]);
    for tenant in tenants {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        table.row(vec![
            tenant.name.to_string(),
            or_dash(&tenant.title),
            on_or_off(tenant.registration).to_owned(),
            or_dash(&tenant.app_url),
            state(tenant),
        ]);
    }
    table.print()
}

fn on_or_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

fn state(tenant: &TenantInfo) -> String {
    tenant.suspended_at.map_or_else(|| "active".to_owned(), |time| format!("suspended {time:.0}"))
}

fn show(session: &Session, details: &TenantDetails) -> anyhow::Result<()> {
    if session.json() {
        return print::json(details);
    }
    let TenantDetails { tenant, people, keys, queues } = details;
    let field = |name: &str, value: &str| print::line(&format!("{name:<12}  {}", print::one_line(value)));
    field("name", tenant.name.as_str())?;
    for (name, value) in [("title", &tenant.title), ("app", &tenant.app_url)] {
        value.as_ref().map_or(Ok(()), |value| field(name, value))?;
    }
    field("registration", on_or_off(tenant.registration))?;
    field("state", &state(tenant))?;
    let by = tenant.created_by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
    field("created", &format!("{:.0}{by}", tenant.created_at))?;
    field("people", &people.to_string())?;
    field("keys", &keys.to_string())?;
    print::line("")?;
    let mut table = Table::new(&["QUEUE", "JOBS A TURN", "AT ONCE", "RATE", "RUNNING"]);
    for place in queues {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let limit = place.limit.as_ref();
        table.row(vec![
            place.queue.to_string(),
            place.weight.to_string(),
            or_dash(limit.and_then(|state| Some(state.limit.concurrency?.to_string()))),
            or_dash(limit.and_then(|state| Some(state.limit.rate?.to_string()))),
            or_dash(limit.map(|state| state.running.to_string())),
        ]);
    }
    table.print()
}

fn show_usage(session: &Session, usage: &TenantUsage) -> anyhow::Result<()> {
    if session.json() {
        return print::json(usage);
    }
    let TenantUsage { since, succeeded, failed, cancelled, run_ms, kinds } = usage;
    let ran = |ms: u64| print::rough(Duration::from_millis(ms));
    print::line(&format!(
        "Since {since}: {succeeded} jobs succeeded, {failed} failed, {cancelled} were cancelled; they ran {} in all.",
        ran(*run_ms)
    ))?;
    if kinds.is_empty() {
        return Ok(());
    }
    print::line("")?;
    let mut table = Table::new(&["KIND", "JOBS", "FAILED", "RAN"]);
    for it in kinds {
        table.row(vec![it.kind.to_string(), it.jobs.to_string(), it.failed.to_string(), ran(it.run_ms)]);
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    #[test]
    fn registration_is_a_flag_of_what_is_made_and_a_switch_of_what_is_there() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["fourmi", "tenants"], words].concat());
        let Command::Tenants(TenantsCommand::Create(read)) =
            parse(&["create", "acme", "--registration"]).unwrap().command
        else {
            panic!("nothing is made")
        };
        assert!(read.registration);
        let change = ["change", "acme", "--registration", "off"];
        let Command::Tenants(TenantsCommand::Change(read)) = parse(&change).unwrap().command else {
            panic!("nothing changes")
        };
        assert_eq!(read.registration, Some(Switch::Off));
        for words in
            [&["change", "acme", "--registration"][..], &["create", "a b"], &["usage", "acme", "--days", "367"]]
        {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
