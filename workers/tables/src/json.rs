//! A JSON object a line (<https://jsonlines.org>).

use std::{
    cell::Cell,
    collections::HashMap,
    fmt,
    io::{BufRead, BufReader, Write as _},
    rc::Rc,
};

use serde::de::{
    self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor,
    value::{MapAccessDeserializer, SeqAccessDeserializer},
};
use serde_json::Value;

use crate::{
    Limits, TableError,
    source::{CHUNK, Source, Start},
};

/// Objects deeper than this are texts.
const DEPTH: usize = 8;

/// The longest name of a column, so that all of them fit into memory.
const KEY_BYTES: usize = 4_096;

/// The rows of a table, one at a time. Columns come as their keys are first seen.
pub(crate) struct JsonRows<'a> {
    reader: BufReader<Source<'a>>,
    start: Rc<Cell<Start>>,
    line_bytes: usize,
    line: Vec<u8>,
    row: Row,
    rows: u64,
}

/// One row: texts, and where they are.
struct Row {
    names: Vec<String>,
    numbers: HashMap<String, usize>,
    values: Vec<(usize, usize)>,
    texts: Vec<u8>,
    path: String,
    /// Keys mostly come in the order of the row before.
    next: usize,
    most: usize,
}

impl<'a> JsonRows<'a> {
    pub(crate) fn open(source: Source<'a>, limits: &Limits) -> Self {
        let start = source.start();
        let row = Row {
            names: Vec::new(),
            numbers: HashMap::new(),
            values: Vec::new(),
            texts: Vec::new(),
            path: String::new(),
            next: 0,
            most: limits.columns,
        };
        let reader = BufReader::with_capacity(CHUNK, source);
        Self { reader, start, line_bytes: limits.line_bytes, line: Vec::new(), row, rows: 0 }
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.row.names
    }

    pub(crate) fn value(&self, column: usize) -> &[u8] {
        let (from, to) = self.row.values.get(column).copied().unwrap_or_default();
        &self.row.texts[from..to]
    }

    pub(crate) fn advance(&mut self) -> Result<bool, TableError> {
        loop {
            self.line.clear();
            let read = self.reader.read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(false);
            }
            let Start { byte, line } = self.start.get();
            if read > self.line_bytes {
                return Err(TableError::LineTooLong { line, limit: self.line_bytes });
            }
            self.start.set(Start { byte: byte + read as u64, line: line + 1 });
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            self.row.clear();
            let mut parser = serde_json::Deserializer::from_slice(&self.line);
            let parsed = Flatten { row: &mut self.row, depth: 0 }.deserialize(&mut parser).and_then(|()| parser.end());
            if self.row.names.len() > self.row.most {
                return Err(TableError::TooManyColumns { columns: self.row.names.len(), limit: self.row.most });
            }
            if let Err(error) = parsed {
                // The reason ends with a place in the line, whose number is always 1.
                let reason = error.to_string().replace("at line 1 column", "at column");
                return Err(TableError::BadJson { row: self.rows, line, reason });
            }
            self.rows += 1;
            return Ok(true);
        }
    }
}

impl Row {
    fn clear(&mut self) {
        self.values.fill((0, 0));
        self.texts.clear();
        self.path.clear();
        self.next = 0;
    }

    /// Adds a value at the current path.
    fn set<E: de::Error>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Result<(), E> {
        let column = self.column::<E>()?;
        let from = self.texts.len();
        write(&mut self.texts).map_err(E::custom)?;
        self.values[column] = (from, self.texts.len());
        Ok(())
    }

    fn column<E: de::Error>(&mut self) -> Result<usize, E> {
        let column = match self.names.get(self.next) {
            Some(name) if *name == self.path => self.next,
            _ => match self.numbers.get(&self.path) {
                Some(&column) => column,
                None => {
                    if self.path.len() > KEY_BYTES {
                        return Err(E::custom(format!("a key is longer than {KEY_BYTES} bytes")));
                    }
                    self.numbers.insert(self.path.clone(), self.names.len());
                    self.names.push(self.path.clone());
                    self.values.push((0, 0));
                    if self.names.len() > self.most {
                        return Err(E::custom("too many columns"));
                    }
                    self.names.len() - 1
                }
            },
        };
        self.next = column + 1;
        Ok(column)
    }
}

/// Puts a value, and what is within it, into a row.
struct Flatten<'a> {
    row: &'a mut Row,
    depth: usize,
}

impl Flatten<'_> {
    fn set<E: de::Error>(self, write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Result<(), E> {
        if self.depth == 0 {
            return Err(E::custom("it is another value"));
        }
        self.row.set(write)
    }
}

impl<'de> DeserializeSeed<'de> for Flatten<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Flatten<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.set(|texts| texts.write_all(if value { b"true" } else { b"false" }))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.set(|texts| write!(texts, "{value}"))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.set(|texts| write!(texts, "{value}"))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.set(|texts| write!(texts, "{}", Value::from(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.set(|texts| texts.write_all(value.as_bytes()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.set(|_| Ok(()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        let value: Value = de::Deserialize::deserialize(SeqAccessDeserializer::new(items))?;
        self.set(|texts| write!(texts, "{value}"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        if self.depth == DEPTH {
            let value: Value = de::Deserialize::deserialize(MapAccessDeserializer::new(entries))?;
            return self.set(|texts| write!(texts, "{value}"));
        }
        let outer = self.row.path.len();
        while entries.next_key_seed(Key { path: &mut self.row.path, nested: self.depth > 0 })?.is_some() {
            entries.next_value_seed(Flatten { row: &mut *self.row, depth: self.depth + 1 })?;
            self.row.path.truncate(outer);
        }
        Ok(())
    }
}

/// Adds a key to a path.
struct Key<'a> {
    path: &'a mut String,
    nested: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<(), E> {
        if self.nested {
            self.path.push('.');
        }
        self.path.push_str(key);
        Ok(())
    }
}
