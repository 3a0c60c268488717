//! `fourmi stats`: how many jobs ended, how well, and how long they waited and ran.

use clap::Args;
use fourmi_client::StatsQuery;
use fourmi_model::{
    JobFigures, JobSeries, JobStats, KindName, Percentiles, QueueName, StatDimension, StatStep, TenantName,
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    arguments::moment,
    exit::Exit,
    print::{self, Table},
    session::Session,
};

/// The widest line of bars, in columns.
const WIDTH: usize = 60;

/// So many minutes are still to be added up at most while a maintenance worker runs.
const UNROLLED: u64 = 5;

/// Which statistics.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi stats --by kind
  fourmi stats --step hour --since 7d --queue media
  fourmi stats --step day --by tenant --json | jq -r '.series[] | [.name, .total.finished] | @tsv'

WAIT and RUN are what half and what 95 of a hundred jobs do not exceed.")]
pub(crate) struct StatsArguments {
    /// Length of the steps: minute, hour or day [default: as suits --since]
    #[arg(long, value_name = "STEP")]
    step: Option<StatStep>,
    /// From this time on: a time, or how long ago (2h, 30d) [default: 60 steps ago]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// A row for each kind, queue or tenant
    #[arg(long, value_name = "WHAT")]
    by: Option<StatDimension>,
    /// Only jobs of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<KindName>,
    /// Only jobs of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<QueueName>,
    /// Only jobs of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantName>,
}

pub(crate) async fn run(session: &Session, arguments: StatsArguments) -> anyhow::Result<Exit> {
    let StatsArguments { step, since: from, by, kind, queue, tenant } = arguments;
    let step = step.or_else(|| Some(step_for(Timestamp::now().duration_since(from?))));
    let query = StatsQuery { step, from, to: None, by, kind, queue, tenant };
    let stats = session.client()?.job_stats(&query).await?;
    if session.json() {
        print::json(&stats)?;
        return Ok(Exit::Done);
    }
    show(&stats)?;
    if stats.left_out > 0 {
        session.note(&format!("{} more rows, of fewer jobs, are left out.", stats.left_out));
    }
    if stats.unrolled_minutes > UNROLLED {
        let minutes = stats.unrolled_minutes;
        session.note(&format!("{minutes} minutes are not added up yet: does a maintenance worker run?"));
    }
    Ok(Exit::Done)
}

/// Steps of which so long a time has not too many.
fn step_for(span: SignedDuration) -> StatStep {
    match span.as_hours() {
        ..25 => StatStep::Minute,
        25..961 => StatStep::Hour,
        _ => StatStep::Day,
    }
}

fn show(stats: &JobStats) -> anyhow::Result<()> {
    let range = range(stats, Timestamp::now());
    if stats.series.iter().all(|series| series.total.finished == 0) {
        return print::line(&format!("No jobs ended in the {range}."));
    }
    let mut table =
        Table::new(&["NAME", "FINISHED", "OVER TIME", "SUCCESS", "FAILED", "WAIT p50 / p95", "RUN p50 / p95"]);
    for series in &stats.series {
        let total = &series.total;
        table.row(vec![
            name(series, stats.by),
            total.finished.to_string(),
            sparkline(&columns(stats, series)),
            success(total),
            total.failed.to_string(),
            middle_and_slow(total.wait),
            middle_and_slow(total.run),
        ]);
    }
    table.print()?;
    let in_a_column = match merged(steps(stats.step, stats.from, stats.to)) {
        1 => String::new(),
        n => format!(", {n} in a column"),
    };
    print::line(&format!("{range}{in_a_column}"))
}

fn name(series: &JobSeries, by: Option<StatDimension>) -> String {
    let nothing = if by.is_some() { "-" } else { "all" };
    series.name.clone().unwrap_or_else(|| nothing.to_owned())
}

/// The time that the points cover: `60 minutes to 12:31 UTC`, with the date unless that is today.
fn range(stats: &JobStats, now: Timestamp) -> String {
    let day = |time| StatStep::Day.start_of(time);
    let steps = steps(stats.step, stats.from, stats.to);
    let plural = if steps == 1 { "" } else { "s" };
    let (end, form) = match stats.step {
        // A day is called by its date, not by the midnight after it.
        StatStep::Day => (stats.to - SignedDuration::from_secs(1), "%Y-%m-%d"),
        _ if day(stats.to) == day(now) => (stats.to, "%H:%M"),
        _ => (stats.to, "%Y-%m-%d %H:%M"),
    };
    format!("{steps} {}{plural} to {} UTC", stats.step, end.strftime(form))
}

/// How many steps lie between two times.
fn steps(step: StatStep, from: Timestamp, to: Timestamp) -> usize {
    let seconds = u64::try_from(to.as_second() - from.as_second()).unwrap_or(0);
    usize::try_from(seconds.div_ceil(step.seconds().unsigned_abs())).unwrap_or(usize::MAX)
}

/// How many neighbouring steps share a column, so that all have room.
fn merged(steps: usize) -> usize {
    steps.div_ceil(WIDTH).max(1)
}

/// The jobs that ended in each column; of the last one steps may be missing.
fn columns(stats: &JobStats, series: &JobSeries) -> Vec<u64> {
    let all = steps(stats.step, stats.from, stats.to);
    let merged = merged(all);
    let mut columns = vec![0_u64; all.div_ceil(merged)];
    for point in &series.points {
        if let Some(column) = columns.get_mut(steps(stats.step, stats.from, point.at) / merged) {
            *column = column.saturating_add(point.figures.finished);
        }
    }
    columns
}

/// A bar for each count, the highest for the greatest; a blank for none.
fn sparkline(counts: &[u64]) -> String {
    let most = counts.iter().copied().max().unwrap_or(0);
    counts.iter().map(|count| bar(*count, most)).collect()
}

fn bar(count: u64, most: u64) -> char {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    // Rounded up: one job of very many is to be seen.
    let height = (u128::from(count) * 8).div_ceil(u128::from(most.max(1)));
    BARS[height as usize]
}

/// The share of the successful, rounded down: 100 % means all.
fn success(figures: &JobFigures) -> String {
    let (succeeded, failed) = (u128::from(figures.succeeded), u128::from(figures.failed));
    match (succeeded * 1000).checked_div(succeeded + failed) {
        None => "-".to_owned(),
        Some(1000) => "100 %".to_owned(),
        Some(tenths) => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

fn middle_and_slow(times: Option<Percentiles>) -> String {
    times.map_or_else(|| "-".to_owned(), |times| format!("{} / {}", duration(times.p50_ms), duration(times.p95_ms)))
}

/// How long something took, with a decimal below ten of its unit: `12 ms`, `3.4 s`, `2 min`.
pub(crate) fn duration(ms: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(86_400e3, "d"), (3_600e3, "h"), (60e3, "min"), (1e3, "s")];
    let (length, unit) = UNITS.into_iter().find(|(length, _)| ms >= *length).unwrap_or((1.0, "ms"));
    let count = ms / length;
    let text = if count < 10.0 { format!("{count:.1}") } else { format!("{count:.0}") };
    format!("{} {unit}", text.trim_end_matches(".0"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use fourmi_model::JobPoint;

    use super::*;
    use crate::arguments::Arguments;

    const MIDNIGHT: &str = "2026-03-01T00:00:00Z";

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A series of steps from midnight on, with jobs in some.
    fn stats(step: StatStep, steps: i64, jobs: &[(i64, u64)]) -> JobStats {
        let at = |place: i64| time(MIDNIGHT) + SignedDuration::from_secs(place * step.seconds());
        let figures = |finished| JobFigures { finished, ..JobFigures::default() };
        let points = jobs.iter().map(|(place, finished)| JobPoint { at: at(*place), figures: figures(*finished) });
        let series = JobSeries { name: None, total: JobFigures::default(), points: points.collect() };
        JobStats { step, from: at(0), to: at(steps), by: None, series: vec![series], left_out: 0, unrolled_minutes: 0 }
    }

    fn line(step: StatStep, steps: i64, jobs: &[(i64, u64)]) -> String {
        let stats = stats(step, steps, jobs);
        sparkline(&columns(&stats, &stats.series[0]))
    }

    #[test]
    fn every_step_has_a_bar_or_a_blank() {
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[0, 0, 0]), "   ");
        assert_eq!(sparkline(&[0, 3, 0]), " █ ");
        assert_eq!(sparkline(&[1, 2, 3, 4, 5, 6, 7, 8]), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[1, u64::MAX / 2, u64::MAX, 0]), "▁▄█ ");
        assert_eq!(line(StatStep::Minute, 6, &[(1, 5), (5, 10)]), " ▄   █");
        assert_eq!(line(StatStep::Day, 1, &[(0, 7)]), "█");
    }

    #[test]
    fn neighbouring_steps_are_merged_if_there_are_many() {
        let ends = line(StatStep::Minute, 120, &[(0, 1), (1, 1), (118, 3), (119, 1)]);
        assert_eq!(ends, format!("▄{}█", " ".repeat(58)));
        // The last column is of the one step that is left.
        assert_eq!(line(StatStep::Minute, 121, &[(120, 1)]), format!("{}█", " ".repeat(40)));
        assert_eq!(line(StatStep::Day, 100_000, &[(99_999, u64::MAX), (99_998, 1)]).chars().count(), 60);
        // What lies outside of the range is not shown in it.
        assert_eq!(line(StatStep::Hour, 2, &[(2, 1)]), "  ");
    }

    #[test]
    fn lengths_of_time_read_well() {
        let texts = [0.0, 0.44, 12.3, 340.0, 3_400.0, 59_400.0, 90_000.0, 120_000.0, 7.2e6, 9e8, 1e15].map(duration);
        let wanted =
            ["0 ms", "0.4 ms", "12 ms", "340 ms", "3.4 s", "59 s", "1.5 min", "2 min", "2 h", "10 d", "11574074 d"];
        assert_eq!(texts, wanted);
    }

    #[test]
    fn all_have_succeeded_only_if_none_has_failed() {
        let text = |succeeded, failed| success(&JobFigures { succeeded, failed, ..JobFigures::default() });
        assert_eq!([text(0, 0), text(5, 0), text(0, 5), text(1, 1)], ["-", "100 %", "0.0 %", "50.0 %"]);
        assert_eq!([text(999_999, 1), text(u64::MAX, 1)], ["99.9 %", "99.9 %"]);
    }

    #[test]
    fn the_range_is_said_with_its_step() {
        let said = |step, steps, now: &str| range(&stats(step, steps, &[]), time(now));
        assert_eq!(said(StatStep::Minute, 60, "2026-03-01T01:00:00Z"), "60 minutes to 01:00 UTC");
        assert_eq!(said(StatStep::Minute, 1, "2026-03-01T09:00:00Z"), "1 minute to 00:01 UTC");
        assert_eq!(said(StatStep::Hour, 25, "2026-03-09T09:00:00Z"), "25 hours to 2026-03-02 01:00 UTC");
        assert_eq!(said(StatStep::Day, 7, "2026-03-07T09:00:00Z"), "7 days to 2026-03-07 UTC");
    }

    #[test]
    fn only_steps_and_dimensions_that_there_are_are_asked_for() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["fourmi", "stats"], words].concat());
        assert!(parse(&["--step", "hour", "--since", "7d", "--by", "tenant", "--kind", "media.probe"]).is_ok());
        assert!(parse(&["--step", "week"]).is_err() && parse(&["--by", "person"]).is_err());
    }
}
