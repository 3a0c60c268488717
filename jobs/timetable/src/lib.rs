#![doc = include_str!("../README.md")]

mod order;
mod payload;
mod rule;

pub use order::{OrderForm, Ordered};
pub use payload::{Tick, fill};
pub use rule::{RuleError, Timetable};
