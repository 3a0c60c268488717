//! What may be written on the command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, builder::styling::Styles};
use fourmi_model::JobId;
use jiff::{Span, SpanRelativeTo, Timestamp};

use crate::{commands, up};

const EXIT_CODES: &str = "\
Exit codes:
    0  done; the job succeeded
    1  the job failed; some of many jobs or people were refused; the platform could not start, or does not work
    2  wrong arguments, a wrong setting, or a local file that cannot be read or written
    3  the job was cancelled
    4  the API cannot be reached, or refused
    5  another platform runs on the data folder (up)
  130  interrupted; a job that was being watched goes on

Settings come from the environment; `fourmi config` shows all of them.";

/// Fourmi runs the heavy and unreliable work behind apps, as jobs.
///
/// Start a platform with `fourmi up`. Everything else talks to one: on this machine, or where --url points.
#[derive(Debug, Parser)]
#[command(name = "fourmi", version, after_help = EXIT_CODES, styles = Styles::plain(), max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Common {
    /// Print JSON: one document, or one object a line where things happen over time
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results and errors only, no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Address of the API [default: FOURMI_URL, or http://127.0.0.1:8700]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// File that holds the API key [default: FOURMI_API_KEY_FILE, or api-key in the data folder]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) key_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the platform: Redis, the API and the workers
    Up(up::UpArguments),
    /// Make a sample video, extract its sound, show what came out
    Demo(commands::demo::DemoArguments),
    /// Extract the sound of a recording, or of a page that shows one
    Extract(commands::extract::ExtractArguments),
    /// Make a map of a table, with clusters and anomalies
    Analyze(commands::analyze::AnalyzeArguments),
    /// Record a running stream until it ends or is stopped
    Live(commands::live::LiveArguments),
    /// Store a file, for jobs to read
    Upload(commands::files::UploadArguments),
    /// Save a stored file, or the files that a job made
    Fetch(commands::files::FetchArguments),
    /// Give out an address that opens a stored file without a key, for a while
    Link(commands::files::LinkArguments),
    /// Submit a job of any kind, or many
    Submit(commands::submit::SubmitArguments),
    /// Follow a job or a batch until it is over, or all jobs
    Watch(commands::watch::WatchArguments),
    /// List jobs
    Jobs(commands::jobs::JobsArguments),
    /// Show a job and the runs of it that failed
    Job(OneJob),
    /// Show what a job has written to its log
    Log(commands::log::LogArguments),
    /// Stop a job, or many
    Cancel(commands::many::CancelArguments),
    /// Run jobs again that failed or were cancelled
    Retry(commands::many::RetryArguments),
    /// Forget jobs that are over, with all that is known of them
    Delete(commands::many::DeleteArguments),
    /// Look at failed jobs, run them again or forget them
    #[command(subcommand)]
    Dead(commands::dead::DeadCommand),
    /// Look at jobs that wait for a cause to go away, or let them run
    #[command(subcommand)]
    Parked(commands::parked::ParkedCommand),
    /// Say why a job does not run yet, and when it may start
    Why(OneJob),
    /// Let delayed jobs run now
    Promote(commands::waiting::PromoteArguments),
    /// Change how urgent jobs are that have not started
    Priority(commands::waiting::PriorityArguments),
    /// List the queues: how many jobs they hold, and what steers them
    Queues(commands::queues::QueuesArguments),
    /// Start no more jobs of a queue; what runs goes on
    Pause(commands::queues::OneQueue),
    /// Start jobs of a queue again
    Resume(commands::queues::OneQueue),
    /// Set how many jobs of a queue may run at the same time
    Cap(commands::queues::CapArguments),
    /// Delete everything in a queue, when told twice
    Obliterate(commands::queues::ObliterateArguments),
    /// Show or set how many worker processes and slots queues have
    Scale(commands::scale::ScaleArguments),
    /// List the worker processes and what they do
    Workers(commands::workers::WorkersArguments),
    /// Let a worker process end once its jobs have
    Drain(commands::workers::OneWorker),
    /// Show how the providers of messages are, and what was spent with them
    Providers(commands::providers::ProvidersArguments),
    /// Show how many jobs ended, how well, and how long they waited and ran
    Stats(commands::stats::StatsArguments),
    /// Look at limits of queues and weights of tenants, or set them
    #[command(subcommand)]
    Limits(commands::limits::LimitsCommand),
    /// Make API keys, change them or take them back
    #[command(subcommand)]
    Keys(commands::keys::KeysCommand),
    /// Look at people, invite them, change or delete them
    #[command(subcommand)]
    Users(commands::users::UsersCommand),
    /// Make tenants, change them or look at them
    #[command(subcommand)]
    Tenants(commands::tenants::TenantsCommand),
    /// Do something again and again: by a cron expression, or every so often
    #[command(subcommand)]
    Schedules(commands::schedules::SchedulesCommand),
    /// Tell apps of the ends of jobs, and look at what they were told
    #[command(subcommand)]
    Webhooks(commands::webhooks::WebhooksCommand),
    /// Try, count and decide on text messages
    #[command(subcommand)]
    Sms(commands::sms::SmsCommand),
    /// List, register and delete devices, to which push notifications go
    #[command(subcommand)]
    Devices(commands::devices::DevicesCommand),
    /// Look at addresses that get no messages any more, add or remove them
    #[command(subcommand)]
    Suppressions(commands::suppressions::SuppressionsCommand),
    /// Show who did what that concerns security, newest first
    Audit(commands::audit::AuditArguments),
    /// Delete what is old, add up statistics, try every part or measure the machine, now
    #[command(subcommand)]
    Maintenance(commands::maintenance::MaintenanceCommand),
    /// Submit jobs that wait for each other, or show such
    #[command(subcommand)]
    Flows(commands::flows::FlowsCommand),
    /// List the kinds of jobs, or show one with its schemas
    Kinds(commands::kinds::KindsArguments),
    /// Show the settings in effect and where they come from
    Config,
}

/// A job.
#[derive(Debug, Args)]
pub(crate) struct OneJob {
    /// Id of the job
    pub(crate) id: JobId,
}

/// A length of time as it is written on the command line.
pub(crate) fn lasting(text: &str) -> Result<Duration, String> {
    let span: Option<Span> = text.parse().ok();
    let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "a length of time is written 30s, 90m, 1h30m or 7d".to_owned())
}

/// A moment as it is written on the command line: itself, or how long ago it was.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    let ago = lasting(text).ok().and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    ago.or_else(|| text.parse().ok())
        .ok_or_else(|| "a moment is written 2027-01-31T08:00:00Z, or 2h for two hours ago".to_owned())
}

/// A moment to come as it is written on the command line: itself, or how far away it is.
pub(crate) fn coming(text: &str) -> Result<Timestamp, String> {
    let then = lasting(text).ok().and_then(|wait| Timestamp::now().checked_add(wait).ok());
    then.or_else(|| text.parse().ok())
        .ok_or_else(|| "a moment is written 2027-01-31T08:00:00Z, or 90d for in ninety days".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago_it_was() {
        assert_eq!(moment("2027-01-31T08:00:00Z"), Ok("2027-01-31T08:00:00Z".parse().unwrap()));
        let two_hours = Duration::from_secs(7_200);
        let (before, then, after) = (Timestamp::now(), moment("2h").unwrap(), Timestamp::now());
        assert!((before - two_hours..=after - two_hours).contains(&then), "{then}");
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        for (text, seconds) in [("30s", 30), ("90m", 5_400), ("1h30m", 5_400), ("7d", 604_800), ("1h 5s", 3_605)] {
            assert_eq!(lasting(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "10", "-1h", "soon", "1 fortnight"] {
            assert!(lasting(text).is_err(), "{text}");
        }
    }
}
