//! How the program ends, and what it says when it ends badly.

use std::{io, process::ExitCode};

use fourmi_client::ClientError;
use fourmi_model::State;
use fourmi_settings::SettingError;
use serde_json::json;

use crate::session::Session;

/// The outcome, as `fourmi --help` documents it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Cancelled = 3,
    Api = 4,
    AlreadyUp = 5,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// What the end of a job means.
    pub(crate) fn of(state: State) -> Self {
        match state {
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            _ => Self::Done,
        }
    }
}

/// An end that this program decides itself.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Stop {
    exit: Exit,
    code: &'static str,
    message: String,
}

impl Stop {
    /// Wrong arguments, or a local file that is in the way.
    pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::Usage, code: "usage", message: message.into() }.into()
    }

    /// The API knows nothing of what was named.
    pub(crate) fn unknown(code: &'static str, message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::Api, code, message: message.into() }.into()
    }

    /// Something that was to be started did not start.
    pub(crate) fn failed(code: &'static str, message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::Failed, code, message: message.into() }.into()
    }

    /// Another platform runs.
    pub(crate) fn already_up(message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::AlreadyUp, code: "already_up", message: message.into() }.into()
    }

    /// Ctrl-C.
    pub(crate) fn interrupted(message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::Interrupted, code: "interrupted", message: message.into() }.into()
    }
}

/// Says what went wrong, and gives the exit code for it.
pub(crate) fn report(session: &Session, error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        // Whoever read us has seen enough: `fourmi jobs | head`.
        return Exit::Done;
    }
    let (exit, code) = classify(error);
    let message = explain(error);
    let text = match (session.json(), error.downcast_ref::<ClientError>().and_then(ClientError::problem)) {
        (false, _) => format!("fourmi: {message}"),
        (true, Some(problem)) => {
            json!({"error": {"code": code, "status": problem.status, "message": message}}).to_string()
        }
        (true, None) => json!({"error": {"code": code, "message": message}}).to_string(),
    };
    crate::print::to_stderr(&text);
    exit
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn classify(error: &anyhow::Error) -> (Exit, String) {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return (stop.exit, stop.code.to_owned());
    }
    if error.is::<SettingError>() {
        return (Exit::Usage, "wrong_setting".to_owned());
    }
    let (exit, code) = match error.downcast_ref::<ClientError>() {
        Some(ClientError::Problem(problem)) => return (Exit::Api, problem.code.clone()),
        Some(ClientError::Unreachable { .. }) => (Exit::Api, "unreachable"),
        Some(ClientError::Protocol(_)) => (Exit::Api, "not_the_api"),
        Some(ClientError::Damaged { .. }) => (Exit::Api, "damaged"),
        Some(ClientError::NotSucceeded(job)) => (Exit::of(job.state), "not_succeeded"),
        Some(ClientError::File { .. }) => (Exit::Usage, "file"),
        Some(ClientError::Unusable(_)) => (Exit::Usage, "usage"),
        _ => (Exit::Failed, "failed"),
    };
    (exit, code.to_owned())
}

/// The error and, where there is something, what to do.
fn explain(error: &anyhow::Error) -> String {
    let advice = match error.downcast_ref::<ClientError>() {
        Some(ClientError::Unreachable { .. }) => {
            "Is the platform running? Start it with `fourmi up`, or name its address with --url or FOURMI_URL."
        }
        Some(ClientError::Protocol(_)) => "Is this the address of a Fourmi API? --url or FOURMI_URL names it.",
        Some(ClientError::Damaged { .. }) => "Try again.",
        Some(ClientError::Problem(problem)) => match (problem.code.as_str(), problem.status) {
            ("unauthorized", _) => {
                "Give the key of this platform with FOURMI_API_KEY, or its file with --key-file or FOURMI_API_KEY_FILE."
            }
            ("unknown_kind", _) => "`fourmi kinds` lists the kinds.",
            ("unknown_job", _) => "`fourmi jobs` lists the jobs; finished ones are kept for a while only.",
            ("unknown_user", _) => "`fourmi users list` lists the people.",
            ("unknown_tenant", _) => "`fourmi tenants list` lists the tenants, and `fourmi tenants create` makes one.",
            ("not_retryable", _) => "Jobs that failed, were cancelled or wait for their time can be run again.",
            ("disk_full", _) => "`fourmi maintenance run retention --only files --days 30`, say, makes room.",
            (_, 429 | 502..=504) => "Try again in a moment.",
            _ => "",
        },
        _ => "",
    };
    // The client's errors say their cause themselves.
    let text = if error.is::<ClientError>() { error.to_string() } else { format!("{error:#}") };
    let text = text.trim_end_matches('.');
    if advice.is_empty() { text.to_owned() } else { format!("{text}.\n{advice}") }
}
