//! What all columns of a table hold: the first pass.

use std::path::Path;

use fourmi_kinds::{ColumnType, DatasetNote, TableFormat};

use crate::{
    Limits, TableError,
    column::{Column, Room},
    delimited::{note, short, some},
    inspect::{Inspected, inspect},
    number::Style,
    rows::Rows,
    sketch::Distinct,
    watch::Watch,
};

/// Numbers of which quantiles are exact.
const EXACT_NUMBERS: usize = 100_000;

/// Bytes of categories that one column may have, if there is room for all.
const LEVEL_BYTES: usize = 1 << 20;

/// Rows from which it is found out how numbers are written.
const LOOKED_AT: u64 = 2_000;

/// A table that was read once.
pub(crate) struct Profile {
    pub(crate) inspected: Inspected,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: u64,
    pub(crate) notes: Vec<DatasetNote>,
}

impl Profile {
    /// Reads the table twice: as bytes, and as rows. Once more, if late rows tell that numbers are written in another way
    /// than the first ones.
    pub(crate) fn of(
        path: &Path,
        format: Option<TableFormat>,
        limits: &Limits,
        watch: &Watch<'_>,
    ) -> Result<Self, TableError> {
        let inspected = inspect(path, format, limits, watch)?;
        let uncounted = watch.uncounted();
        let first = Self::read(path, inspected, &[], Some(LOOKED_AT), limits, &uncounted)?;
        let styles = first.all_styles();
        drop(first);
        watch.expect(inspected.bytes);
        let mut whole = Self::read(path, inspected, &styles, None, limits, watch)?;
        if let Some(styles) = whole.styles() {
            watch.expect(inspected.bytes);
            drop(std::mem::take(&mut whole.columns));
            whole = Self::read(path, inspected, &styles, None, limits, watch)?;
        }
        whole.note();
        Ok(whole)
    }

    /// `styles` are those of the columns that are known; there may be more.
    fn read(
        path: &Path,
        inspected: Inspected,
        styles: &[Style],
        most: Option<u64>,
        limits: &Limits,
        watch: &Watch<'_>,
    ) -> Result<Self, TableError> {
        let mut reader = Rows::open(path, &inspected, limits, watch)?;
        let mut columns: Vec<Column> = Vec::new();
        let mut rows = 0;
        while most != Some(rows) && reader.advance()? {
            for (at, name) in reader.names().iter().enumerate().skip(columns.len()) {
                let style = styles.get(at).copied().unwrap_or(Style::Point);
                // JSON lines that do not have the key yet.
                let missing = rows;
                let room = room(reader.names().len().max(styles.len()), limits);
                columns.push(Column::new(name.clone(), style, missing, room));
            }
            for (at, column) in columns.iter_mut().enumerate() {
                column.add(rows, reader.value(at));
            }
            rows += 1;
        }
        if rows == 0 {
            let names = reader.names();
            columns
                .extend(names.iter().map(|name| Column::new(name.clone(), Style::Point, 0, room(names.len(), limits))));
        }
        if columns.is_empty() && most.is_none() {
            return Err(TableError::Empty);
        }
        Ok(Self { inspected, columns, rows, notes: reader.notes() })
    }

    /// How numbers of each column are written, if not all were read so.
    fn styles(&self) -> Option<Vec<Style>> {
        let delimiter = self.inspected.delimiter;
        self.columns.iter().any(|column| column.better_style(delimiter).is_some()).then(|| self.all_styles())
    }

    fn all_styles(&self) -> Vec<Style> {
        let delimiter = self.inspected.delimiter;
        self.columns.iter().map(|column| column.better_style(delimiter).unwrap_or(column.style)).collect()
    }

    /// Notes what was done with values that could be meant otherwise.
    fn note(&mut self) {
        let named = |is: &dyn Fn(&Column) -> bool| -> Vec<&str> {
            self.columns.iter().filter(|column| is(column)).map(|column| column.name.as_str()).collect()
        };
        let mut notes = Vec::new();
        let far: u64 = self.columns.iter().map(|column| column.out_of_range).sum();
        if far > 0 {
            let columns = some(&named(&|column| column.out_of_range > 0));
            let message = format!("{far} values are infinite or beyond 1e150 and count as missing, in {columns}.");
            notes.push(note("out_of_range", message));
        }
        let commas = named(&|column| column.style == Style::Comma && column.column_type() == ColumnType::Float);
        if !commas.is_empty() {
            notes.push(note("decimal_comma", format!("Numbers are read with a decimal comma in {}.", some(&commas))));
        }
        let ambiguous = named(&Column::is_ambiguous);
        if !ambiguous.is_empty() {
            let columns = some(&ambiguous);
            let message = format!(
                "Numbers such as \"1,234\" could be thousands or fractions in {columns}; they are read as {}.",
                if self.inspected.delimiter == b';' { "fractions" } else { "thousands" }
            );
            notes.push(note("ambiguous_numbers", message));
        }
        for column in &self.columns {
            if let Some((others, row, text)) = column.nearly_numbers() {
                let message = format!(
                    "\"{}\" has numbers, but {others} of its values are none, so it is not one of numbers; the first is \
                     \"{text}\" in row {row}, counted from 0.",
                    short(&column.name)
                );
                notes.push(note("mixed_values", message));
            }
        }
        self.notes.append(&mut notes);
    }
}

/// What one of so many columns may take, so that all of them stay within a quarter of the memory.
fn room(columns: usize, limits: &Limits) -> Room {
    let bytes = limits.memory_bytes as usize / 4 / columns.max(1);
    let distinct_bytes = Distinct::within(bytes / 5 * 2).bytes();
    let rest = bytes.saturating_sub(distinct_bytes);
    Room {
        distinct_bytes,
        numbers: (rest / 3 * 2 / size_of::<f64>()).clamp(1_000, EXACT_NUMBERS),
        level_bytes: (rest / 3).clamp(16 * 1024, LEVEL_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_columns_have_room_in_a_quarter_of_the_memory() {
        for memory_bytes in [1 << 30, 4 << 30] {
            let limits = Limits { memory_bytes, ..Limits::default() };
            for columns in [1, 20, 200, 900, 1_100, 2_000] {
                let Room { distinct_bytes, numbers, level_bytes } = room(columns, &limits);
                let all = columns * (distinct_bytes + numbers * size_of::<f64>() + level_bytes);
                assert!(all as u64 <= memory_bytes / 4, "{columns}: {all}");
            }
        }
    }
}
