//! Why a recording could not be fetched: the codes, in one place.
//!
//! | code | what is wrong | again? |
//! |---|---|---|
//! | `unsupported_url` | there is no recording at the address | no |
//! | `empty_file` | the address gives 0 bytes | no |
//! | `address_forbidden` | the address, or one that it leads to, is on the inside | no |
//! | `source_gone` | 404, 410, removed | no |
//! | `login_required` | 401, private | no |
//! | `members_only` | for paying members | no |
//! | `forbidden_by_source` | 403 | no |
//! | `geo_blocked` | 451, not in this country | no |
//! | `drm` | encrypted on purpose | no |
//! | `is_live` | on the air: that is work for `audio.live` | no |
//! | `live_not_started` | announced for later | then |
//! | `live_processing` | over, but not yet to be had | yes |
//! | `rate_limited_by_source` | 429 | yes, when the source says |
//! | `source_unreachable` | 5xx, no such name, refused, cut off | yes |
//! | `source_timeout` | silent for too long | yes |
//! | `extractor_broken` | yt-dlp does not understand the site any more | no |
//! | `size_exceeded`, `duration_exceeded` | larger, longer than allowed | no |

use std::time::Duration;

use fourmi_egress::{EgressError, FetchError, Proxy};
use fourmi_model::{ErrorClass, Failure};

/// The longest `Retry-After` that is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

pub(super) fn unsupported(why: &str) -> Failure {
    Failure::permanent("unsupported_url", format!("there is no recording at the address: {why}"))
        .class(ErrorClass::Unsupported)
}

pub(super) fn empty() -> Failure {
    Failure::permanent("empty_file", "the address gives an empty file (0 bytes)").class(ErrorClass::CorruptInput)
}

pub(super) fn unreachable(why: impl std::fmt::Display) -> Failure {
    Failure::retry("source_unreachable", format!("the source could not be reached: {why}"))
}

pub(super) fn timed_out(stall: Duration) -> Failure {
    let message = format!("the source was silent for {} s", stall.as_secs_f64());
    Failure::retry("source_timeout", message).class(ErrorClass::Timeout)
}

pub(super) fn size_exceeded(max_bytes: u64) -> Failure {
    Failure::permanent(
        "size_exceeded",
        format!("the recording is larger than {max_bytes} bytes, the most that may be fetched"),
    )
}

pub(super) fn duration_exceeded(max_ms: u64) -> Failure {
    let message = format!("the recording is longer than {} s, the most that may be taken", max_ms as f64 / 1_000.0);
    Failure::permanent("duration_exceeded", message)
}

/// What a status that is no success means; `retry_after` as the source wrote it.
pub(super) fn status(status: u16, retry_after: Option<&str>) -> Failure {
    let wait = retry_after.and_then(parse_retry_after).map(|wait| wait.min(LONGEST_WAIT));
    let permanent =
        |code: &str, class, message: &str| Failure::permanent(code, format!("{message} (HTTP {status})")).class(class);
    match status {
        401 | 407 => permanent("login_required", ErrorClass::Forbidden, "the source wants a login"),
        403 => permanent("forbidden_by_source", ErrorClass::Forbidden, "the source refuses to give it"),
        404 | 410 => permanent("source_gone", ErrorClass::NotFound, "it is not there, or not any more"),
        451 => permanent("geo_blocked", ErrorClass::Forbidden, "the source may not give it to this country"),
        429 => {
            let message = "the source asks to slow down (HTTP 429)";
            match wait {
                Some(wait) => Failure::retry_after(wait, "rate_limited_by_source", message),
                None => Failure::retry("rate_limited_by_source", message).class(ErrorClass::RateLimited),
            }
        }
        408 | 425 | 500.. => {
            let message = format!("the source has a fault of its own (HTTP {status})");
            match wait {
                Some(wait) => Failure::retry_after(wait, "source_unreachable", message).class(ErrorClass::Unavailable),
                None => Failure::retry("source_unreachable", message),
            }
        }
        _ => unsupported(&format!("the source answers with HTTP {status}")),
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn parse_retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Duration::try_from(at.duration_since(jiff::Timestamp::now())).ok().or(Some(Duration::ZERO))
}

/// What the guard says, of a connection that came to nothing.
pub(super) fn egress(error: &EgressError) -> Failure {
    match error {
        EgressError::Forbidden { .. } => {
            let message = format!("{error}; an operator can open single hosts with FOURMI_EGRESS_ALLOW");
            Failure::permanent("address_forbidden", message).class(ErrorClass::Forbidden)
        }
        EgressError::Unresolved { .. } | EgressError::Unreachable { .. } => unreachable(error),
    }
}

/// Whether a failure of yt-dlp's may come from a connection that the guard refused: it sees no more than an odd answer.
pub(super) fn may_be_egress(failure: &Failure) -> bool {
    let odd = ["forbidden_by_source", "source_unreachable", "source_failed", "unsupported_url"];
    let says_so = failure.cause.as_ref().is_some_and(|cause| cause.contains(Proxy::FORBIDDEN));
    says_so || odd.contains(&failure.code.as_str())
}

/// What a failed exchange means. The guard knows more than those behind its proxy.
pub(super) fn fetch(error: &FetchError, proxy: &Proxy) -> Failure {
    if let Some(refusal) = proxy.take_refusal() {
        return egress(&refusal);
    }
    match error {
        FetchError::TooManyRedirects | FetchError::NotHttp(_) => unsupported(&error.to_string()),
        FetchError::Http(error) => {
            let mut words = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                words = cause.to_string();
                source = cause.source();
            }
            unreachable(words)
        }
    }
}

/// What yt-dlp means with what it wrote to standard error: its exit code says nothing. Texts of sites change; they are
/// matched loosely, the clearer ones first.
pub(super) fn ytdlp(stderr: &str) -> Failure {
    // Several lines may tell of one failure: of a fragment, first its status and then that it is missing.
    let errors: Vec<_> = stderr.lines().filter(|line| line.contains("ERROR")).collect();
    let text = if errors.is_empty() { stderr.to_lowercase() } else { errors.join("\n").to_lowercase() };
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let permanent = |code: &str, class, message: &str| Failure::permanent(code, message).class(class);
    let failure = if let Some(code) = http_status(&text) {
        status(code, None)
    } else if says(&["fragment"]) {
        unreachable("a piece of it is missing")
    } else if says(&["drm"]) {
        permanent("drm", ErrorClass::Forbidden, "the recording is encrypted on purpose")
    } else if says(&["members-only", "join this channel", "members only", "premium", "paying", "subscriber"]) {
        permanent("members_only", ErrorClass::Forbidden, "the recording is for members of the source")
    } else if says(&["country", "geo", "your location", "region"]) {
        permanent("geo_blocked", ErrorClass::Forbidden, "the source does not give it to this country")
    } else if says(&[
        "sign in",
        "log in",
        "login",
        "logged",
        "private video",
        "cookies",
        "authenticat",
        "account",
        "password",
    ]) {
        permanent("login_required", ErrorClass::Forbidden, "the source wants a login")
    } else if says(&["will begin", "premieres in", "not yet started", "is upcoming", "has not started"]) {
        Failure::retry("live_not_started", "the recording is announced for later")
    } else if says(&[
        "unavailable",
        "been removed",
        "no longer available",
        "does not exist",
        "not found",
        "was deleted",
        "terminated",
    ]) {
        permanent("source_gone", ErrorClass::NotFound, "it is not there, or not any more")
    } else if says(&[
        "unsupported url",
        "no video formats",
        "no media found",
        "is not a valid url",
        "no formats",
        "file:// urls are disabled",
        "no video could be found",
        "requested format is not available",
    ]) {
        unsupported("neither the page itself nor what is known of its site shows one")
    } else if says(&["file is larger than max-filesize", "file too large", "errno 27"]) {
        Failure::permanent("size_exceeded", "the recording is larger than what may be fetched")
    } else if says(&["no space left", "errno 28", "disk quota"]) {
        Failure::retry("disk_full", "there is no room left on the worker's disk")
    } else if says(&["timed out", "timeout"]) {
        Failure::retry("source_timeout", "the source was silent for too long").class(ErrorClass::Timeout)
    } else if says(&[
        "unable to extract",
        "report this issue",
        "extractor error",
        "please update",
        "an extractor error",
    ]) {
        permanent(
            "extractor_broken",
            ErrorClass::Unsupported,
            "yt-dlp does not understand this site any more; an operator can install a newer one",
        )
    } else if says(&["unable to download", "connection", "errno", "fragment", "incomplete", "ssl", "tls", "tunnel"]) {
        unreachable("see the cause")
    } else {
        Failure::retry("source_failed", "yt-dlp could not fetch the recording")
    };
    failure.because(last_lines(stderr))
}

fn http_status(text: &str) -> Option<u16> {
    let at = text.find("http error ")? + "http error ".len();
    text[at..].split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The last twenty lines, without what addresses may hold of secrets.
fn last_lines(stderr: &str) -> String {
    let lines: Vec<_> = stderr.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use fourmi_model::NextStep;

    use super::*;

    #[test]
    fn words_of_ytdlp_become_codes() {
        for (line, code) in [
            (
                "ERROR: [generic] x: Unable to download webpage: HTTP Error 404: Not Found (caused by <HTTPError 404>)",
                "source_gone",
            ),
            ("ERROR: unable to download video data: HTTP Error 403: Forbidden", "forbidden_by_source"),
            ("ERROR: [generic] Unable to download webpage: HTTP Error 401: Unauthorized", "login_required"),
            ("ERROR: [generic] x: HTTP Error 451: Unavailable For Legal Reasons", "geo_blocked"),
            ("ERROR: HTTP Error 429: Too Many Requests", "rate_limited_by_source"),
            ("ERROR: HTTP Error 503: Service Unavailable", "source_unreachable"),
            ("ERROR: Unsupported URL: https://example.org/", "unsupported_url"),
            ("ERROR: [youtube] abc: Video unavailable", "source_gone"),
            (
                "ERROR: [youtube] abc: Private video. Sign in if you've been granted access to this video",
                "login_required",
            ),
            ("ERROR: [youtube] abc: Join this channel to get access to members-only content", "members_only"),
            ("ERROR: [site] abc: This video is not available in your country", "geo_blocked"),
            ("ERROR: [site] abc: This video is DRM protected", "drm"),
            ("ERROR: [youtube] abc: This live event will begin in 2 hours.", "live_not_started"),
            ("ERROR: [site] Unable to extract title; please report this issue on https://…", "extractor_broken"),
            ("ERROR: [generic] Unable to download webpage: The read operation timed out", "source_timeout"),
            ("ERROR: unable to write data: [Errno 28] No space left on device", "disk_full"),
            ("ERROR: [generic] Unable to download webpage: [Errno 111] Connection refused", "source_unreachable"),
            ("ERROR: fragment 1 not found, unable to continue", "source_unreachable"),
            ("ERROR: something nobody has seen", "source_failed"),
        ] {
            assert_eq!(ytdlp(line).code, code, "{line}");
        }
    }

    #[test]
    fn what_the_source_asks_for_is_kept() {
        let failure = status(429, Some("17"));
        assert_eq!(failure.next, NextStep::Retry { after_ms: Some(17_000) });
        assert_eq!(status(503, Some("2")).next, NextStep::Retry { after_ms: Some(2_000) });
        assert_eq!(status(503, None).next, NextStep::Retry { after_ms: None });
        assert_eq!(status(429, Some("999999999")).next, NextStep::Retry { after_ms: Some(86_400_000) });
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(100);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&soon).unwrap();
        let Failure { next: NextStep::Retry { after_ms: Some(ms) }, .. } = status(429, Some(&date)) else { panic!() };
        assert!((90_000..=100_000).contains(&ms), "{ms}");
    }
}
