//! What is served at a path, and how.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    path::Path,
    sync::Arc,
};

use super::content::media_type;

/// The bytes of a body: some of its own, then zeros, so that a gigabyte costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Content {
    bytes: Arc<[u8]>,
    zeros: u64,
}

impl Content {
    /// Its length.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64 + self.zeros
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// These bytes and so many zeros.
    pub fn padded(bytes: impl Into<Arc<[u8]>>, zeros: u64) -> Self {
        Self { bytes: bytes.into(), zeros }
    }

    /// What begins at `range.start`, which may be less than the range asks for.
    pub(super) fn piece(&self, range: Range<u64>) -> &[u8] {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        let own = self.bytes.len() as u64;
        let index = |at: u64| usize::try_from(at).unwrap();
        if range.start < own {
            return &self.bytes[index(range.start)..index(range.end.min(own))];
        }
        &ZEROS[..index((range.end - range.start).min(ZEROS.len() as u64))]
    }
}

impl<T: Into<Arc<[u8]>>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::padded(bytes, 0)
    }
}

/// How a request is answered.
#[derive(Debug, Clone, Default)]
pub enum Answer {
    /// As it should be.
    #[default]
    Well,
    /// With this status and `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// With this status and `Location`.
    Redirect(u16, String),
    /// Not at all: the connection stays open.
    Silence,
    /// Not at all: the connection is closed.
    HangUp,
    /// With so many bytes of the body, then nothing more while the connection stays open.
    StallAfter(u64),
    /// With so many bytes of the body, then the connection is closed.
    CutAfter(u64),
    /// With the whole body, announced with this length.
    Announce(u64),
    /// Without a length (chunked).
    Chunked,
    /// With the body over and over again, without a length.
    Endless,
    /// With so many bytes a second.
    Throttled(u64),
}

impl Answer {
    /// A status alone.
    pub fn status(status: u16) -> Self {
        Self::Status(status, None)
    }
}

/// What is served at a path.
#[derive(Debug, Clone)]
pub struct Route {
    pub(super) content: Content,
    pub(super) media_type: String,
    pub(super) etag: Option<String>,
    pub(super) ranges: bool,
    pub(super) headers: Vec<(String, String)>,
    /// Requests of the path before this route was there.
    pub(super) asked_before: usize,
    always: Answer,
    exceptions: Vec<(Range<usize>, Answer)>,
    /// The entity tag of later requests, if the content seems to change.
    later_etag: Option<(usize, String)>,
}

impl Route {
    /// Content with ranges, a strong entity tag and a date.
    pub fn new(content: impl Into<Content>, media_type: &str) -> Self {
        let content = content.into();
        let mut hasher = DefaultHasher::new();
        (&content.bytes, content.zeros).hash(&mut hasher);
        Self {
            etag: Some(format!("\"{:016x}\"", hasher.finish())),
            content,
            media_type: media_type.to_owned(),
            ranges: true,
            headers: Vec::new(),
            asked_before: 0,
            always: Answer::Well,
            exceptions: Vec::new(),
            later_etag: None,
        }
    }

    /// A file, of the type that its name says.
    pub fn file(path: &Path) -> Self {
        Self::new(std::fs::read(path).unwrap(), media_type(path))
    }

    /// A page.
    pub fn html(page: impl Into<String>) -> Self {
        Self::new(page.into().into_bytes(), "text/html; charset=utf-8")
    }

    /// A whole body whatever part is asked for, and nothing to recognise it by.
    #[must_use]
    pub fn without_ranges(mut self) -> Self {
        self.ranges = false;
        self.etag = None;
        self
    }

    /// Another entity tag.
    #[must_use]
    pub fn etag(mut self, tag: &str) -> Self {
        self.etag = Some(format!("\"{tag}\""));
        self
    }

    /// Another entity tag from the `n`th request (from 1) on, as if the content had changed.
    #[must_use]
    pub fn etag_from(mut self, n: usize, tag: &str) -> Self {
        self.later_etag = Some((n, format!("\"{tag}\"")));
        self
    }

    /// A header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Every request is answered like this, save for exceptions.
    #[must_use]
    pub fn always(mut self, answer: Answer) -> Self {
        self.always = answer;
        self
    }

    /// The first `n` requests are answered like this.
    #[must_use]
    pub fn first(mut self, n: usize, answer: Answer) -> Self {
        self.exceptions.push((1..n + 1, answer));
        self
    }

    /// The `n`th request (from 1) is answered like this.
    #[must_use]
    pub fn nth(mut self, n: usize, answer: Answer) -> Self {
        self.exceptions.push((n..n + 1, answer));
        self
    }

    /// How the `n`th request (from 1) is answered.
    pub(super) fn answer(&self, n: usize) -> &Answer {
        self.exceptions.iter().find(|(numbers, _)| numbers.contains(&n)).map_or(&self.always, |(_, answer)| answer)
    }

    /// The entity tag that the `n`th request sees.
    pub(super) fn tag(&self, n: usize) -> Option<&str> {
        let later = self.later_etag.as_ref().filter(|(from, _)| n >= *from).map(|(_, tag)| tag);
        later.or(self.etag.as_ref()).map(String::as_str)
    }
}

impl From<Answer> for Route {
    fn from(answer: Answer) -> Self {
        Self::new(Vec::new(), "text/plain").always(answer)
    }
}
