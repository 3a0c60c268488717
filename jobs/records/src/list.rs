//! Lists of finished jobs, newest first.

use fourmi_model::{Job, JobId, KindName, QueueName, State, TenantName};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    jobs::record,
    row::{Cells, label},
    statement::{Statement, Value, query_of},
    store::reading,
};

/// The most jobs of a page.
const PAGE: usize = 200;

/// Jobs that one page looks at, at most: a filter whose parts match little together must not keep the database busy.
const LOOK_AT: usize = 5_000;

/// Which finished jobs to list: those to which everything given applies.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// Only these states; empty for all. Those of jobs that are not over match nothing.
    pub states: Vec<State>,
    /// Only this kind.
    pub kind: Option<KindName>,
    /// Only this queue.
    pub queue: Option<QueueName>,
    /// Only jobs with this tag.
    pub tag: Option<String>,
    /// Only jobs whose newest error has this code.
    pub error: Option<String>,
    /// Only jobs of this tenant.
    pub tenant: Option<TenantName>,
    /// Only jobs that were submitted with the API key of this id.
    pub submitted_by: Option<String>,
    /// Only jobs that were accepted at this time or later.
    pub created_after: Option<Timestamp>,
    /// Only jobs that were accepted before this time.
    pub created_before: Option<Timestamp>,
    /// Only jobs that were over at this time or later.
    pub finished_after: Option<Timestamp>,
    /// Only jobs that were over before this time.
    pub finished_before: Option<Timestamp>,
}

impl Records {
    /// A page of finished jobs, newest first, and the cursor of the next page, if there is one: opaque, URL-safe, and valid
    /// for the same filter. A page has `limit` jobs (200 at most), or fewer, even none, where few of many fit: one page
    /// looks at a bounded number.
    ///
    /// # Errors
    /// If the cursor is none, the database does not answer, or a record cannot be read.
    pub async fn list(
        &self,
        filter: &RecordFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Job>, Option<String>), RecordsError> {
        let start = cursor.map(Place::read).transpose()?;
        let limit = limit.clamp(1, PAGE);
        let Some(walk) = Walk::of(filter, start) else { return Ok((Vec::new(), None)) };
        let end = self.end_of(&walk).await?;
        let page = walk.page(limit, end.as_ref());
        let mut jobs: Vec<Job> = reading!(self, |db| {
            let rows = query_of!(page).fetch_all(db).await?;
            rows.iter().map(|row| record(row).map(|record| record.job)).collect::<Result<_, _>>()?
        })?;
        let next = if jobs.len() > limit {
            jobs.truncate(limit);
            jobs.last().map(Place::of)
        } else {
            end
        };
        Ok((jobs, next.map(|place| place.cursor())))
    }

    /// The cursor of what comes after this job in a list: for who takes only a part of a page.
    pub fn cursor_after(job: &Job) -> String {
        Place::of(job).cursor()
    }

    /// Where the walk stops for this page, if it must stop before the end.
    async fn end_of(&self, walk: &Walk<'_>) -> Result<Option<Place>, RecordsError> {
        let Some(end) = walk.end() else { return Ok(None) };
        reading!(self, |db| query_of!(end).fetch_optional(db).await?.map(|row| place(&row)).transpose()?)
    }
}

/// A place in the order of all lists.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    finished_at: i64,
    id: String,
}

impl Place {
    fn of(job: &Job) -> Self {
        let finished_at = job.finished_at.unwrap_or(job.created_at).as_millisecond();
        Self { finished_at, id: job.id.to_string() }
    }

    fn cursor(&self) -> String {
        format!("{}.{}", self.finished_at, self.id)
    }

    fn read(cursor: &str) -> Result<Self, RecordsError> {
        let read = || {
            let (time, id) = cursor.split_once('.')?;
            let time = Timestamp::from_millisecond(time.parse().ok()?).ok()?;
            let id: JobId = id.parse().ok()?;
            Some(Self { finished_at: time.as_millisecond(), id: id.to_string() })
        };
        read().filter(|place| place.cursor() == cursor).ok_or(RecordsError::Cursor)
    }
}

fn place(row: &dyn Cells) -> Result<Place, RecordsError> {
    let finished_at = row.whole("finished_at")?.unwrap_or_default();
    Ok(Place { finished_at, id: row.text("id")?.unwrap_or_default() })
}

/// That a column has one of some values.
struct Condition {
    column: &'static str,
    values: Vec<Value>,
}

impl Condition {
    fn is(column: &'static str, value: Option<&(impl AsRef<str> + ?Sized)>) -> Option<Self> {
        value.map(|value| Self { column, values: vec![label(value.as_ref()).as_ref().into()] })
    }
}

/// The way to the jobs of a list: along the index of one condition, on which the others are checked.
struct Walk<'a> {
    filter: &'a RecordFilter,
    start: Option<Place>,
    along: Option<Condition>,
    rest: Vec<Condition>,
}

impl<'a> Walk<'a> {
    /// `None` if nothing can match.
    fn of(filter: &'a RecordFilter, start: Option<Place>) -> Option<Self> {
        let states = [State::Succeeded, State::Failed, State::Cancelled];
        let wanted = states.iter().filter(|state| filter.states.is_empty() || filter.states.contains(state));
        let wanted: Vec<State> = wanted.copied().collect();
        if wanted.is_empty() {
            return None;
        }
        let is_rare = !wanted.contains(&State::Succeeded);
        let mut states = (wanted.len() < states.len())
            .then(|| Condition { column: "state", values: wanted.iter().map(|state| state.as_str().into()).collect() });
        // The one that matches least, as a rule, comes first.
        let conditions = [
            Condition::is("tag", filter.tag.as_deref()),
            Condition::is("error_code", filter.error.as_deref()),
            Condition::is("submitted_by", filter.submitted_by.as_deref()),
            states.take_if(|_| is_rare),
            Condition::is("tenant", filter.tenant.as_ref().map(TenantName::as_str)),
            Condition::is("kind", filter.kind.as_ref().map(KindName::as_str)),
            states,
            Condition::is("queue", filter.queue.as_ref().map(QueueName::as_str)),
        ];
        let mut conditions = conditions.into_iter().flatten();
        Some(Self { filter, start, along: conditions.next(), rest: conditions.collect() })
    }

    /// Whether jobs on the way have to be looked at.
    fn is_checked(&self) -> bool {
        !self.rest.is_empty() || self.along.is_some() && self.checks_creation()
    }

    fn checks_creation(&self) -> bool {
        self.filter.created_after.is_some() || self.filter.created_before.is_some()
    }

    /// The last of the jobs that one page looks at, if it has to look at any.
    fn end(&self) -> Option<Statement> {
        if !self.is_checked() {
            return None;
        }
        let mut statement = Statement::of("SELECT id, finished_at FROM (");
        self.push_way(&mut statement, None, Some(LOOK_AT));
        statement.push(") AS way ORDER BY finished_at DESC, id DESC LIMIT 1 OFFSET ").bind(whole(LOOK_AT - 1));
        Some(statement)
    }

    /// The jobs of a page that goes as far as `end`, and one more.
    fn page(&self, limit: usize, end: Option<&Place>) -> Statement {
        // The order of a cross join is the order of the loops.
        let mut statement = Statement::of("SELECT jobs.* FROM (");
        self.push_way(&mut statement, end, (!self.is_checked()).then_some(limit + 1));
        statement.push(") AS way CROSS JOIN jobs WHERE jobs.id = way.id");
        for Condition { column, values } in &self.rest {
            statement.push(format_args!(" AND jobs.{column} IN ")).bind_all(values.iter().cloned());
        }
        if self.along.is_some() {
            self.push_creation(&mut statement);
        }
        statement.push(" ORDER BY way.finished_at DESC, way.id DESC LIMIT ").bind(whole(limit + 1));
        statement
    }

    /// The jobs along the index: one part for each value, since the order of an index holds for one.
    fn push_way(&self, statement: &mut Statement, end: Option<&Place>, take: Option<usize>) {
        let values = self.along.as_ref().map_or(&[][..], |along| &along.values);
        let [first, others @ ..] = values else { return self.push_part(statement, None, end, take) };
        if others.is_empty() {
            return self.push_part(statement, Some(first), end, take);
        }
        let mut before = "";
        for (number, value) in values.iter().enumerate() {
            statement.push(before).push("SELECT id, finished_at FROM (");
            self.push_part(statement, Some(value), end, take);
            statement.push(format_args!(") AS part_{number}"));
            before = " UNION ALL ";
        }
        push_order(statement, take);
    }

    fn push_part(&self, statement: &mut Statement, value: Option<&Value>, end: Option<&Place>, take: Option<usize>) {
        let column = self.along.as_ref().map_or("", |along| along.column);
        let table = if column == "tag" { "job_tags" } else { "jobs" };
        statement.push(format_args!("SELECT id, finished_at FROM {table} WHERE true"));
        if let Some(value) = value {
            statement.push(format_args!(" AND {column} = ")).bind(value.clone());
        } else {
            // The index that is walked along then knows it.
            self.push_creation(statement);
        }
        let RecordFilter { finished_after, finished_before, created_after, .. } = self.filter;
        // What was accepted at a time was over at that time or later.
        for after in [finished_after, created_after].into_iter().flatten() {
            statement.push(" AND finished_at >= ").bind(after.as_millisecond());
        }
        if let Some(before) = finished_before {
            statement.push(" AND finished_at < ").bind(before.as_millisecond());
        }
        for (place, comparison) in [(&self.start.as_ref(), "<"), (&end, ">=")] {
            if let Some(Place { finished_at, id }) = place {
                statement.push(format_args!(" AND (finished_at, id) {comparison} "));
                statement.push("(").bind(*finished_at).push(", ").bind(id.as_str()).push(")");
            }
        }
        push_order(statement, take);
    }

    fn push_creation(&self, statement: &mut Statement) {
        if let Some(after) = self.filter.created_after {
            statement.push(" AND created_at >= ").bind(after.as_millisecond());
        }
        if let Some(before) = self.filter.created_before {
            statement.push(" AND created_at < ").bind(before.as_millisecond());
        }
    }
}

fn push_order(statement: &mut Statement, take: Option<usize>) {
    if let Some(take) = take {
        statement.push(" ORDER BY finished_at DESC, id DESC LIMIT ").bind(whole(take));
    }
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sqlite::Sqlite, store::Store};

    /// How SQLite finds what a filter wants, in its own words.
    async fn plan(sqlite: &Sqlite, filter: &RecordFilter) -> String {
        let start = Some(Place { finished_at: 1, id: "media-0198c0de-0000-7000-8000-000000000001".to_owned() });
        let walk = Walk::of(filter, start).unwrap();
        let mut plan = String::new();
        for statement in [walk.end(), Some(walk.page(50, None))].into_iter().flatten() {
            let mut explained = Statement::of("EXPLAIN QUERY PLAN ");
            explained.push(statement.text());
            for row in query_of!(explained).fetch_all(&sqlite.readers).await.unwrap() {
                plan += &row.text("detail").unwrap().unwrap();
                plan += "\n";
            }
        }
        plan
    }

    #[tokio::test]
    async fn every_list_goes_along_an_index() {
        let folder = tempfile::TempDir::new().unwrap();
        let records = Records::open(&folder.path().join("records.db")).await.unwrap();
        let Store::Sqlite(sqlite) = &records.store else { unreachable!("it is a file") };
        let text = || Some("x".to_owned());
        let none = RecordFilter::default();
        let rare = RecordFilter { tag: text(), kind: Some("media.probe".parse().unwrap()), ..none.clone() };
        for (filter, index) in [
            (none.clone(), "jobs_newest"),
            (RecordFilter { finished_after: Some(Timestamp::UNIX_EPOCH), ..none.clone() }, "jobs_newest"),
            (RecordFilter { created_before: Some(Timestamp::UNIX_EPOCH), ..none.clone() }, "jobs_newest"),
            (RecordFilter { states: vec![State::Failed], ..none.clone() }, "jobs_by_state (state=?"),
            (RecordFilter { states: vec![State::Failed, State::Cancelled], ..none.clone() }, "jobs_by_state (state=?"),
            (RecordFilter { kind: Some("media.probe".parse().unwrap()), ..none.clone() }, "jobs_by_kind (kind=?"),
            (RecordFilter { queue: Some("media".parse().unwrap()), ..none.clone() }, "jobs_by_end (queue=?"),
            (RecordFilter { error: text(), ..none.clone() }, "jobs_by_error (error_code=?"),
            (RecordFilter { tenant: Some("acme".parse().unwrap()), ..none.clone() }, "jobs_by_tenant (tenant=?"),
            (RecordFilter { submitted_by: text(), ..none.clone() }, "jobs_by_key (submitted_by=?"),
            (RecordFilter { tag: text(), ..none }, "jobs_by_tag (tag=?"),
            (rare, "jobs_by_tag (tag=?"),
        ] {
            let plan = plan(sqlite, &filter).await;
            assert!(plan.contains(&format!("USING COVERING INDEX {index}")), "{filter:?}: {plan}");
            assert!(!plan.contains("SCAN jobs\n") && !plan.contains("SCAN job_tags\n"), "{filter:?}: {plan}");
        }
    }
}
