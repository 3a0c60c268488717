//! The way through rows, newest first, a page at a time, each of which looks at a bounded number of rows.

use std::slice;

use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Cells, label},
    statement::{Statement, Value, query_of},
    store::reading,
};

/// The most rows of a page.
pub(crate) const PAGE: usize = 200;

/// Rows that one page looks at, at most: a filter whose parts match little together must not keep the database busy.
const LOOK_AT: usize = 5_000;

/// A place in the order of the rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Milliseconds since 1970.
    pub(crate) time: i64,
    pub(crate) id: String,
}

impl Place {
    /// Before all rows of a time.
    fn first_at(time: i64) -> Self {
        Self { time, id: String::new() }
    }

    /// As a caller sees it, if the id is URL-safe.
    pub(crate) fn cursor(&self) -> String {
        format!("{}.{}", self.time, self.id)
    }

    /// What a caller has kept of a place among rows whose ids are like this.
    pub(crate) fn read(cursor: &str, is_id: fn(&str) -> bool) -> Result<Self, RecordsError> {
        let read = || {
            let (time, id) = cursor.split_once('.')?;
            let time = Timestamp::from_millisecond(time.parse().ok()?).ok()?;
            is_id(id).then(|| Self { time: time.as_millisecond(), id: id.to_owned() })
        };
        read().filter(|place| place.cursor() == cursor).ok_or(RecordsError::Cursor)
    }
}

/// That a column has one of some values. The table has the column with the ids and times of the rows, and an index of the
/// three.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    pub(crate) values: Vec<Value>,
}

impl Condition {
    /// `None` if there is no value.
    pub(crate) fn is(
        table: &'static str,
        column: &'static str,
        value: Option<&(impl AsRef<str> + ?Sized)>,
    ) -> Option<Self> {
        value.map(|value| Self { table, column, values: vec![label(value.as_ref()).as_ref().into()] })
    }
}

/// That a column has a number from here on, or up to here.
#[derive(Debug)]
pub(crate) enum Bound {
    From(&'static str, i64),
    Below(&'static str, i64),
}

impl Bound {
    /// From a time on, and before another, as far as they are given.
    pub(crate) fn between(
        column: &'static str,
        after: Option<Timestamp>,
        before: Option<Timestamp>,
    ) -> impl Iterator<Item = Self> {
        let after = after.map(|time| Self::From(column, time.as_millisecond()));
        after.into_iter().chain(before.map(|time| Self::Below(column, time.as_millisecond())))
    }
}

/// The way to the rows of a list: along the index of one condition, on which the others are checked.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) table: &'static str,
    /// The column that is the order, before the id.
    pub(crate) time: &'static str,
    pub(crate) start: Option<Place>,
    /// Otherwise along the index of all rows.
    pub(crate) along: Option<Condition>,
    /// What the index that is walked along knows.
    pub(crate) bounds: Vec<Bound>,
    /// What only the row itself knows.
    pub(crate) rest: Vec<Condition>,
    /// What only the row itself knows.
    pub(crate) rest_bounds: Vec<Bound>,
}

impl Records {
    /// A page of rows, and where the next one starts, if there is one. It has `limit` rows, or fewer, even none, where few
    /// of many fit.
    pub(crate) async fn page<T>(
        &self,
        walk: &Walk,
        limit: usize,
        read: fn(&dyn Cells) -> Result<T, RecordsError>,
        place_of: fn(&T) -> Place,
    ) -> Result<(Vec<T>, Option<Place>), RecordsError> {
        let end = self.end_of(walk).await?;
        let page = walk.page(limit, end.as_ref());
        let mut rows: Vec<T> = reading!(self, |db| {
            let rows = query_of!(page).fetch_all(db).await?;
            rows.iter().map(|row| read(row)).collect::<Result<_, _>>()?
        })?;
        if rows.len() <= limit {
            return Ok((rows, end));
        }
        rows.truncate(limit);
        let next = rows.last().map(place_of);
        Ok((rows, next))
    }

    /// Where the walk stops for this page, if it must stop before the end.
    async fn end_of(&self, walk: &Walk) -> Result<Option<Place>, RecordsError> {
        let Some(end) = walk.end() else { return Ok(None) };
        reading!(self, |db| query_of!(end).fetch_optional(db).await?.map(|row| walk.place(&row)).transpose()?)
    }
}

impl Walk {
    fn place(&self, row: &dyn Cells) -> Result<Place, RecordsError> {
        let time = row.whole(self.time)?.unwrap_or_default();
        Ok(Place { time, id: row.text("id")?.unwrap_or_default() })
    }

    /// Whether rows on the way have to be looked at.
    fn is_checked(&self) -> bool {
        !self.rest.is_empty() || !self.rest_bounds.is_empty()
    }

    /// The last of the rows that one page looks at, if it has to look at any.
    pub(crate) fn end(&self) -> Option<Statement> {
        if !self.is_checked() {
            return None;
        }
        let time = self.time;
        let mut statement = Statement::of(format_args!("SELECT id, {time} FROM ("));
        self.push_way(&mut statement, None, Some(LOOK_AT));
        statement.push(format_args!(") AS way ORDER BY {time} DESC, id DESC LIMIT 1 OFFSET ")).bind(whole(LOOK_AT - 1));
        Some(statement)
    }

    /// The rows of a page that goes as far as `end`, and one more.
    pub(crate) fn page(&self, limit: usize, end: Option<&Place>) -> Statement {
        let Self { table, time, .. } = self;
        // The order of a cross join is the order of the loops.
        let mut statement = Statement::of(format_args!("SELECT {table}.* FROM ("));
        self.push_way(&mut statement, end, (!self.is_checked()).then_some(limit + 1));
        statement.push(format_args!(") AS way CROSS JOIN {table} WHERE {table}.id = way.id"));
        for Condition { column, values, .. } in &self.rest {
            statement.push(format_args!(" AND {table}.{column} IN ")).bind_all(values.iter().cloned());
        }
        push_bounds(&mut statement, &self.rest_bounds);
        statement.push(format_args!(" ORDER BY way.{time} DESC, way.id DESC LIMIT ")).bind(whole(limit + 1));
        statement
    }

    /// The rows along the index: one part for each value, since the order of an index holds for one.
    fn push_way(&self, statement: &mut Statement, end: Option<&Place>, take: Option<usize>) {
        let values = self.along.as_ref().map_or(&[][..], |along| &along.values);
        let [first, others @ ..] = values else { return self.push_part(statement, None, end, take) };
        if others.is_empty() {
            return self.push_part(statement, Some(first), end, take);
        }
        let mut before = "";
        for (number, value) in values.iter().enumerate() {
            statement.push(before).push(format_args!("SELECT id, {} FROM (", self.time));
            self.push_part(statement, Some(value), end, take);
            statement.push(format_args!(") AS part_{number}"));
            before = " UNION ALL ";
        }
        self.push_order(statement, take);
    }

    fn push_part(&self, statement: &mut Statement, value: Option<&Value>, end: Option<&Place>, take: Option<usize>) {
        let time = self.time;
        let (table, column) = self.along.as_ref().map_or((self.table, ""), |along| (along.table, along.column));
        statement.push(format_args!("SELECT id, {time} FROM {table} WHERE true"));
        if let Some(value) = value {
            statement.push(format_args!(" AND {column} = ")).bind(value.clone());
        }
        // Of several bounds SQLite takes one to find its way, not the closest.
        let (mut from, mut below) = (end.cloned(), self.start.clone());
        for bound in &self.bounds {
            match bound {
                Bound::From(column, at) if *column == time => from = from.max(Some(Place::first_at(*at))),
                Bound::Below(column, at) if *column == time => {
                    let at = Place::first_at(*at);
                    below = Some(below.map_or(at.clone(), |below| below.min(at)));
                }
                other => push_bounds(statement, slice::from_ref(other)),
            }
        }
        for (place, comparison) in [(below, "<"), (from, ">=")] {
            if let Some(Place { time: at, id }) = place {
                statement.push(format_args!(" AND ({time}, id) {comparison} "));
                statement.push("(").bind(at).push(", ").bind(id.as_str()).push(")");
            }
        }
        self.push_order(statement, take);
    }

    fn push_order(&self, statement: &mut Statement, take: Option<usize>) {
        if let Some(take) = take {
            statement.push(format_args!(" ORDER BY {} DESC, id DESC LIMIT ", self.time)).bind(whole(take));
        }
    }
}

fn push_bounds(statement: &mut Statement, bounds: &[Bound]) {
    for bound in bounds {
        match bound {
            Bound::From(column, number) => statement.push(format_args!(" AND {column} >= ")).bind(*number),
            Bound::Below(column, number) => statement.push(format_args!(" AND {column} < ")).bind(*number),
        };
    }
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How SQLite finds the rows of a walk, in its own words.
#[cfg(test)]
pub(crate) async fn plan(records: &Records, walk: &Walk) -> String {
    let crate::store::Store::Sqlite(sqlite) = &records.store else { unreachable!("it is a file") };
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
