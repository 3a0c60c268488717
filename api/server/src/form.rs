//! Forms (`multipart/form-data`, RFC 7578) with a file, which is handed on as it arrives.
//!
//! A reader of our own: those that there are keep whole parts, or a head of any length, in memory or in temporary files.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use memchr::memmem;
use salvo::http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_DISPOSITION};

use crate::disposition;

/// The most parts of a form.
const MOST_PARTS: usize = 32;

/// The most headers of a part.
const MOST_HEADERS: usize = 16;

/// The most bytes of a part's headers.
const HEAD_BYTES: usize = 16 * 1024;

/// The most bytes of all that is not the file.
const BESIDE_BYTES: usize = 1024 * 1024;

/// A form that cannot be read; an [`io::Error`] holds it, as what ends the content of the file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Mistake(&'static str);

impl Mistake {
    /// The mistake that ended the content, if it was one.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

fn mistake(words: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Mistake(words))
}

/// The boundary in `multipart/form-data; boundary=…`.
///
/// # Errors
/// If it has none, or one that is none.
pub(crate) fn boundary(content_type: &str) -> io::Result<String> {
    let boundary = disposition::parameter(content_type, "boundary").unwrap_or_default();
    if (1..=70).contains(&boundary.len()) && boundary.bytes().all(|c| c.is_ascii_graphic() || c == b' ') {
        return Ok(boundary);
    }
    Err(mistake("The Content-Type lacks the boundary of the form's parts, of 1 to 70 characters."))
}

/// The file of a form, whose content is still to be read.
pub(crate) struct FormFile<S> {
    /// What the form calls it.
    pub(crate) name: String,
    /// The headers of its part.
    pub(crate) headers: HeaderMap,
    form: Form<S>,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> FormFile<S> {
    /// Reads up to the content of the first file; fields before it are skipped.
    ///
    /// # Errors
    /// If there is none, or the form cannot be read.
    pub(crate) async fn find(body: S, boundary: &str) -> io::Result<Self> {
        // As if a line had ended before: then each boundary looks the same.
        let (buffer, delimiter) = (BytesMut::from("\r\n"), format!("\r\n--{boundary}").into_bytes());
        let mut form = Form { body, buffer, delimiter, parts: 0, beside: 0 };
        form.skip().await?;
        while let Some(headers) = form.head().await? {
            if let Some(name) = file_name(&headers)? {
                return Ok(Self { name, headers, form });
            }
            form.skip().await?;
        }
        Err(mistake("There is no file in the form: no part has a file name."))
    }

    /// The content. It ends with an error if what follows is another file, or is not the rest of a form.
    pub(crate) fn content(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::try_unfold(self.form, async |mut form| match form.data().await? {
            Some(data) => Ok(Some((data, form))),
            None => form.end().await.map(|()| None),
        })
    }
}

fn file_name(headers: &HeaderMap) -> io::Result<Option<String>> {
    let Some(value) = headers.get(CONTENT_DISPOSITION) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes());
    text.map(disposition::name).map_err(|_| mistake("The Content-Disposition of a part is not UTF-8."))
}

struct Form<S> {
    body: S,
    buffer: BytesMut,
    delimiter: Vec<u8>,
    parts: usize,
    beside: usize,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Form<S> {
    async fn more(&mut self) -> io::Result<()> {
        let chunk = self.body.next().await.ok_or_else(|| mistake("The form ends before its last boundary."))?;
        self.buffer.extend_from_slice(&chunk?);
        Ok(())
    }

    /// The headers of the part that begins after a boundary; `None` at the end.
    async fn head(&mut self) -> io::Result<Option<HeaderMap>> {
        while self.buffer.len() < 2 {
            self.more().await?;
        }
        if self.buffer.starts_with(b"--") {
            return Ok(None);
        }
        self.parts += 1;
        if self.parts > MOST_PARTS {
            return Err(mistake("The form has more than 32 parts."));
        }
        let end = loop {
            let end = memmem::find(&self.buffer, b"\r\n\r\n").map(|end| end + 4);
            if end.unwrap_or(self.buffer.len()) > HEAD_BYTES {
                return Err(mistake("A part of the form has more than 16384 bytes of headers."));
            }
            match end {
                Some(end) => break end,
                None => self.more().await?,
            }
        };
        self.beside += end;
        let head = self.buffer.split_to(end);
        // What stands behind the boundary on its line is blank.
        let line = memmem::find(&head, b"\r\n").filter(|line| head[..*line].trim_ascii().is_empty());
        read_headers(&head[line.ok_or_else(|| mistake("A boundary of the form does not end its line."))? + 2..])
            .map(Some)
    }

    /// The next bytes of a part; `None` at its end.
    async fn data(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(end) = memmem::find(&self.buffer, &self.delimiter) {
                if end > 0 {
                    return Ok(Some(self.buffer.split_to(end).freeze()));
                }
                self.buffer.advance(self.delimiter.len());
                return Ok(None);
            }
            // The last bytes may be the beginning of a boundary.
            let safe = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
            if safe > 0 {
                return Ok(Some(self.buffer.split_to(safe).freeze()));
            }
            self.more().await?;
        }
    }

    /// Reads a part that is of no use.
    async fn skip(&mut self) -> io::Result<()> {
        while let Some(data) = self.data().await? {
            self.leave_out(data.len())?;
        }
        Ok(())
    }

    fn leave_out(&mut self, bytes: usize) -> io::Result<()> {
        self.beside += bytes;
        if self.beside > BESIDE_BYTES {
            return Err(mistake("The form has more than a mebibyte beside the file."));
        }
        Ok(())
    }

    /// Reads what follows the file.
    async fn end(&mut self) -> io::Result<()> {
        while let Some(headers) = self.head().await? {
            if file_name(&headers)?.is_some() {
                return Err(mistake("The form has more than one file; send each in a request of its own."));
            }
            self.skip().await?;
        }
        while let Some(chunk) = self.body.next().await {
            self.leave_out(chunk?.len())?;
        }
        Ok(())
    }
}

fn read_headers(head: &[u8]) -> io::Result<HeaderMap> {
    let wrong = || mistake("The headers of a part of the form cannot be read.");
    let mut found = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let httparse::Status::Complete((_, found)) = httparse::parse_headers(head, &mut found).map_err(|_| wrong())? else {
        return Err(wrong());
    };
    let mut headers = HeaderMap::new();
    for header in found {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| wrong())?;
        headers.append(name, HeaderValue::from_bytes(header.value).map_err(|_| wrong())?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    /// The file's name and content, however the body is cut into pieces; else what is wrong with it.
    fn read(body: &str, piece: usize) -> Result<(String, String), String> {
        let pieces: Vec<_> = body.as_bytes().chunks(piece).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(async {
            let file = FormFile::find(stream::iter(pieces), "XX").await?;
            let name = file.name.clone();
            let content: Vec<Bytes> = file.content().try_collect().await?;
            Ok((name, String::from_utf8(content.concat()).unwrap()))
        });
        found.map_err(|error: io::Error| Mistake::of(&error).unwrap().to_string())
    }

    const FILE: &str = "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\n";
    const FIELD: &str = "--XX\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nvalue\r\n";

    #[test]
    fn the_file_is_found_and_its_content_ends_where_it_should() {
        for (body, content) in [
            (format!("{FILE}hello\r\n--XX--"), "hello"),
            (format!("preamble\r\n{FIELD}{FILE}hello\r\n{FIELD}--XX--\r\nepilogue"), "hello"),
            (format!("{FILE}\r\n--XX--\r\n"), ""),
            (format!("{FILE}a\r\n--X\r\n-\r\n--XY\r\n--XX--"), "a\r\n--X\r\n-\r\n--XY"),
            (format!("--XX  \r\n\r\nno headers\r\n{FILE}\r\n\r\n\r\n--XX--"), "\r\n\r\n"),
        ] {
            for piece in 1..body.len() {
                assert_eq!(read(&body, piece), Ok(("a".to_owned(), content.to_owned())), "{body} in {piece}s");
            }
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let huge = format!("--XX\r\nx: {}", "y".repeat(HEAD_BYTES));
        let long = format!("--XX\r\n\r\n{}\r\n{FILE}\r\n--XX--", "y".repeat(BESIDE_BYTES));
        for (body, words) in [
            (String::new(), "ends before"),
            ("garbage".to_owned(), "ends before"),
            (format!("{FILE}cut off"), "ends before"),
            (format!("{FILE}cut off\r\n--XX"), "ends before"),
            (format!("{FIELD}--XX--"), "no file"),
            (format!("{FILE}a\r\n{FILE}b\r\n--XX--"), "more than one file"),
            (FIELD.repeat(MOST_PARTS + 1), "more than 32 parts"),
            ("--XXY\r\n\r\n\r\n--XX--".to_owned(), "does not end its line"),
            ("--XX\r\nno header\r\n\r\n\r\n--XX--".to_owned(), "cannot be read"),
            (huge, "bytes of headers"),
            (long, "beside the file"),
        ] {
            let error = read(&body, 1000).unwrap_err();
            assert!(error.contains(words), "{error} of {}", &body[..body.len().min(200)]);
        }
    }

    #[test]
    fn a_boundary_is_read() {
        for (given, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data; charset=utf-8; Boundary=\"a b\"", Some("a b")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"é\"", None),
        ] {
            assert_eq!(boundary(given).ok().as_deref(), expected, "{given}");
        }
        assert!(boundary(&format!("multipart/form-data; boundary={}", "x".repeat(71))).is_err());
    }
}
