//! A JSON object a line (<https://jsonlines.org>).

use std::{
    cell::Cell,
    collections::HashMap,
    fmt,
    io::{BufRead, BufReader},
    rc::Rc,
};

use fourmi_kinds::DatasetNote;
use serde::{
    Serialize,
    de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};

use crate::{
    Limits, TableError,
    names::{Names, cut, is_long, note_cut},
    number::{self, Style},
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
    /// The key of each column, with those around it.
    keys: Vec<String>,
    /// What the columns are called.
    names: Vec<String>,
    free: Names<'static>,
    /// The column of each key.
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
            keys: Vec::new(),
            names: Vec::new(),
            free: Names::default(),
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

    pub(crate) fn notes(&self) -> Vec<DatasetNote> {
        let Row { keys, names, .. } = &self.row;
        let long = keys.iter().zip(names).filter(|(key, _)| is_long(key)).map(|(_, name)| name.as_str());
        Vec::from_iter(note_cut(&long.collect::<Vec<_>>()))
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
            let parsed = self.row.read(&self.line).or_else(|error| match quoted(&self.line) {
                Some(line) => self.row.read(&line),
                None => Err(error),
            });
            if self.row.keys.len() > self.row.most {
                return Err(TableError::TooManyColumns { columns: self.row.keys.len(), limit: self.row.most });
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

/// The line with what JSON has no numbers for (`NaN`, `Infinity`, `1e400`) in quotes, so that it is read as such a text is:
/// as missing. Nothing if it has none of them.
fn quoted(line: &[u8]) -> Option<Vec<u8>> {
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
    let is_no_json = |word: &[u8]| {
        word.eq_ignore_ascii_case(b"nan")
            || number::number(word, Style::Point).is_some_and(|number| number.value.is_infinite())
    };
    let mut quoted = Vec::new();
    let (mut copied, mut at, mut in_text) = (0, 0, false);
    while let Some(byte) = line.get(at) {
        match byte {
            b'"' => in_text = !in_text,
            // The next byte is no quote that ends the text.
            b'\\' if in_text => at += 1,
            byte if !in_text && is_of_word(byte) => {
                let end = at + line[at..].iter().take_while(|byte| is_of_word(byte)).count();
                if is_no_json(&line[at..end]) {
                    quoted.extend_from_slice(&line[copied..at]);
                    quoted.push(b'"');
                    quoted.extend_from_slice(&line[at..end]);
                    quoted.push(b'"');
                    copied = end;
                }
                at = end - 1;
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return None;
    }
    quoted.extend_from_slice(&line[copied..]);
    Some(quoted)
}

impl Row {
    fn read(&mut self, line: &[u8]) -> serde_json::Result<()> {
        self.values.fill((0, 0));
        self.texts.clear();
        self.path.clear();
        self.next = 0;
        let mut parser = serde_json::Deserializer::from_slice(line);
        Flatten { row: self, depth: 0 }.deserialize(&mut parser)?;
        parser.end()
    }

    /// Adds a value at the current path.
    fn set<E: de::Error>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let column = self.column::<E>()?;
        let from = self.texts.len();
        write(&mut self.texts)?;
        self.values[column] = (from, self.texts.len());
        Ok(())
    }

    fn column<E: de::Error>(&mut self) -> Result<usize, E> {
        let column = match self.keys.get(self.next) {
            Some(key) if *key == self.path => self.next,
            _ => match self.numbers.get(&self.path) {
                Some(&column) => column,
                None => {
                    if self.path.len() > KEY_BYTES {
                        return Err(E::custom(format!("a key is longer than {KEY_BYTES} bytes")));
                    }
                    self.numbers.insert(self.path.clone(), self.keys.len());
                    self.keys.push(self.path.clone());
                    self.names.push(self.free.own(&cut(&self.path)));
                    self.values.push((0, 0));
                    if self.keys.len() > self.most {
                        return Err(E::custom("too many columns"));
                    }
                    self.keys.len() - 1
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
    fn set<E: de::Error>(self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
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
        self.set(|texts| write(texts, &value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.set(|texts| write(texts, &value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.set(|texts| write(texts, &value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.set(|texts| write(texts, &value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.set(|texts| {
            texts.extend_from_slice(value.as_bytes());
            Ok(())
        })
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.set(|_| Ok(()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.set(|texts| Compact(texts).visit_seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        if self.depth == DEPTH {
            return self.set(|texts| Compact(texts).visit_map(entries));
        }
        let outer = self.row.path.len();
        while entries.next_key_seed(Key { path: &mut self.row.path, nested: self.depth > 0 })?.is_some() {
            entries.next_value_seed(Flatten { row: &mut *self.row, depth: self.depth + 1 })?;
            self.row.path.truncate(outer);
        }
        Ok(())
    }
}

/// Writes a value as compact JSON, piece by piece: it takes no more memory than its text and its depth.
struct Compact<'a>(&'a mut Vec<u8>);

impl Compact<'_> {
    /// Ends what has a comma behind each part of it.
    fn close(text: &mut Vec<u8>, end: u8) {
        match text.last_mut() {
            Some(last) if *last == b',' => *last = end,
            _ => text.push(end),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Compact<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Compact<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        write(self.0, &value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        write(self.0, &value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        write(self.0, &value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        write(self.0, &value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        write(self.0, value)
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        write(self.0, &())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push(b'[');
        while items.next_element_seed(Compact(self.0))?.is_some() {
            self.0.push(b',');
        }
        Self::close(self.0, b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.0.push(b'{');
        while entries.next_key_seed(Compact(self.0))?.is_some() {
            self.0.push(b':');
            entries.next_value_seed(Compact(self.0))?;
            self.0.push(b',');
        }
        Self::close(self.0, b'}');
        Ok(())
    }
}

/// Writes a value that holds no others as JSON.
fn write<E: de::Error>(text: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<(), E> {
    serde_json::to_writer(text, value).map_err(E::custom)
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
