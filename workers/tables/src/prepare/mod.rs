//! A table as numbers: the second pass, and what follows it.

mod condition;
mod made;
mod read;

use std::{collections::HashMap, path::Path};

use fourmi_kinds::{
    ColumnType, ColumnUse, DatasetNote, Encode, Encoding, Fill, Missing, Scale, Selection, TableFormat,
};

use self::{
    condition::Condition,
    made::Made,
    read::{ABSENT, Read, Values},
};
use crate::{
    GoOn, Limits, TableError,
    delimited::{note, some},
    encode, fill,
    inspect::Inspected,
    profile::Profile,
    random::Draw,
    rows::Rows,
    watch::Watch,
};

/// What is to become of a table.
#[derive(Debug, Clone, Copy)]
pub struct Preparation<'a> {
    /// Which part of it is looked at.
    pub select: &'a Selection,
    /// What becomes of missing values.
    pub missing: &'a Missing,
    /// How categories become numbers.
    pub encode: &'a Encode,
    /// How columns are brought to one scale.
    pub scale: &'a Scale,
    /// Where chance begins.
    pub seed: u64,
}

/// A table as numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Rows x columns, row by row; encoded, scaled and finite, none beyond 1e150.
    pub features: Vec<f64>,
    /// Columns of `features`.
    pub columns: usize,
    /// Their names: `height`, `colour=red`, `height=missing`.
    pub names: Vec<String>,
    /// Rows x numeric columns, row by row; in their own units, with missing values filled in.
    pub originals: Vec<f64>,
    /// The numeric columns: those of numbers, dates (days since 1970) and booleans (0 and 1).
    pub original_names: Vec<String>,
    /// Where in the table each row is, from 0.
    pub row_numbers: Vec<u64>,
    /// What became of each column of the table.
    pub uses: Vec<ColumnUse>,
    /// What was noticed.
    pub notes: Vec<DatasetNote>,
    /// Rows of the table.
    pub total_rows: u64,
}

/// Makes numbers of a table.
///
/// # Errors
/// See [`TableError`]; [`TableError::TooLarge`] before the memory is taken.
pub fn prepare(
    path: &Path,
    format: Option<TableFormat>,
    preparation: &Preparation<'_>,
    limits: &Limits,
    go_on: GoOn<'_>,
) -> Result<Prepared, TableError> {
    let watch = Watch::new(go_on);
    let profile = Profile::of(path, format, limits, &watch)?;
    if profile.rows == 0 {
        return Err(TableError::Empty);
    }
    let (mut uses, conditions) = choose(&profile, preparation)?;
    let Profile { inspected, columns, rows: total_rows, mut notes } = profile;
    let mut read: Vec<Read> = Vec::new();
    for (at, column) in columns.into_iter().enumerate() {
        if uses[at].left_out.is_none() {
            read.push(Read::new(at, &column, uses[at].column_type));
        }
    }
    let table = Table { path, inspected, limits, watch: &watch };
    let matching = if conditions.is_empty() { total_rows } else { table.count(&conditions)? };
    if matching == 0 {
        return Err(TableError::NoRows { why: "no row meets all conditions of `select.rows`: take one of them away" });
    }
    let rows = preparation.select.sample.unwrap_or(matching).min(matching);
    check_memory(&read, rows, preparation, limits)?;
    let mut row_numbers = table.fill(&mut read, &conditions, Draw::new(rows, matching, preparation.seed), rows)?;

    leave_out_missing(&mut read, &mut uses, preparation.missing, &watch)?;
    leave_out_levels(&mut read, &mut uses, preparation.encode, &watch)?;
    if preparation.missing.with == Fill::DropRow {
        drop_rows(&mut read, &mut row_numbers, &watch)?;
    }
    leave_out(&mut read, &mut uses, "constant", &watch, Read::is_constant)?;
    if preparation.missing.indicator {
        mark(&mut read, &watch)?;
    }
    fill_in(&mut read, &mut uses, &mut notes, preparation, &watch)?;
    // Categories that come equally often have one frequency.
    leave_out(&mut read, &mut uses, "constant", &watch, |column| column.is_encoded_alike(preparation.encode))?;
    if read.is_empty() {
        return Err(TableError::NoNumericColumns { why: reasons(&uses) });
    }
    let mut made = Made::new(row_numbers.len(), &read, preparation);
    for column in read {
        let at = column.at;
        uses[at].features = made.add(column, &uses[at].name, preparation, &watch)?;
    }
    if !made.even.is_empty() {
        let message = format!(
            "Half of the values of {} are the same, so they were not divided by their interquartile range, which is 0.",
            some(&made.even)
        );
        notes.push(note("no_spread", message));
    }
    Ok(Prepared {
        features: made.features,
        columns: made.names.len(),
        names: made.names,
        originals: made.originals,
        original_names: made.original_names,
        row_numbers,
        uses,
        notes,
        total_rows,
    })
}

/// Which columns are used, as far as the whole table tells, and which rows.
fn choose(profile: &Profile, preparation: &Preparation<'_>) -> Result<(Vec<ColumnUse>, Vec<Condition>), TableError> {
    let select = preparation.select;
    let numbers: HashMap<&str, usize> =
        profile.columns.iter().enumerate().map(|(at, column)| (column.name.as_str(), at)).collect();
    let find = |name: &String| {
        numbers.get(name.as_str()).copied().ok_or_else(|| TableError::UnknownColumn {
            name: name.clone(),
            there: some(&profile.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>()),
        })
    };
    let mut named = vec![false; profile.columns.len()];
    let mut selected = vec![select.columns.is_empty(); profile.columns.len()];
    for name in &select.columns {
        let at = find(name)?;
        (named[at], selected[at]) = (true, true);
    }
    for name in &select.exclude {
        selected[find(name)?] = false;
    }
    let mut conditions = Vec::new();
    for filter in &select.rows {
        let at = find(&filter.column)?;
        conditions.push(Condition::new(at, filter, &profile.columns[at]));
    }
    let uses = profile
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let column_type = column.column_type();
            let left_out = match column_type {
                _ if !selected[at] => Some("not_selected"),
                ColumnType::Text => Some("text"),
                // Who names a column of numbers wants it.
                ColumnType::Identifier if !(named[at] && column.is_whole()) => Some("identifier"),
                ColumnType::Constant => Some("constant"),
                ColumnType::Empty => Some("mostly_missing"),
                ColumnType::Category if preparation.encode.method == Encoding::Off => Some("not_encoded"),
                _ => None,
            };
            let left_out = left_out.map(str::to_owned);
            ColumnUse { name: column.name.clone(), column_type, features: 0, left_out, filled: 0 }
        })
        .collect();
    Ok((uses, conditions))
}

/// Where rows come from.
struct Table<'a> {
    path: &'a Path,
    inspected: Inspected,
    limits: &'a Limits,
    watch: &'a Watch<'a>,
}

impl Table<'_> {
    /// Rows for which all conditions hold.
    fn count(&self, conditions: &[Condition]) -> Result<u64, TableError> {
        let mut count = 0;
        self.each(conditions, |_, _| count += 1)?;
        Ok(count)
    }

    /// Reads the values of drawn rows. Gives the numbers of these.
    fn fill(
        &self,
        columns: &mut [Read],
        conditions: &[Condition],
        mut draw: Draw,
        rows: u64,
    ) -> Result<Vec<u64>, TableError> {
        let mut numbers = Vec::with_capacity(rows as usize);
        columns.iter_mut().for_each(|column| column.reserve(rows as usize));
        self.each(conditions, |row, reader| {
            if draw.next() {
                numbers.push(row);
                for column in columns.iter_mut() {
                    column.push(reader.value(column.at));
                }
            }
        })?;
        Ok(numbers)
    }

    fn each(&self, conditions: &[Condition], mut visit: impl FnMut(u64, &Rows<'_>)) -> Result<(), TableError> {
        self.watch.expect(self.inspected.bytes);
        let mut reader = Rows::open(self.path, &self.inspected, self.limits, self.watch)?;
        let mut row = 0;
        while reader.advance()? {
            if conditions.iter().all(|condition| condition.holds(reader.value(condition.column))) {
                visit(row, &reader);
            }
            row += 1;
        }
        Ok(())
    }
}

/// Whether everything fits: the values as read, the features, the originals, and a few columns more.
fn check_memory(read: &[Read], rows: u64, preparation: &Preparation<'_>, limits: &Limits) -> Result<(), TableError> {
    let (mut numeric, mut bytes_of_row, mut features) = (0_u64, 8 + 3 * 8, 0_u64);
    for column in read {
        let indicator = u64::from(preparation.missing.indicator);
        match &column.values {
            Values::Numbers(_) => {
                numeric += 1;
                features += 1 + indicator;
                bytes_of_row += 8 + indicator;
            }
            Values::Levels { texts, .. } => {
                features += encode::most_features(texts.len(), preparation.encode) as u64 + indicator;
                bytes_of_row += 4 + indicator;
            }
        }
    }
    bytes_of_row += 8 * (features + numeric);
    if preparation.missing.with == Fill::Neighbours {
        bytes_of_row += fill::bytes_of_row(numeric as usize) as u64;
    }
    let bytes = rows.saturating_mul(bytes_of_row);
    let limit = limits.memory_bytes;
    if bytes > limit {
        return Err(TableError::TooLarge { rows, features, bytes, limit, fitting: limit / bytes_of_row });
    }
    Ok(())
}

fn leave_out(
    read: &mut Vec<Read>,
    uses: &mut [ColumnUse],
    why: &str,
    watch: &Watch<'_>,
    is: impl Fn(&Read) -> bool,
) -> Result<(), TableError> {
    for column in std::mem::take(read) {
        watch.check()?;
        if is(&column) {
            uses[column.at].left_out = Some(why.to_owned());
            uses[column.at].filled = 0;
        } else {
            read.push(column);
        }
    }
    Ok(())
}

fn leave_out_missing(
    read: &mut Vec<Read>,
    uses: &mut [ColumnUse],
    options: &Missing,
    watch: &Watch<'_>,
) -> Result<(), TableError> {
    leave_out(read, uses, "mostly_missing", watch, |column| {
        let (missing, rows) = (column.missing(), column.rows());
        missing == rows || missing as f64 > options.drop_column_above * rows as f64
    })
}

fn leave_out_levels(
    read: &mut Vec<Read>,
    uses: &mut [ColumnUse],
    options: &Encode,
    watch: &Watch<'_>,
) -> Result<(), TableError> {
    leave_out(read, uses, "too_many_levels", watch, |column| match &column.values {
        Values::Levels { texts, of_rows, .. } if options.method == Encoding::OneHot => {
            encode::present(texts.len(), of_rows).len() > options.max_levels as usize
        }
        _ => false,
    })
}

/// Marks where values of each column are missing.
fn mark(read: &mut [Read], watch: &Watch<'_>) -> Result<(), TableError> {
    for column in read {
        watch.check()?;
        column.mark();
    }
    Ok(())
}

fn drop_rows(read: &mut [Read], row_numbers: &mut Vec<u64>, watch: &Watch<'_>) -> Result<(), TableError> {
    let mut whole = vec![true; row_numbers.len()];
    for column in read.iter() {
        watch.check()?;
        whole.iter_mut().zip(column.absent()).for_each(|(whole, absent)| *whole &= !absent);
    }
    if !whole.contains(&true) && !read.is_empty() {
        return Err(TableError::NoRows {
            why: "every row misses a value: fill them in, or leave out columns with many missing values",
        });
    }
    for column in read {
        watch.check()?;
        column.keep(&whole);
    }
    let mut at = whole.iter();
    row_numbers.retain(|_| at.next() == Some(&true));
    Ok(())
}

fn fill_in(
    read: &mut [Read],
    uses: &mut [ColumnUse],
    notes: &mut Vec<DatasetNote>,
    preparation: &Preparation<'_>,
    watch: &Watch<'_>,
) -> Result<(), TableError> {
    let mut numeric = Vec::new();
    for column in read {
        watch.check()?;
        uses[column.at].filled = column.missing() as u64;
        match &mut column.values {
            Values::Numbers(values) => numeric.push(values),
            Values::Levels { texts, of_rows, .. } => {
                let frequent = encode::most_frequent(texts.len(), of_rows);
                of_rows.iter_mut().filter(|place| **place == ABSENT).for_each(|place| *place = frequent);
            }
        }
    }
    if preparation.missing.with == Fill::Neighbours {
        if let Some(donors) = fill::neighbours(&mut numeric, preparation.missing.neighbours, preparation.seed, watch)? {
            let message = format!(
                "Missing values are the means of the nearest of {donors} drawn rows: to search in all would take too long."
            );
            notes.push(note("neighbours_sampled", message));
        }
        return Ok(());
    }
    for values in numeric {
        watch.check()?;
        fill::fill(values, preparation.missing, watch)?;
    }
    Ok(())
}

/// Why no column is left, in short.
fn reasons(uses: &[ColumnUse]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for reason in uses.iter().filter_map(|column| column.left_out.as_deref()) {
        match counts.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => counts.push((reason, 1)),
        }
    }
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(reason, count)| {
            let what = match reason {
                "text" => "free text",
                "identifier" => "a key, another value in each row",
                "constant" => "the same in all rows",
                "too_many_levels" => "categories with more than `encode.max_levels` levels",
                "mostly_missing" => "missing in more rows than `missing.drop_column_above` allows",
                "not_encoded" => "categories, which `encode` leaves out",
                _ => "not selected",
            };
            format!("{count} {what}")
        })
        .collect();
    format!("{}. Choose columns of numbers or of few categories.", counts.join("; "))
}
