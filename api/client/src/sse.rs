//! The event stream format of the HTML standard, section 9.2.6 ("Interpreting an event stream").

/// An event as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name; `message` if it has none.
    pub(crate) name: String,
    /// Its data, lines joined by line feeds.
    pub(crate) data: String,
    /// The last id of the stream up to and with this event.
    pub(crate) id: Option<String>,
}

/// More in one event than the API sends is no event of the API.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The stream holds something that cannot be an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Makes events of bytes, wherever these are cut.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    started: bool,
    name: String,
    data: Option<String>,
    last_id: Option<String>,
    retry_ms: Option<u64>,
}

impl Parser {
    /// The wait before a new connection that the stream asked for, in milliseconds.
    pub(crate) fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Takes the next bytes and gives the events that they complete. What a stream's end leaves incomplete is dropped,
    /// as the standard asks.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let ends_pair = std::mem::take(&mut self.after_cr) && byte == b'\n';
            match byte {
                _ if ends_pair => {}
                b'\r' | b'\n' => {
                    self.after_cr = byte == b'\r';
                    events.extend(self.end_line());
                }
                _ => self.line.push(byte),
            }
        }
        let held = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if held > MAX_BYTES { Err(TooLong) } else { Ok(events) }
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let first = !std::mem::replace(&mut self.started, true);
        let line = if first { line.trim_start_matches('\u{feff}') } else { &line };
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        self.take_field(field, value.strip_prefix(' ').unwrap_or(value));
        None
    }

    /// A comment has an empty field name; it and unknown fields are passed over.
    fn take_field(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
            "retry" if value.bytes().all(|c| c.is_ascii_digit()) => self.retry_ms = value.parse().ok(),
            _ => {}
        }
    }

    fn end_event(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.take()?;
        let name = if name.is_empty() { "message".to_owned() } else { name };
        Some(Event { name, data, id: self.last_id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str, id: Option<&str>) -> Event {
        Event { name: name.into(), data: data.into(), id: id.map(Into::into) }
    }

    /// Everything that the format allows, in one stream.
    const STREAM: &str = "\u{feff}: hello\nretry: 2000\n\nid: 1\nevent: snapshot\ndata: {\"a\":\ndata: 1}\n\n\
        :keep-alive\n\nid:2\r\nevent:state\r\ndata:é\r\n\r\nevent: nothing\n\ndata\n\nid: a\0b\rdata:  two\r\r\
        retry: soon\nunknown: x\ndata: last\n\ndata: cut off";

    fn expected() -> Vec<Event> {
        vec![
            event("snapshot", "{\"a\":\n1}", Some("1")),
            event("state", "é", Some("2")),
            event("message", "", Some("2")),
            event("message", " two", Some("2")),
            event("message", "last", Some("2")),
        ]
    }

    #[test]
    fn all_of_the_format_is_read() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(STREAM.as_bytes()).unwrap(), expected());
        assert_eq!(parser.retry_ms(), Some(2000));
    }

    #[test]
    fn it_does_not_matter_where_chunks_are_cut() {
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let events: Vec<_> = STREAM.as_bytes().chunks(size).flat_map(|chunk| parser.push(chunk).unwrap()).collect();
            assert_eq!(events, expected(), "chunks of {size}");
        }
    }

    #[test]
    fn line_ends_of_each_sort_give_the_same() {
        for end in ["\n", "\r", "\r\n"] {
            let text = ["id: 7", "data: a", "", "data: b", "", ""].join(end);
            let events = Parser::default().push(text.as_bytes()).unwrap();
            assert_eq!(events, [event("message", "a", Some("7")), event("message", "b", Some("7"))], "{end:?}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; 1024 * 1024];
        assert!((0..20).any(|_| parser.push(&chunk) == Err(TooLong)));
    }
}
