//! What can go wrong between a caller and the API.

use std::{io, path::Path, path::PathBuf, time::Duration};

use fourmi_model::Job;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

/// Why a call did not give what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The API refused, and says why.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The API does not answer. Whether it had received the request is unknown.
    #[error("no answer from {url}: {reason}")]
    Unreachable {
        /// The API's address.
        url: String,
        /// What happened to the connection.
        reason: String,
    },
    /// Something answered, but not as the API does: another program, a proxy, another version.
    #[error("{0}")]
    Protocol(String),
    /// The job ended without a result; the document says how.
    #[error("job {} is {}{}", .0.id, .0.state, .0.error.as_ref().map(|error| format!(": {}", error.message)).unwrap_or_default())]
    NotSucceeded(Box<Job>),
    /// A local file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The bytes that arrived are not those that were sent.
    #[error("{what} was damaged on its way: its SHA-256 is {found}, not {expected}")]
    Damaged {
        /// Which file.
        what: String,
        /// The checksum that it should have.
        expected: String,
        /// The checksum that it has.
        found: String,
    },
    /// The address or the key cannot be used at all.
    #[error("{0}")]
    Unusable(String),
}

impl ClientError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// The same error once more, for another job that it stopped.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Problem(problem) => Self::Problem(problem.clone()),
            Self::Unreachable { url, reason } => Self::Unreachable { url: url.clone(), reason: reason.clone() },
            other => Self::Protocol(other.to_string()),
        }
    }

    /// The problem, if the API described one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the same call may succeed a little later: no answer, or one that says "not now".
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Problem(problem) => matches!(problem.status, 408 | 423 | 429 | 502..=504),
            _ => false,
        }
    }
}

/// An error as the API describes it (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{}{}", self.sentences(), self.fields())]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A stable word that programs may rely on (`unknown_job`).
    pub code: String,
    /// The sort of problem, for a person.
    #[serde(default)]
    pub title: String,
    /// This problem, for a person.
    #[serde(default)]
    pub detail: String,
    /// Mistakes in the fields of a request.
    #[serde(default)]
    pub errors: Vec<FieldError>,
    /// When to try again.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

/// A mistake in one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FieldError {
    /// The field, such as `payload.source.upload`.
    #[serde(default)]
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    /// Reads the body of an answer whose status is an error.
    pub(crate) fn read(url: &str, status: u16, headers: &HeaderMap, body: &[u8]) -> ClientError {
        let Ok(mut problem) = serde_json::from_slice::<Self>(body) else {
            let text = String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned();
            return ClientError::Protocol(format!("{url} answered {status} as the API would not: {text:?}"));
        };
        problem.status = status;
        problem.retry_after =
            headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        ClientError::Problem(Box::new(problem))
    }

    /// The sort of problem, then this one: the detail alone assumes that the title was read.
    fn sentences(&self) -> String {
        let (title, detail) = (self.title.trim_end_matches('.'), self.detail.as_str());
        match (title, detail) {
            ("", "") => format!("the API answered {} ({})", self.status, self.code),
            ("", text) | (text, "") => text.to_owned(),
            _ => format!("{title}. {detail}"),
        }
    }

    /// The mistakes in fields that the detail does not name already.
    fn fields(&self) -> String {
        let unsaid = self.errors.iter().filter(|error| !self.detail.contains(&error.message));
        unsaid.map(|error| format!("\n  {}: {}", error.path, error.message)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_its_detail_and_its_fields() {
        let body = br#"{"type":"about:blank","title":"Invalid payload","status":422,"code":"invalid_payload",
            "detail":"the payload is not valid","errors":[{"path":"payload.trim","message":"must be forward"}]}"#;
        let error = Problem::read("http://x", 422, &HeaderMap::new(), body);
        assert_eq!(error.to_string(), "Invalid payload. the payload is not valid\n  payload.trim: must be forward");
        assert!(!error.is_temporary());
    }

    #[test]
    fn an_answer_of_something_else_is_named_as_such() {
        let error = Problem::read("http://x", 502, &HeaderMap::new(), b"<html>Bad gateway</html>");
        assert!(matches!(&error, ClientError::Protocol(text) if text.contains("502") && text.contains("Bad gateway")));
    }

    #[test]
    fn the_api_says_when_to_try_again() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, reqwest::header::HeaderValue::from_static("7"));
        let error = Problem::read("http://x", 503, &headers, br#"{"status":503,"code":"redis_unavailable"}"#);
        assert!(error.is_temporary());
        assert_eq!(error.problem().unwrap().retry_after, Some(Duration::from_secs(7)));
    }
}
