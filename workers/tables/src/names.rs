//! Names of columns: all different, and none so long that it does not fit into what is told.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use fourmi_kinds::DatasetNote;

use crate::delimited::{note, some};

/// Bytes that are kept of a longer name.
const LONGEST: usize = 200;

/// Gives names to columns.
#[derive(Default)]
pub(crate) struct Names<'a> {
    /// Names that columns yet to come have in the table.
    kept: HashSet<&'a str>,
    taken: HashSet<String>,
    /// The number behind the next column of the same name.
    next: HashMap<String, usize>,
}

impl<'a> Names<'a> {
    /// None that is made up is one of these.
    pub(crate) fn beside(kept: HashSet<&'a str>) -> Self {
        Self { kept, ..Self::default() }
    }

    /// The name that a column has in the table, or that with a number behind it if another column has it.
    pub(crate) fn own(&mut self, name: &str) -> String {
        let is_free = !self.taken.contains(name);
        self.give(name, is_free)
    }

    /// A name for a column that has none.
    pub(crate) fn made_up(&mut self, name: &str) -> String {
        let is_free = !self.taken.contains(name) && !self.kept.contains(name);
        self.give(name, is_free)
    }

    fn give(&mut self, wanted: &str, is_free: bool) -> String {
        let mut name = wanted.to_owned();
        if !is_free {
            let number = self.next.entry(name.clone()).or_insert(2);
            while self.taken.contains(&name) || self.kept.contains(name.as_str()) {
                name = format!("{wanted}_{number}");
                *number += 1;
            }
        }
        self.taken.insert(name.clone());
        name
    }
}

/// As much of a name as there is room for.
pub(crate) fn cut(name: &str) -> Cow<'_, str> {
    if is_long(name) { format!("{}…", &name[..name.floor_char_boundary(LONGEST)]).into() } else { name.into() }
}

pub(crate) const fn is_long(name: &str) -> bool {
    name.len() > LONGEST
}

/// Notes that names were cut.
pub(crate) fn note_cut(cut: &[impl AsRef<str>]) -> Option<DatasetNote> {
    let message = || format!("Names of more than {LONGEST} bytes were cut to so many: {}.", some(cut));
    (!cut.is_empty()).then(|| note("long_names", message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_between_characters() {
        assert_eq!(cut("a"), "a");
        let full = "a".repeat(LONGEST);
        assert_eq!(cut(&full), full);
        let long = cut(&"é".repeat(LONGEST)).into_owned();
        assert!(long.ends_with("é…") && long.len() <= LONGEST + 3, "{long}");
    }

    #[test]
    fn many_of_the_same_name_get_numbers() {
        let mut names = Names::beside(HashSet::from(["a", "a_3"]));
        let given: Vec<String> = (0..4).map(|_| names.own("a")).collect();
        assert_eq!(given, ["a", "a_2", "a_4", "a_5"]);
        assert_eq!(
            (names.own("a_3"), names.made_up("a_3"), names.made_up("b")),
            ("a_3".to_owned(), "a_3_2".to_owned(), "b".to_owned())
        );
        for number in 0..100_000 {
            assert_eq!(names.own("a"), format!("a_{}", number + 6));
        }
    }
}
