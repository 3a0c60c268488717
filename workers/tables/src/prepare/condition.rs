//! Which rows are used.

use fourmi_kinds::{Comparison, FilterValue, RowFilter};

use super::read::Reads;
use crate::{column::Column, value};

/// A condition on rows.
pub(super) struct Condition {
    pub(super) column: usize,
    is: Comparison,
    value: Option<FilterValue>,
    reads: Reads,
}

impl Condition {
    pub(super) fn new(column: usize, filter: &RowFilter, of: &Column) -> Self {
        let reads = Reads::new(of.column_type(), of.style);
        Self { column, is: filter.is, value: filter.value.clone(), reads }
    }

    pub(super) fn holds(&self, text: &[u8]) -> bool {
        let number = self.reads.number(text);
        let is_missing = value::is_missing(text) || (self.reads.is_number && number.is_none());
        let ordered = |is: fn(&f64, &f64) -> bool| match (&self.value, &number) {
            (Some(FilterValue::Number(value)), Some(number)) => is(number, value),
            _ => false,
        };
        let equal = || match &self.value {
            Some(FilterValue::Text(value)) => value.trim().as_bytes() == text,
            _ => ordered(f64::eq),
        };
        match self.is {
            Comparison::Missing => is_missing,
            _ if is_missing => false,
            Comparison::Present => true,
            Comparison::Equal => equal(),
            Comparison::NotEqual => !equal(),
            Comparison::Less => ordered(f64::lt),
            Comparison::AtMost => ordered(f64::le),
            Comparison::Greater => ordered(f64::gt),
            Comparison::AtLeast => ordered(f64::ge),
        }
    }
}
