//! Columns as they are read.

use std::collections::HashMap;

use fourmi_kinds::{ColumnType, Encode};

use crate::{
    column::Column,
    encode,
    number::{self, Style},
    sketch::hash,
    value::{self, LARGEST},
};

/// How the values of a column are read as numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reads {
    column_type: ColumnType,
    style: Style,
    /// Whether all that is there is a number.
    pub(super) is_number: bool,
}

impl Reads {
    pub(super) const fn new(column_type: ColumnType, style: Style) -> Self {
        Self { column_type, style, is_number: matches!(column_type, ColumnType::Integer | ColumnType::Float) }
    }

    /// Nothing if it is missing, out of range or something else.
    pub(super) fn number(self, text: &[u8]) -> Option<f64> {
        if value::is_missing(text) {
            return None;
        }
        match self.column_type {
            ColumnType::Boolean => value::boolean(text).map(f64::from),
            ColumnType::Date => value::date(text),
            _ => number::number(text, self.style).map(|number| number.value).filter(|value| value.abs() <= LARGEST),
        }
    }
}

/// A column that is read.
pub(super) struct Read {
    /// Where it is in the table.
    pub(super) at: usize,
    reads: Reads,
    pub(super) values: Values,
    /// Where one was missing before any was filled in, if that is to be marked.
    pub(super) marks: Option<Vec<bool>>,
}

/// The values of a column, in the used rows.
pub(super) enum Values {
    /// NaN where one is missing.
    Numbers(Vec<f64>),
    /// Categories by their place in the order of their texts.
    Levels { texts: Vec<String>, places: HashMap<u64, u32>, of_rows: Vec<u32> },
}

/// The place of a missing category.
pub(super) const ABSENT: u32 = u32::MAX;

impl Read {
    pub(super) fn new(at: usize, column: &Column, column_type: ColumnType) -> Self {
        let values = if column_type == ColumnType::Category {
            let levels = column.levels.sorted();
            Values::Levels {
                texts: levels.iter().map(|level| String::from_utf8_lossy(&level.text).into_owned()).collect(),
                places: levels.iter().zip(0..).map(|(level, place)| (hash(&level.text), place)).collect(),
                of_rows: Vec::new(),
            }
        } else {
            Values::Numbers(Vec::new())
        };
        Self { at, reads: Reads::new(column_type, column.style), values, marks: None }
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        match &mut self.values {
            Values::Numbers(values) => values.reserve_exact(rows),
            Values::Levels { of_rows, .. } => of_rows.reserve_exact(rows),
        }
    }

    pub(super) fn push(&mut self, text: &[u8]) {
        match &mut self.values {
            Values::Numbers(values) => values.push(self.reads.number(text).unwrap_or(f64::NAN)),
            Values::Levels { places, of_rows, .. } => {
                let place = if value::is_missing(text) { None } else { places.get(&hash(text)) };
                of_rows.push(place.copied().unwrap_or(ABSENT));
            }
        }
    }

    /// Marks where values are missing, if some are.
    pub(super) fn mark(&mut self) {
        self.marks = Some(self.absent()).filter(|absent| absent.contains(&true));
    }

    /// Where a value is missing.
    pub(super) fn absent(&self) -> Vec<bool> {
        match &self.values {
            Values::Numbers(values) => values.iter().map(|value| value.is_nan()).collect(),
            Values::Levels { of_rows, .. } => of_rows.iter().map(|&place| place == ABSENT).collect(),
        }
    }

    pub(super) fn missing(&self) -> usize {
        match &self.values {
            Values::Numbers(values) => values.iter().filter(|value| value.is_nan()).count(),
            Values::Levels { of_rows, .. } => of_rows.iter().filter(|&&place| place == ABSENT).count(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        match &self.values {
            Values::Numbers(values) => values.len(),
            Values::Levels { of_rows, .. } => of_rows.len(),
        }
    }

    pub(super) fn keep(&mut self, rows: &[bool]) {
        let mut at = rows.iter();
        match &mut self.values {
            Values::Numbers(values) => values.retain(|_| at.next() == Some(&true)),
            Values::Levels { of_rows, .. } => of_rows.retain(|_| at.next() == Some(&true)),
        }
    }

    /// Whether its encoding tells no rows apart.
    pub(super) fn is_encoded_alike(&self, options: &Encode) -> bool {
        match &self.values {
            Values::Numbers(_) => false,
            Values::Levels { texts, of_rows, .. } => {
                encode::is_constant(texts, &encode::present(texts.len(), of_rows), options)
            }
        }
    }

    pub(super) fn is_constant(&self) -> bool {
        match &self.values {
            Values::Numbers(values) => {
                let mut there = values.iter().filter(|value| !value.is_nan());
                let first = there.next();
                there.all(|value| Some(value) == first)
            }
            Values::Levels { texts, of_rows, .. } => encode::present(texts.len(), of_rows).len() < 2,
        }
    }
}
