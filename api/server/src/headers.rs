//! Headers that several routes read.

use std::time::Duration;

use salvo::http::{
    HeaderMap, HeaderName,
    header::{HeaderValue, IF_MATCH, IF_NONE_MATCH},
};

use crate::problem::{Code, Problem};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest that a call waits for a job.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The text of a header that is present once.
///
/// # Errors
/// If it is present twice or is not ASCII.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => Err(Problem::new(Code::InvalidHeader, format!("{name} must be there once, in ASCII."))),
    }
}

/// How long a caller would wait for a job to end (RFC 7240: `Prefer: wait=10`), a minute at most.
///
/// A preference that cannot be read is none, as the RFC says.
pub(crate) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = preferences.flat_map(|value| value.split([',', ';'])).filter_map(|part| part.split_once('='));
    let (_, seconds) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))?;
    let seconds = seconds.trim().trim_matches('"').parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// The key under which a job is accepted only once.
///
/// # Errors
/// If it is empty, longer than 255 characters or not printable ASCII.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = text(headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
    if is_idempotency_key(key) {
        return Ok(Some(key.to_owned()));
    }
    Err(Problem::new(Code::InvalidHeader, format!("Idempotency-Key must be {KEY_FORM}.")))
}

/// What an idempotency key looks like.
pub(crate) const KEY_FORM: &str = "1 to 255 printable ASCII characters";

/// Whether this can be an idempotency key.
pub(crate) fn is_idempotency_key(key: &str) -> bool {
    (1..=255).contains(&key.len()) && key.bytes().all(|c| c.is_ascii_graphic() || c == b' ')
}

/// Whether the caller has this version already (RFC 9110, 13.1.2: weak comparison).
pub(crate) fn has_already(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

/// Whether the caller asks for another version than this, or for one where there is none to name (RFC 9110, 13.1.1:
/// strong comparison).
pub(crate) fn wants_another(headers: &HeaderMap, etag: Option<&str>) -> bool {
    let wanted = headers.get_all(IF_MATCH).iter().map(|value| value.to_str().unwrap_or_default());
    let mut wanted = wanted.flat_map(|value| value.split(',')).map(str::trim).peekable();
    wanted.peek().is_some() && !wanted.any(|tag| tag == "*" || Some(tag) == etag)
}

/// Whether somebody who sent these `Accept` headers takes `media_type` (RFC 9110, 12.5.1). Without any, everything.
pub(crate) fn accepts<'a>(accepted: impl Iterator<Item = &'a str>, media_type: &str) -> bool {
    let group = media_type.split('/').next().unwrap_or_default();
    // The most specific range that matches decides.
    let mut best: Option<(u8, bool)> = None;
    let mut asked = false;
    for range in accepted.flat_map(|value| value.split(',')).filter(|range| !range.trim().is_empty()) {
        asked = true;
        let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
        let name = name.trim().to_ascii_lowercase();
        let rank = match name.as_str() {
            name if name == media_type => 3,
            name if name.strip_suffix("/*") == Some(group) => 2,
            "*/*" => 1,
            _ => continue,
        };
        if best.is_none_or(|(other, _)| rank > other) {
            best = Some((rank, !is_refused(parameters)));
        }
    }
    best.map_or(!asked, |(_, wanted)| wanted)
}

fn is_refused(parameters: &str) -> bool {
    let quality = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
    quality.and_then(|quality| quality.parse::<f32>().ok()) == Some(0.0)
}

/// A header value of text that is known to be fit for one.
///
/// # Errors
/// If it is not after all.
pub(crate) fn value(text: impl AsRef<str>) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(text.as_ref()).map_err(Problem::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_preference_is_read_or_ignored() {
        for (value, seconds) in [
            ("wait=5", Some(5)),
            ("respond-async, Wait = \"7\"", Some(7)),
            ("return=minimal; foo, wait=0", Some(0)),
            ("wait=86400", Some(60)),
            ("wait=-1", None),
            ("wait", None),
            ("waiting=5", None),
        ] {
            assert_eq!(wait(&one(PREFER, value)), seconds.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn an_idempotency_key_is_printable() {
        assert_eq!(idempotency_key(&one(IDEMPOTENCY_KEY, "order 7")).unwrap().as_deref(), Some("order 7"));
        for value in ["", "clé", &"x".repeat(256)] {
            assert!(idempotency_key(&one(IDEMPOTENCY_KEY, value)).is_err(), "{value}");
        }
    }

    #[test]
    fn versions_are_compared_weakly() {
        for (value, known) in
            [("\"7\"", true), ("W/\"7\"", true), ("\"1\", \"7\"", true), ("*", true), ("\"70\"", false), ("7", false)]
        {
            assert_eq!(has_already(&one(IF_NONE_MATCH, value), "\"7\""), known, "{value}");
        }
    }

    #[test]
    fn a_version_that_is_asked_for_is_compared_strongly() {
        for (value, another) in
            [("\"7\"", false), ("W/\"7\"", true), ("\"1\", \"7\"", false), ("*", false), ("\"70\"", true), ("", true)]
        {
            assert_eq!(wants_another(&one(IF_MATCH, value), Some("\"7\"")), another, "{value}");
        }
        assert!(!wants_another(&HeaderMap::new(), Some("\"7\"")));
        assert!(wants_another(&one(IF_MATCH, "\"7\""), None));
    }

    #[test]
    fn the_most_specific_range_decides() {
        for (value, accepted) in [
            ("", true),
            ("*/*", true),
            ("text/html, application/json;q=0.9", true),
            ("Application/*", true),
            ("text/html", false),
            ("application/json;q=0, */*", false),
            ("*/*;q=0.0", false),
        ] {
            assert_eq!(accepts([value].into_iter(), "application/json"), accepted, "{value}");
        }
    }
}
