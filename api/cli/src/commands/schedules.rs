//! `fourmi schedules`: what is done again and again.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use fourmi_client::{Client, ScheduleForm};
use fourmi_model::{
    FireOutcome, KindName, Missed, Overlap, Priority, ScheduleFire, ScheduleId, ScheduleInfo, ScheduledJob, TenantName,
};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use crate::{
    arguments::lasting,
    commands::submit::payload,
    exit::{Exit, Stop},
    print::{self, Table},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  fourmi schedules create nightly --cron '0 2 * * *' --time-zone Europe/Paris x.report --payload '{\"day\": \"{{tick}}\"}'
  fourmi schedules create sync --every 60s --overlap skip x.sync --payload '{}'
  fourmi schedules next nightly
  fourmi schedules fires nightly
  fourmi schedules run nightly

Texts of the payload may name the tick: {{tick}}, {{tick_local}}, {{tick_ms}}, {{window_start}}, {{window_end}}.";

/// What to do with schedules.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum SchedulesCommand {
    /// List the schedules
    List,
    /// Make a schedule
    Create(CreateArguments),
    /// Show a schedule
    Show(OneSchedule),
    /// Change when a schedule is due, what it does then, or the payload of its job
    Change(ChangeArguments),
    /// Make the schedules that a file lists: what is missing is made, what differs is changed
    Apply(ApplyArguments),
    /// Make no jobs until the schedule is resumed
    Pause(OneSchedule),
    /// Make jobs again, from the next tick on
    Resume(OneSchedule),
    /// Make its job now
    Run(OneSchedule),
    /// Show the next ticks of a schedule
    Next(NextArguments),
    /// Show what became of its ticks, with the job that each made
    Fires(FiresArguments),
    /// Delete a schedule; its jobs stay
    Delete(OneSchedule),
}

/// A schedule.
#[derive(Debug, Args)]
pub(crate) struct OneSchedule {
    /// Name or id of the schedule
    schedule: String,
}

/// When a schedule is due, and what it does then.
#[derive(Debug, Args)]
struct When {
    /// Cron expression: five fields, six with seconds first, or a nickname such as @daily
    #[arg(long, value_name = "CRON", conflicts_with = "every")]
    cron: Option<String>,
    /// Time between two ticks, such as 90s or 15m
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    every: Option<Duration>,
    /// IANA time zone in which the expression is read, such as Europe/Paris [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Make jobs up to this much after their ticks, drawn for each, such as 30s [default: none]
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    jitter: Option<Duration>,
    /// No tick before this time
    #[arg(long, value_name = "TIME")]
    starts_at: Option<Timestamp>,
    /// No tick after this time
    #[arg(long, value_name = "TIME")]
    ends_at: Option<Timestamp>,
    /// While the job of an earlier tick is not over: allow, skip, queue_one or cancel_old [default: allow]
    #[arg(long, value_name = "POLICY")]
    overlap: Option<Overlap>,
    /// For ticks for which nobody was there: skip, once or all [default: once]
    #[arg(long, value_name = "POLICY")]
    missed: Option<Missed>,
    /// How many of those make a job, if all may [default: 10]
    #[arg(long, value_name = "N")]
    missed_limit: Option<u32>,
}

/// A schedule to be made.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CreateArguments {
    /// Its name
    name: String,
    /// Kind of its jobs
    kind: KindName,
    /// Payload of its jobs: JSON, @FILE to read it from a file, or - to read it from standard input
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    payload: String,
    #[command(flatten)]
    when: When,
    /// How urgent its jobs are: urgent, high, normal or low [default: what the kind says]
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<Priority>,
    /// Label to find its jobs by; may be given several times
    #[arg(long, short, value_name = "TAG")]
    tag: Vec<String>,
    /// Whose its jobs are
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantName>,
    /// Make no jobs until it is resumed
    #[arg(long)]
    paused: bool,
}

/// What to change of a schedule.
#[derive(Debug, Args)]
pub(crate) struct ChangeArguments {
    /// Name or id of the schedule
    schedule: String,
    /// Another name
    #[arg(long)]
    name: Option<String>,
    /// Another payload: JSON, @FILE, or -
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    payload: Option<String>,
    #[command(flatten)]
    when: When,
}

/// Schedules that are kept in a file.
#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    /// The file: a JSON array of schedules, each as the API takes it
    file: PathBuf,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Which ticks to show.
#[derive(Debug, Args)]
pub(crate) struct NextArguments {
    /// Name or id of the schedule
    schedule: String,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
}

/// Which ticks to show.
#[derive(Debug, Args)]
pub(crate) struct FiresArguments {
    /// Name or id of the schedule
    schedule: String,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
}

impl When {
    /// Changes what was said; `false` if nothing was.
    fn change(self, form: &mut ScheduleForm) -> anyhow::Result<bool> {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).context("this is too long");
        let before = form.clone();
        if let Some(cron) = self.cron {
            (form.cron, form.every_s) = (Some(cron), None);
        }
        if let Some(every) = self.every {
            (form.cron, form.every_s) = (None, Some(seconds(every)?));
        }
        if let Some(jitter) = self.jitter {
            form.jitter_s = seconds(jitter)?;
        }
        form.time_zone = self.time_zone.unwrap_or_else(|| before.time_zone.clone());
        form.starts_at = self.starts_at.or(form.starts_at);
        form.ends_at = self.ends_at.or(form.ends_at);
        form.overlap = self.overlap.unwrap_or(form.overlap);
        form.missed = self.missed.unwrap_or(form.missed);
        form.missed_limit = self.missed_limit.unwrap_or(form.missed_limit);
        Ok(*form != before)
    }
}

pub(crate) async fn run(session: &Session, command: SchedulesCommand) -> anyhow::Result<Exit> {
    let client = session.client()?;
    match command {
        SchedulesCommand::List => list(session, &client.schedules(None).await?)?,
        SchedulesCommand::Create(arguments) => {
            let made = client.create_schedule(&form(arguments)?).await?;
            tell(session, &made, "is made")?;
        }
        SchedulesCommand::Show(OneSchedule { schedule }) => show(session, &find(&client, &schedule).await?)?,
        SchedulesCommand::Change(ChangeArguments { schedule, name, payload: told, when }) => {
            let info = find(&client, &schedule).await?;
            let id = info.id.clone();
            let mut form = ScheduleForm::from(info);
            let mut is_other = when.change(&mut form)?;
            if let Some(name) = name {
                (form.name, is_other) = (name, true);
            }
            if let Some(text) = told {
                (form.job.payload, is_other) = (payload(&text)?, true);
            }
            if !is_other {
                return Err(Stop::usage("say what to change, such as --cron, --overlap or --payload"));
            }
            tell(session, &client.replace_schedule(&id, &form).await?, "is changed")?;
        }
        SchedulesCommand::Apply(arguments) => apply(session, &client, &arguments).await?,
        SchedulesCommand::Pause(OneSchedule { schedule }) => pause(session, &client, &schedule, true).await?,
        SchedulesCommand::Resume(OneSchedule { schedule }) => pause(session, &client, &schedule, false).await?,
        SchedulesCommand::Run(OneSchedule { schedule }) => {
            let job = client.run_schedule(&find(&client, &schedule).await?.id).await?;
            if session.json() { print::json(&json!({ "job": job }))? } else { print::line(&job.to_string())? }
        }
        SchedulesCommand::Next(NextArguments { schedule, count }) => {
            let schedule = find(&client, &schedule).await?;
            let ticks = client.schedule_ticks(&schedule.id, usize::try_from(count).unwrap_or(usize::MAX)).await?;
            next(session, &schedule, &ticks)?;
        }
        SchedulesCommand::Fires(FiresArguments { schedule, limit }) => {
            let schedule = find(&client, &schedule).await?;
            fires(session, &client.schedule_fires(&schedule.id, usize::try_from(limit).unwrap_or(usize::MAX)).await?)?;
        }
        SchedulesCommand::Delete(OneSchedule { schedule }) => {
            let id = find(&client, &schedule).await?.id;
            client.delete_schedule(&id).await?;
            if session.json() {
                print::json(&json!({ "deleted": id }))?;
            } else {
                print::line(&format!("{schedule} is deleted."))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn form(arguments: CreateArguments) -> anyhow::Result<ScheduleForm> {
    let CreateArguments { name, kind, payload: text, when, priority, tag, tenant, paused } = arguments;
    let job: Value = json!({ "kind": kind, "payload": payload(&text)?, "tags": tag });
    let mut job: ScheduledJob = serde_json::from_value(job)?;
    job.priority = priority;
    let mut form = ScheduleForm { tenant, paused, ..ScheduleForm::new(&name, job) };
    when.change(&mut form)?;
    if form.cron.is_none() && form.every_s.is_none() {
        return Err(Stop::usage("say when it is due: --cron '0 2 * * *', or --every 15m"));
    }
    Ok(form)
}

/// What is done about a schedule of a file.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Create(ScheduleForm),
    Change(ScheduleId, ScheduleForm),
    Keep(ScheduleForm),
}

impl Step {
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Create(form) => ("created", &form.name),
            Self::Change(_, form) => ("changed", &form.name),
            Self::Keep(form) => ("unchanged", &form.name),
        }
    }
}

/// What makes `known` what is wanted.
fn steps(wanted: Vec<ScheduleForm>, mut known: Vec<ScheduleInfo>) -> Vec<Step> {
    let mut steps = Vec::new();
    for form in wanted {
        let is_it =
            |info: &ScheduleInfo| info.name == form.name && (form.tenant.is_none() || info.tenant == form.tenant);
        let step = match known.iter().position(is_it) {
            None => Step::Create(form),
            Some(place) => {
                let info = known.remove(place);
                let (id, tenant) = (info.id.clone(), form.tenant.clone().or_else(|| info.tenant.clone()));
                let is_same = ScheduleForm::from(info) == ScheduleForm { tenant, ..form.clone() };
                if is_same { Step::Keep(form) } else { Step::Change(id, form) }
            }
        };
        steps.push(step);
    }
    steps
}

async fn apply(session: &Session, client: &Client, arguments: &ApplyArguments) -> anyhow::Result<()> {
    let path = arguments.file.display();
    let text = std::fs::read_to_string(&arguments.file)
        .map_err(|error| Stop::usage(format!("{path} cannot be read: {error}")))?;
    let wanted: Vec<ScheduleForm> = serde_json::from_str(&text)
        .map_err(|error| Stop::usage(format!("{path} is no JSON array of schedules: {error}")))?;
    let steps = steps(wanted, client.schedules(None).await?);
    let mut said = Vec::new();
    for step in &steps {
        if !arguments.dry_run {
            let done = match step {
                Step::Create(form) => client.create_schedule(form).await.map(drop),
                Step::Change(id, form) => client.replace_schedule(id, form).await.map(drop),
                Step::Keep(_) => Ok(()),
            };
            if done.is_err() {
                print::to_stderr(&format!("{} could not be applied:", print::one_line(step.words().1)));
            }
            done?;
        }
        let (what, name) = step.words();
        if session.json() {
            said.push(json!({ "name": name, "outcome": what }));
        } else {
            let would = if arguments.dry_run && what != "unchanged" { "would be " } else { "" };
            print::line(&format!("{} {would}{what}", print::one_line(name)))?;
        }
    }
    if session.json() { print::json(&json!({ "schedules": said, "dry_run": arguments.dry_run })) } else { Ok(()) }
}

/// The schedule of a name or an id.
async fn find(client: &Client, text: &str) -> anyhow::Result<ScheduleInfo> {
    if let Ok(id) = text.parse::<ScheduleId>() {
        return Ok(client.schedule(&id).await?);
    }
    let mut found = client.schedules(Some(text)).await?;
    match found.len() {
        0 => {
            Err(Stop::unknown("unknown_schedule", format!("there is no schedule {text}; see `fourmi schedules list`")))
        }
        1 => Ok(found.remove(0)),
        _ => Err(Stop::usage(format!("several tenants have a schedule {text}: name it by its id"))),
    }
}

async fn pause(session: &Session, client: &Client, schedule: &str, paused: bool) -> anyhow::Result<()> {
    let id = find(client, schedule).await?.id;
    let schedule = client.pause_schedule(&id, paused).await?;
    tell(session, &schedule, if paused { "is paused" } else { "goes on" })
}

fn tell(session: &Session, schedule: &ScheduleInfo, text: &str) -> anyhow::Result<()> {
    if session.json() {
        return print::json(schedule);
    }
    let next = match schedule.next_tick_at {
        Some(next) => format!("; its next tick is {}", in_zone(schedule, next)),
        None => String::new(),
    };
    print::line(&format!("{} ({}) {text}{next}.", print::one_line(&schedule.name), schedule.id))
}

/// A time where the schedule is read.
fn in_zone(schedule: &ScheduleInfo, time: Timestamp) -> String {
    let zone = TimeZone::get(&schedule.rule.time_zone).unwrap_or(TimeZone::UTC);
    time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

fn rule(schedule: &ScheduleInfo) -> String {
    match (&schedule.rule.cron, schedule.rule.every_s) {
        (Some(cron), _) => format!("{cron} {}", schedule.rule.time_zone),
        (None, Some(seconds)) => format!("every {seconds} s"),
        (None, None) => "-".to_owned(),
    }
}

fn list(session: &Session, schedules: &[ScheduleInfo]) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({ "schedules": schedules }));
    }
    if schedules.is_empty() {
        return print::line("No schedules.");
    }
    let mut table = Table::new(&["NAME", "WHEN", "KIND", "NEXT", "LAST", "TENANT"]);
    for schedule in schedules {
        let next = match schedule.next_tick_at {
            _ if schedule.paused => "paused".to_owned(),
            Some(next) => in_zone(schedule, next),
            None => "over".to_owned(),
        };
        table.row(vec![
            print::one_line(&schedule.name),
            print::one_line(&rule(schedule)),
            schedule.job.kind.to_string(),
            next,
            schedule.last_fired_at.map_or_else(|| "-".to_owned(), |last| in_zone(schedule, last)),
            schedule.tenant.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        ]);
    }
    table.print()
}

fn show(session: &Session, schedule: &ScheduleInfo) -> anyhow::Result<()> {
    if session.json() {
        return print::json(schedule);
    }
    let none = || "-".to_owned();
    let lines = [
        ("schedule", schedule.id.to_string()),
        ("name", print::one_line(&schedule.name)),
        ("when", print::one_line(&rule(schedule))),
        ("jitter", format!("{} s", schedule.rule.jitter_s)),
        ("overlap", schedule.overlap.to_string()),
        ("missed", schedule.missed.to_string()),
        ("kind", schedule.job.kind.to_string()),
        ("payload", print::one_line(&schedule.job.payload.to_string())),
        ("state", if schedule.paused { "paused" } else { "on" }.to_owned()),
        ("next tick", schedule.next_tick_at.map_or_else(none, |next| in_zone(schedule, next))),
        ("last tick", schedule.last_fired_at.map_or_else(none, |last| in_zone(schedule, last))),
        ("last job", schedule.last_job.as_ref().map_or_else(none, ToString::to_string)),
    ];
    for (name, value) in lines {
        print::line(&format!("{name:<10} {value}"))?;
    }
    Ok(())
}

fn next(session: &Session, schedule: &ScheduleInfo, ticks: &[Timestamp]) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({ "ticks": ticks }));
    }
    if ticks.is_empty() {
        return print::line("No ticks any more.");
    }
    for tick in ticks {
        print::line(&format!("{tick}   {}", in_zone(schedule, *tick)))?;
    }
    Ok(())
}

fn fires(session: &Session, fires: &[ScheduleFire]) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({ "fires": fires }));
    }
    if fires.is_empty() {
        return print::line("No tick has come yet.");
    }
    let mut table = Table::new(&["TICK", "OUTCOME", "AT", "JOB"]);
    for fire in fires {
        let outcome = match fire.outcome {
            FireOutcome::Fired if fire.by_hand => "by hand".to_owned(),
            outcome => outcome.to_string(),
        };
        let job = fire.job.as_ref().map(ToString::to_string);
        let job = job.or_else(|| fire.error.as_deref().map(print::one_line)).unwrap_or_else(|| "-".to_owned());
        table.row(vec![format!("{:.0}", fire.tick), outcome, format!("{:.3}", fire.at), job]);
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn parse(words: &[&str]) -> Result<SchedulesCommand, clap::Error> {
        Arguments::try_parse_from([&["fourmi", "schedules"], words].concat()).map(|read| match read.command {
            Command::Schedules(command) => command,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_schedule_is_made_of_a_rule_and_a_job() {
        let words = ["create", "nightly", "x.report", "--payload", "{}", "--cron", "0 2 * * *", "--overlap", "skip"];
        let SchedulesCommand::Create(arguments) = parse(&words).unwrap() else { panic!("nothing is made") };
        let made = form(arguments).unwrap();
        assert_eq!((made.cron.as_deref(), made.every_s, made.overlap), (Some("0 2 * * *"), None, Overlap::Skip));
        assert_eq!((made.name.as_str(), made.job.kind.as_str()), ("nightly", "x.report"));

        let SchedulesCommand::Create(never) = parse(&words[..5]).unwrap() else { panic!("nothing is made") };
        assert!(form(never).unwrap_err().to_string().contains("--every"));
        for wrong in [
            &["create", "nightly", "x.report", "--payload", "{}", "--cron", "@daily", "--every", "5m"][..],
            &["create", "nightly", "x.report", "--payload", "{}", "--every", "soon"],
            &["create", "nightly", "x.report", "--payload", "{}", "--every", "5m", "--missed", "never"],
            &["create", "nightly", "x.report"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_is_applied_by_what_differs() {
        let job: ScheduledJob = serde_json::from_value(json!({ "kind": "x.report", "payload": {} })).unwrap();
        let form = |name: &str| ScheduleForm { every_s: Some(60), ..ScheduleForm::new(name, job.clone()) };
        let info = |name: &str| -> ScheduleInfo {
            let mut info = serde_json::to_value(form(name)).unwrap();
            info["id"] = json!(ScheduleId::random());
            info["tenant"] = json!("acme");
            info["created_at"] = json!("2026-01-01T00:00:00Z");
            info["created_by"] = json!("key-1");
            serde_json::from_value(info).unwrap()
        };
        let known = vec![info("same"), info("other"), info("of others")];
        let other = ScheduleForm { every_s: Some(90), ..form("other") };
        let wanted = vec![form("same"), other.clone(), form("new")];
        let expected = [Step::Keep(form("same")), Step::Change(known[1].id.clone(), other), Step::Create(form("new"))];
        assert_eq!(steps(wanted, known), expected);
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let job: ScheduledJob = serde_json::from_value(json!({ "kind": "x.report", "payload": {} })).unwrap();
        let mut form = ScheduleForm { cron: Some("@daily".to_owned()), jitter_s: 30, ..ScheduleForm::new("a", job) };
        let SchedulesCommand::Change(none) = parse(&["change", "a"]).unwrap() else { panic!("nothing is changed") };
        assert!(!none.when.change(&mut form).unwrap());
        let words = ["change", "a", "--every", "5m"];
        let SchedulesCommand::Change(some) = parse(&words).unwrap() else { panic!("nothing is changed") };
        assert!(some.when.change(&mut form).unwrap());
        assert_eq!((form.cron, form.every_s, form.jitter_s), (None, Some(300), 30));
    }
}
