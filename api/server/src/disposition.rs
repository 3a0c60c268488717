//! Names of files in headers (RFC 6266, RFC 8187).

use std::fmt::Write;

/// `Content-Disposition` that saves a file under `name`: once in ASCII for old programs, once in full.
pub(crate) fn attachment(name: &str) -> String {
    disposition("attachment", name)
}

/// `Content-Disposition` that shows a file where that is possible, and else saves it under `name`.
pub(crate) fn inline(name: &str) -> String {
    disposition("inline", name)
}

fn disposition(word: &str, name: &str) -> String {
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    format!("{word}; filename=\"{plain}\"; filename*=UTF-8''{}", encoded(name, b"!#$&+-.^_`|~"))
}

/// A name as the last part of an address.
pub(crate) fn segment(name: &str) -> String {
    encoded(name, b"-._~")
}

/// Text with `%XX` for everything but ASCII letters, digits and `kept`.
fn encoded(text: &str, kept: &[u8]) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Whether a character may stand in a quoted text; '%' may, but some programs would decode it.
fn is_plain(c: char) -> bool {
    (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '%')
}

/// The name in a `Content-Disposition`; the full one wins.
pub(crate) fn name(header: &str) -> Option<String> {
    let parameters = parameters(header);
    let find = |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    find("filename*").and_then(decode).or_else(|| find("filename").map(str::to_owned))
}

/// A parameter of a header such as `Content-Type`, by its name in lower case.
pub(crate) fn parameter(header: &str, name: &str) -> Option<String> {
    parameters(header).into_iter().find(|(given, _)| given == name).map(|(_, value)| value)
}

/// Names in lower case and values, without quotes, of what follows the first ';'.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = value(after.trim_start());
        found.push((name.trim().to_ascii_lowercase(), value));
        rest = after.split_once(';').map_or("", |(_, rest)| rest);
    }
    found
}

/// A quoted or bare value, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

/// `UTF-8''…`; `None` for another character set or broken text.
fn decode(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, text) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.extend(hex::decode(digits).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_from_the_header() {
        for given in ["plain.mp4", "Été à \"Paris\".mp4", "日本 100%; a=b.wav", r"back\slash"] {
            let header = attachment(given);
            assert!(header.is_ascii() && !header.contains('\n'), "{header}");
            assert_eq!(name(&header).as_deref(), Some(given), "{header}");
        }
        assert_eq!(attachment("é\".a"), "attachment; filename=\"__.a\"; filename*=UTF-8''%C3%A9%22.a");
    }

    #[test]
    fn other_forms_are_read_too() {
        for (header, expected) in [
            ("attachment; filename=a.mp4", Some("a.mp4")),
            (r#"form-data; name="x"; filename="a;\"b\".mp4""#, Some("a;\"b\".mp4")),
            ("inline; FILENAME*=utf-8'en'a%20b", Some("a b")),
            ("inline; filename*=latin1''%E9; filename=e", Some("e")),
            ("inline; filename*=UTF-8''%4", None),
            ("inline; filename=\"open", Some("open")),
            ("inline", None),
        ] {
            assert_eq!(name(header).as_deref(), expected, "{header}");
        }
    }
}
