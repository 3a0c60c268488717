//! `fourmi maintenance`: what keeps the platform in order, done now.

use std::{fmt, time::Duration};

use clap::{Args, Subcommand};
use fourmi_kinds::{
    HealthProbe, HealthReport, HostMetrics, HostReport, InvalidPayload, JobKind, MaintenanceRetention, RetentionReport,
    RollupReport, StatsRollup,
};
use fourmi_model::{HealthStatus, RetentionClass, State};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    arguments::moment,
    commands::stats,
    exit::{Exit, Stop},
    follow::{self, Telling},
    print::{self, Table},
    session::Session,
};

/// What to do about the platform itself.
#[derive(Debug, Subcommand)]
pub(crate) enum MaintenanceCommand {
    /// Do something now that the platform does by itself from time to time, and show what came of it
    Run(RunArguments),
}

/// What to do.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi maintenance run retention --dry-run
  fourmi maintenance run retention --only jobs,events --days 30
  fourmi maintenance run rollup --from 2d
  fourmi maintenance run health
  fourmi maintenance run host --json

retention deletes what is older than it is to be kept, rollup adds up statistics, health tries every part of
the platform (exit code 1 if one does not work), host measures the machine.")]
pub(crate) struct RunArguments {
    /// What to do: retention, rollup, health or host
    #[arg(value_parser = chore)]
    name: Chore,
    /// Of retention: count what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Of retention: what is older than so many days, whatever the settings say; wants --only
    #[arg(long, value_name = "N")]
    days: Option<u32>,
    /// Of retention: only these, separated by commas: jobs, events, files, sessions, tokens, uploads, orphans, devices,
    /// messages
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    only: Vec<RetentionClass>,
    /// Of rollup: count again from this time on: a time, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    /// Of rollup: count again up to this time [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chore {
    Retention,
    Rollup,
    Health,
    Host,
}

fn chore(text: &str) -> Result<Chore, String> {
    match text {
        "retention" | MaintenanceRetention::NAME => Ok(Chore::Retention),
        "rollup" | StatsRollup::NAME => Ok(Chore::Rollup),
        "health" | HealthProbe::NAME => Ok(Chore::Health),
        "host" | HostMetrics::NAME => Ok(Chore::Host),
        _ => Err("it is retention, rollup, health or host".to_owned()),
    }
}

impl fmt::Display for Chore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retention => "retention",
            Self::Rollup => "rollup",
            Self::Health => "health",
            Self::Host => "host",
        })
    }
}

impl RunArguments {
    /// Whether each option says something of what is to be done.
    fn check(&self) -> anyhow::Result<()> {
        let options = [
            ("--dry-run", Chore::Retention, self.dry_run),
            ("--days", Chore::Retention, self.days.is_some()),
            ("--only", Chore::Retention, !self.only.is_empty()),
            ("--from", Chore::Rollup, self.from.is_some()),
            ("--to", Chore::Rollup, self.to.is_some()),
        ];
        match options.into_iter().find(|(_, of, is_given)| *is_given && *of != self.name) {
            Some((option, of, _)) => Err(Stop::usage(format!("{option} is an option of {of}, not of {}", self.name))),
            None => Ok(()),
        }
    }
}

pub(crate) async fn run(session: &Session, command: MaintenanceCommand) -> anyhow::Result<Exit> {
    let MaintenanceCommand::Run(arguments) = command;
    arguments.check()?;
    let RunArguments { name, dry_run, days, only, from, to } = arguments;
    match name {
        Chore::Retention => perform(session, &MaintenanceRetention { only, days, dry_run }).await,
        Chore::Rollup => perform(session, &StatsRollup { from, to }).await,
        Chore::Health => perform(session, &HealthProbe {}).await,
        Chore::Host => perform(session, &HostMetrics {}).await,
    }
}

/// What a job gives, for a person.
trait Report {
    fn print(&self) -> anyhow::Result<()>;

    fn exit(&self) -> Exit {
        Exit::Done
    }
}

/// Submits a job, follows it to its end and shows what it gives.
async fn perform<K: JobKind<Output: Report>>(session: &Session, payload: &K) -> anyhow::Result<Exit> {
    payload.validate().map_err(|mistake| Stop::usage(by_option(&mistake)))?;
    let client = session.client()?;
    let handle = client.submit(payload).send().await?;
    let job = follow::follow(session, &client, handle.id(), &session.progress(), Telling::Progress).await?;
    if job.state != State::Succeeded {
        if session.json() {
            print::json(&json!({"job": job}))?;
        }
        return Ok(follow::tell_end(&job));
    }
    let result = job.result.unwrap_or_default();
    if session.json() {
        print::json(&result)?;
    }
    let report: K::Output = serde_json::from_value(result)?;
    if !session.json() {
        report.print()?;
    }
    Ok(report.exit())
}

/// A mistake in a payload, as one in an option.
fn by_option(mistake: &InvalidPayload) -> String {
    match mistake.path.as_str() {
        "only" => "--days wants to know of what, such as --only jobs".to_owned(),
        "from" => "--to wants --from too".to_owned(),
        "to" => "--to must be later than --from".to_owned(),
        path => format!("--{path} {}", mistake.message),
    }
}

impl Report for RetentionReport {
    fn print(&self) -> anyhow::Result<()> {
        let deleted = if self.dry_run { "WOULD BE DELETED" } else { "DELETED" };
        let mut table = Table::new(&["CLASS", "OLDER THAN", deleted, "SIZE", "HELD"]);
        for it in &self.classes {
            table.row(vec![
                it.class.to_string(),
                it.before.map_or_else(|| "kept for ever".to_owned(), |time| format!("{time:.0}")),
                it.deleted.to_string(),
                it.bytes.map_or_else(|| "-".to_owned(), print::bytes),
                it.held.to_string(),
            ]);
        }
        table.print()
    }
}

impl Report for RollupReport {
    fn print(&self) -> anyhow::Result<()> {
        print::line(&sentence(self))
    }
}

fn sentence(report: &RollupReport) -> String {
    let count = |count: u64, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    let late = match report.too_late {
        0 => String::new(),
        late => format!("; {} came too late to be counted", count(late, "minute")),
    };
    format!("{} counted, {} added up{late}.", count(report.minutes, "minute"), count(report.hours, "hour"))
}

impl Report for HealthReport {
    fn print(&self) -> anyhow::Result<()> {
        let mut table = Table::new(&["PART", "STATUS", "LATENCY", "DETAIL"]);
        for part in &self.parts {
            table.row(vec![
                part.name.clone(),
                part.status.to_string(),
                part.latency_ms.map_or_else(|| "-".to_owned(), stats::duration),
                part.detail.clone().unwrap_or_default(),
            ]);
        }
        table.print()
    }

    fn exit(&self) -> Exit {
        if self.status == HealthStatus::Down { Exit::Failed } else { Exit::Done }
    }
}

impl Report for HostReport {
    fn print(&self) -> anyhow::Result<()> {
        let [one, five, fifteen] = self.load;
        let lines = [
            ("host", print::one_line(&self.host)),
            ("up", print::rough(Duration::from_secs(self.uptime_s))),
            ("processors", format!("{}, {:.0} % busy", self.cores, self.cpu_percent)),
            ("load", format!("{one:.2} {five:.2} {fifteen:.2} over 1, 5 and 15 minutes")),
            ("memory", format!("{} of {} used", print::bytes(self.memory_used_bytes), print::bytes(self.memory_bytes))),
            ("swap", format!("{} used", print::bytes(self.swap_used_bytes))),
            ("disk", format!("{} of {} free", print::bytes(self.disk_free_bytes), print::bytes(self.disk_bytes))),
        ];
        let sensors = self.temperatures.iter();
        let sensors = sensors.map(|it| ("sensor", format!("{:.0} °C, {}", it.celsius, print::one_line(&it.name))));
        for (name, value) in lines.into_iter().chain(sensors) {
            print::line(&format!("{name:<10} {value}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn parse(line: &str) -> Result<RunArguments, clap::Error> {
        let words = ["fourmi", "maintenance", "run"].into_iter().chain(line.split_whitespace());
        let Command::Maintenance(MaintenanceCommand::Run(read)) = Arguments::try_parse_from(words)?.command else {
            panic!("{line} is no maintenance")
        };
        Ok(read)
    }

    #[test]
    fn what_to_do_has_a_short_name_and_that_of_its_kind() {
        for (short, kind) in [
            ("retention", "maintenance.retention"),
            ("rollup", "stats.rollup"),
            ("health", "health.probe"),
            ("host", "host.metrics"),
        ] {
            let name = parse(short).unwrap().name;
            assert_eq!((name, name.to_string()), (parse(kind).unwrap().name, short.to_owned()));
        }
        assert!(parse("").is_err() && parse("everything").is_err() && parse("retention --only dust").is_err());
        let read = parse("retention --only jobs,events --days 30 --dry-run").unwrap();
        assert_eq!((read.only.as_slice(), read.days), (&[RetentionClass::Jobs, RetentionClass::Events][..], Some(30)));
    }

    #[test]
    fn options_are_of_what_they_are_for() {
        for line in ["retention", "retention --dry-run --only files --days 3", "rollup --from 2h --to 1h", "host"] {
            assert!(parse(line).unwrap().check().is_ok(), "{line}");
        }
        let mistake = |line: &str| parse(line).unwrap().check().unwrap_err().to_string();
        assert_eq!(mistake("health --dry-run"), "--dry-run is an option of retention, not of health");
        assert_eq!(mistake("retention --from 2h"), "--from is an option of rollup, not of retention");
        assert!(mistake("rollup --days 3").starts_with("--days ") && mistake("host --to 1h").starts_with("--to "));
    }

    #[test]
    fn mistakes_are_named_by_their_option() {
        let retention = |days, only| MaintenanceRetention { days: Some(days), only, dry_run: false };
        let mistake = |payload: MaintenanceRetention| by_option(&payload.validate().unwrap_err());
        assert!(mistake(retention(30, Vec::new())).contains("--only jobs"));
        assert!(mistake(retention(0, vec![RetentionClass::Jobs])).starts_with("--days must be between 1 and "));
        let now = Some(Timestamp::UNIX_EPOCH);
        let mistake = |from, to| by_option(&StatsRollup { from, to }.validate().unwrap_err());
        assert_eq!(mistake(None, now), "--to wants --from too");
        assert_eq!(mistake(now, now), "--to must be later than --from");
    }

    #[test]
    fn what_was_added_up_is_one_sentence() {
        let said = |minutes, hours, too_late| sentence(&RollupReport { minutes, hours, too_late });
        assert_eq!(said(12, 1, 0), "12 minutes counted, 1 hour added up.");
        assert_eq!(said(1, 0, 2), "1 minute counted, 0 hours added up; 2 minutes came too late to be counted.");
    }

    #[test]
    fn only_what_does_not_work_is_a_failure() {
        let exit = |status| HealthReport { status, parts: Vec::new() }.exit();
        let statuses = [HealthStatus::Ok, HealthStatus::Degraded, HealthStatus::Down];
        assert_eq!(statuses.map(exit), [Exit::Done, Exit::Done, Exit::Failed]);
    }
}
