//! Statistics of finished jobs.

use std::time::Duration;

use fourmi_model::{JobFigures, JobSeries, JobStats, KindName, QueueName, Scope, StatDimension, StatStep, TenantName};
use fourmi_records::{Records, StatFilter};
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};

use crate::{
    body,
    caller::Caller,
    operation::{Group, JSON, Operation, Place, schema, state_of},
    problem::{Code, Problem},
    query::Query,
};

/// The most points of a series.
const MOST: u32 = 1_500;

/// How many there are if the caller does not say from when.
const USUAL: u32 = 60;

/// The routes.
pub fn group(records: Records) -> Group {
    table().sharing(records)
}

const JOBS: &str = "Of the jobs that ended in a span of time, as far as they are recorded: how many, how they ended, \
    how long they waited and ran. Steps in which none ended are left out; there may be 1,500 points. Whoever is bound to \
    a tenant is told of its jobs; those who see only what they submitted themselves are told of none.";

pub(crate) fn table() -> Group {
    const FROM: &str = "From the beginning of the step of this time on; 60 steps before the end, if nothing is said.";
    const TO: &str = "To the end of the step of this time; of now, if nothing is said.";
    let operations = vec![
        Operation::new("get_job_stats", Method::GET, "/api/v1/stats/jobs", get_job_stats)
            .needs(&[Scope::JobsRead])
            .says("Tells what became of jobs, in figures", JOBS)
            .takes(Place::Query, "step", schema::<StatStep>, "The length of the points; minutes, if nothing is said.")
            .takes(Place::Query, "from", body::time, FROM)
            .takes(Place::Query, "to", body::time, TO)
            .takes(Place::Query, "by", schema::<StatDimension>, "What to tell the jobs apart by.")
            .takes(Place::Query, "kind", schema::<KindName>, "Only jobs of this kind.")
            .takes(Place::Query, "queue", schema::<QueueName>, "Only jobs of this queue.")
            .takes(Place::Query, "tenant", schema::<TenantName>, "Only jobs of this tenant.")
            .answers(StatusCode::OK, JSON, schema::<JobStats>, "The figures.")
            .fails(&[Code::InvalidQuery, Code::RecordsUnavailable]),
    ];
    Group::new("stats", "Figures of what became of jobs.", operations)
}

#[handler]
async fn get_job_stats(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let records: Records = state_of(depot)?;
    let caller = Caller::of(depot)?;
    if caller.own_only() {
        let detail = "Figures are kept of all jobs of a tenant, and the caller sees only what it submitted itself.";
        return Err(Problem::new(Code::ScopeMissing, detail));
    }
    let query = Query::of(request, &["step", "from", "to", "by", "kind", "queue", "tenant"])?;
    let step = query.one("step")?.unwrap_or(StatStep::Minute);
    let Span { from, to } = Span::of(step, query.one("from")?, query.one("to")?, Timestamp::now())?;
    let named: Option<TenantName> = query.one("tenant")?;
    let is_foreign = caller.tenant().zip(named.as_ref()).is_some_and(|(own, named)| own != named);
    let filter = StatFilter {
        step,
        from,
        to,
        by: query.one("by")?,
        kind: query.one("kind")?,
        queue: query.one("queue")?,
        tenant: caller.tenant().cloned().or(named),
    };
    let stats = if is_foreign { nothing(&filter) } else { records.job_stats(&filter).await? };
    body::write(response, StatusCode::OK, &stats)
}

/// The figures of no jobs.
fn nothing(filter: &StatFilter) -> JobStats {
    let StatFilter { step, from, to, by, .. } = *filter;
    let none = JobSeries { name: None, total: JobFigures::default(), points: Vec::new() };
    let series = if by.is_none() { vec![none] } else { Vec::new() };
    JobStats { step, from, to, by, series, left_out: 0, unrolled_minutes: 0 }
}

/// A span of time from the beginning of a step to the end of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: Timestamp,
    to: Timestamp,
}

impl Span {
    /// The steps that the times lie in.
    ///
    /// # Errors
    /// If there are none between them, or too many.
    fn of(step: StatStep, from: Option<Timestamp>, to: Option<Timestamp>, now: Timestamp) -> Result<Self, Problem> {
        let last = to.unwrap_or(now);
        if from.is_some_and(|from| from >= last) {
            return Err(wrong("from", "must be before to"));
        }
        let to = end_of(step, last).ok_or_else(|| wrong("to", "is too far away"))?;
        let from = from.map_or_else(|| before(step, to, USUAL), |from| step.start_of(from));
        let first = before(step, to, MOST);
        if from < first {
            return Err(wrong("from", format!("must leave {MOST} points at most: {first} or later, or longer steps")));
        }
        Ok(Self { from, to })
    }
}

/// The end of the step that a time lies in; the beginning of a step ends the one before.
fn end_of(step: StatStep, time: Timestamp) -> Option<Timestamp> {
    let start = step.start_of(time);
    if start == time { Some(time) } else { start.checked_add(length(step)).ok() }
}

/// The time so many steps before.
fn before(step: StatStep, time: Timestamp, steps: u32) -> Timestamp {
    time.saturating_sub(length(step) * steps).unwrap_or(Timestamp::MIN)
}

fn length(step: StatStep) -> Duration {
    Duration::from_secs(step.seconds().unsigned_abs())
}

fn wrong(name: &str, message: impl Into<String>) -> Problem {
    Problem::field(Code::InvalidQuery, name, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn span(step: StatStep, from: Option<&str>, to: Option<&str>) -> Result<(String, String), Problem> {
        let now = time("2026-03-04T05:06:07Z");
        let Span { from, to } = Span::of(step, from.map(time), to.map(time), now)?;
        Ok((from.to_string(), to.to_string()))
    }

    #[test]
    fn a_span_holds_whole_steps() {
        for (step, from, to, expected) in [
            (StatStep::Minute, None, None, ("2026-03-04T04:07:00Z", "2026-03-04T05:07:00Z")),
            (StatStep::Hour, None, None, ("2026-03-01T18:00:00Z", "2026-03-04T06:00:00Z")),
            (StatStep::Day, None, Some("2026-03-04T00:00:00Z"), ("2026-01-03T00:00:00Z", "2026-03-04T00:00:00Z")),
            (StatStep::Day, Some("2026-03-01T23:59:59Z"), None, ("2026-03-01T00:00:00Z", "2026-03-05T00:00:00Z")),
            (
                StatStep::Hour,
                Some("2026-03-04T05:00:00.001Z"),
                Some("2026-03-04T05:00:00.002Z"),
                ("2026-03-04T05:00:00Z", "2026-03-04T06:00:00Z"),
            ),
        ] {
            let (start, end) = span(step, from, to).unwrap();
            assert_eq!((start.as_str(), end.as_str()), expected, "{step} {from:?} {to:?}");
        }
    }

    #[test]
    fn a_span_that_is_empty_or_too_long_is_refused() {
        let to = Some("2026-03-04T01:00:00Z");
        assert!(span(StatStep::Minute, Some("2026-03-03T00:00:00Z"), to).is_ok(), "1,500 points");
        for from in ["2026-03-02T23:59:59Z", "0001-01-01T00:00:00Z", "2026-03-04T01:00:00Z", "2026-03-05T00:00:00Z"] {
            let problem = span(StatStep::Minute, Some(from), to).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidQuery, "{from}");
        }
        assert!(span(StatStep::Day, None, Some("9999-12-30T12:00:00Z")).is_err());
    }
}
