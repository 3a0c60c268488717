//! Errors as callers see them: RFC 9457 problems, each with a stable code.

use std::time::Duration;

use fourmi_blobs::{BlobError, UploadError};
use fourmi_queue::{QueueError, Refusal};
use fourmi_records::RecordsError;
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, Writer, async_trait,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{form::Mistake, people::Busy, tus};

macro_rules! codes {
    ($($id:ident = $status:ident $word:literal, $title:literal;)+) => {
        /// What went wrong, as a stable word with the HTTP status that goes with it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $id),+
        }

        impl Code {
            /// The stable word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$id => $word),+ }
            }

            /// The HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$id => StatusCode::$status),+ }
            }

            /// The sort of problem, for a person.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$id => $title),+ }
            }
        }
    };
}

codes! {
    InvalidHeader = BAD_REQUEST "invalid_header", "A header of the request cannot be read";
    InvalidQuery = BAD_REQUEST "invalid_query", "The query of the address cannot be read";
    InvalidCursor = BAD_REQUEST "invalid_cursor", "The cursor is none that a list gave";
    InvalidJson = BAD_REQUEST "invalid_json", "The body is not JSON";
    InvalidForm = BAD_REQUEST "invalid_form", "The form cannot be read";
    UploadIncomplete = BAD_REQUEST "upload_incomplete", "The file did not arrive whole";
    UnknownHost = BAD_REQUEST "unknown_host", "The API is not known by this name";
    BadRequest = BAD_REQUEST "bad_request", "The request cannot be understood";
    Unauthorized = UNAUTHORIZED "unauthorized", "The key or token is missing or wrong";
    TokenExpired = UNAUTHORIZED "token_expired", "The access token is over";
    SessionOver = UNAUTHORIZED "session_over", "The session is over";
    CredentialsInvalid = UNAUTHORIZED "credentials_invalid", "The name or the password is wrong";
    SecondFactorRequired = UNAUTHORIZED "second_factor_required", "The second factor is missing";
    SecondFactorInvalid = UNAUTHORIZED "second_factor_invalid", "The second factor is wrong";
    ScopeMissing = FORBIDDEN "scope_missing", "The caller may not do this";
    PeopleOnly = FORBIDDEN "people_only", "This is for people who are logged in";
    CsrfFailed = FORBIDDEN "csrf_failed", "The page has not shown that it asks for this itself";
    ForeignTenant = FORBIDDEN "foreign_tenant", "The caller is bound to another tenant";
    TenantSuspended = FORBIDDEN "tenant_suspended", "The tenant was switched off";
    AccountDeactivated = FORBIDDEN "account_deactivated", "The account was switched off";
    EmailUnconfirmed = FORBIDDEN "email_unconfirmed", "The e-mail address was not confirmed";
    RegistrationClosed = FORBIDDEN "registration_closed", "People cannot make accounts for themselves";
    RoleTooHigh = FORBIDDEN "role_too_high", "The role may do what the caller may not";
    KindInternal = FORBIDDEN "kind_internal", "Only the platform itself submits jobs of this kind";
    KindStaffOnly = FORBIDDEN "kind_staff_only", "Whoever sees only what is their own submits no jobs of this kind";
    KindOperatorsOnly = FORBIDDEN "kind_operators_only", "Only operators of the platform submit jobs of this kind";
    LinkInvalid = FORBIDDEN "link_invalid", "The link is not one that was given out";
    LinkExpired = FORBIDDEN "link_expired", "The time of the link is over";
    NotFound = NOT_FOUND "not_found", "There is nothing at this address";
    UnknownJob = NOT_FOUND "unknown_job", "There is no such job";
    UnknownBatch = NOT_FOUND "unknown_batch", "The job is no batch and in none";
    UnknownFile = NOT_FOUND "unknown_file", "There is no such file";
    UnknownUpload = NOT_FOUND "unknown_upload", "There is no such upload";
    UnknownQueue = NOT_FOUND "unknown_queue", "There is no such queue";
    UnknownWorker = NOT_FOUND "unknown_worker", "There is no such worker process";
    UnknownKey = NOT_FOUND "unknown_key", "There is no such API key";
    UnknownUser = NOT_FOUND "unknown_user", "There is no such person";
    UnknownSession = NOT_FOUND "unknown_session", "There is no such session";
    UnknownWebhook = NOT_FOUND "unknown_webhook", "There is no such webhook";
    UnknownDevice = NOT_FOUND "unknown_device", "There is no such device";
    UnknownSchedule = NOT_FOUND "unknown_schedule", "There is no such schedule";
    UnknownSuppression = NOT_FOUND "unknown_suppression", "The address is not among those that get nothing";
    TenantNotFound = NOT_FOUND "unknown_tenant", "There is no such tenant";
    KindNotFound = NOT_FOUND "unknown_kind", "There is no such kind of job";
    MethodNotAllowed = METHOD_NOT_ALLOWED "method_not_allowed", "This address does not know this method";
    NotAcceptable = NOT_ACCEPTABLE "not_acceptable", "The answer does not come in a form that the caller accepts";
    RequestTimeout = REQUEST_TIMEOUT "request_timeout", "The body came too slowly";
    IdempotencyConflict = CONFLICT "idempotency_conflict", "The idempotency key was used for another job";
    AlreadyOver = CONFLICT "already_over", "The job is over";
    AlreadyStarted = CONFLICT "already_started", "The job has started";
    JobsRunning = CONFLICT "jobs_running", "Jobs of the queue run";
    UnknownToken = CONFLICT "unknown_token", "The token is none that is valid now";
    KeyRevoked = CONFLICT "key_revoked", "The API key was taken back";
    LastAdminKey = CONFLICT "last_admin_key", "It is the last key that can make keys";
    LastSuperAdmin = CONFLICT "last_super_admin", "It is the last super admin";
    NameTaken = CONFLICT "name_taken", "The name or the address is another's";
    KindConflict = CONFLICT "kind_conflict", "The kind is known with another schema";
    TooManyKinds = CONFLICT "too_many_kinds", "The tenant has as many kinds as it may";
    LeaseLost = CONFLICT "lease_lost", "The run is another's by now, or over";
    TenantNotEmpty = CONFLICT "tenant_not_empty", "The tenant still has people or keys";
    SecondFactorThere = CONFLICT "second_factor_there", "There is a second factor already";
    SecondFactorMissing = CONFLICT "second_factor_missing", "There is no second factor";
    WebhookDisabled = CONFLICT "webhook_disabled", "The webhook is disabled";
    TooManyWebhooks = CONFLICT "too_many_webhooks", "There are as many webhooks as there may be";
    TooManySchedules = CONFLICT "too_many_schedules", "There are as many schedules as there may be";
    ChangedMeanwhile = CONFLICT "changed_meanwhile", "Somebody else has changed it in this moment";
    UniqueConflict = CONFLICT "unique_conflict", "Another job of its like is there, which the key does not see";
    NotOver = CONFLICT "not_over", "The job is not over";
    NotUncertain = CONFLICT "not_uncertain", "Nobody has to say whether the message was sent";
    NotRetryable = CONFLICT "not_retryable", "The job cannot be retried in its state";
    OffsetConflict = CONFLICT "offset_conflict", "The piece does not begin where the upload ends";
    UploadExpired = GONE "upload_expired", "Nothing of the upload is kept any more";
    TusVersion = PRECONDITION_FAILED "tus_version", "The version of tus is not one that is known here";
    PreconditionFailed = PRECONDITION_FAILED "precondition_failed", "The file is not the version that was asked for";
    PayloadTooLarge = PAYLOAD_TOO_LARGE "payload_too_large", "The body or the payload in it is too large";
    FileTooLarge = PAYLOAD_TOO_LARGE "file_too_large", "The file is too large";
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported_media_type", "The body is not of a type that can be read here";
    RangeNotSatisfiable = RANGE_NOT_SATISFIABLE "range_not_satisfiable", "The range lies outside the file";
    InvalidRequest = UNPROCESSABLE_ENTITY "invalid_request", "The request is well formed, but something in it is wrong";
    InvalidPayload = UNPROCESSABLE_ENTITY "invalid_payload", "The kind does not accept this payload";
    InvalidSchema = UNPROCESSABLE_ENTITY "invalid_schema", "The schema is none that can be registered";
    WeakPassword = UNPROCESSABLE_ENTITY "weak_password", "The password is too easy to guess";
    TokenInvalid = UNPROCESSABLE_ENTITY "token_invalid", "The token of the link does not work";
    UnknownTenant = UNPROCESSABLE_ENTITY "unknown_tenant", "There is no such tenant";
    UnknownKind = UNPROCESSABLE_ENTITY "unknown_kind", "There is no such kind of job";
    MissingFile = UNPROCESSABLE_ENTITY "unknown_file", "The payload names a file that does not exist";
    UnknownParent = UNPROCESSABLE_ENTITY "unknown_parent", "There is no such job to wait for";
    Cycle = UNPROCESSABLE_ENTITY "cycle", "The jobs of the flow wait for each other";
    ChecksumMismatch = UNPROCESSABLE_ENTITY "checksum_mismatch", "The file is not the one that was announced";
    UploadLocked = LOCKED "upload_locked", "Another piece of the upload is arriving";
    RateLimited = TOO_MANY_REQUESTS "rate_limited", "These requests come too often";
    LoginDelayed = TOO_MANY_REQUESTS "login_delayed", "The next try must wait";
    LoginBusy = TOO_MANY_REQUESTS "login_busy", "Too many passwords are being checked";
    QueueFull = TOO_MANY_REQUESTS "queue_full", "The queue holds as many jobs as it may";
    RedisFull = TOO_MANY_REQUESTS "redis_full", "There is no memory to spare for new jobs";
    TooManyStreams = TOO_MANY_REQUESTS "too_many_streams", "The key has as many streams open as it may";
    Internal = INTERNAL_SERVER_ERROR "internal", "Something went wrong on our side";
    RedisUnavailable = SERVICE_UNAVAILABLE "redis_unavailable", "The jobs cannot be reached just now";
    RecordsUnavailable = SERVICE_UNAVAILABLE "records_unavailable", "What is recorded cannot be reached just now";
    DiskFull = INSUFFICIENT_STORAGE "disk_full", "There is no room left on the disk";
}

/// An error as callers see it, and what only the log is told.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    inside: Option<String>,
}

/// A mistake in one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldError {
    /// The field, such as `payload.source.upload`; empty for the body as a whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// An error (RFC 9457, `application/problem+json`).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Document<'a> {
    /// The sort of problem, as a URI that holds the code.
    #[serde(rename = "type")]
    #[schemars(extend("format" = "uri"))]
    kind: String,
    /// The sort of problem, for a person.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// This problem, for a person.
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    /// The sort of problem, as a stable word that programs may rely on.
    code: &'a str,
    /// The address that was asked.
    #[schemars(extend("format" = "uri-reference"))]
    instance: &'a str,
    /// Mistakes in fields of the request.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// A problem of this sort; `detail` says to the caller what it is this time.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), headers: Vec::new(), inside: None }
    }

    /// Something went wrong on our side; `inside` goes to the log and nowhere else.
    pub fn internal(inside: impl ToString) -> Self {
        let detail = "Quote the X-Request-Id of this answer when you report it.";
        Self { inside: Some(inside.to_string()), ..Self::new(Code::Internal, detail) }
    }

    /// A mistake in one field of the request.
    pub fn field(code: Code, path: impl Into<String>, message: impl Into<String>) -> Self {
        let error = FieldError { path: path.into(), message: message.into() };
        let detail = match error.path.as_str() {
            "" => error.message.clone(),
            path => format!("{path}: {}", error.message),
        };
        Self { errors: vec![error], ..Self::new(code, detail) }
    }

    /// The same problem in a part of the request: its fields are found below `path`.
    #[must_use]
    pub(crate) fn within(mut self, path: &str) -> Self {
        for error in &mut self.errors {
            error.path = if error.path.is_empty() { path.to_owned() } else { format!("{path}.{}", error.path) };
        }
        let detail = self.errors.first().map(|error| format!("{}: {}", error.path, error.message));
        self.detail = detail.unwrap_or_else(|| format!("{path}: {}", self.detail));
        self
    }

    /// The same problem with a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same problem, for whoever tries again after this time.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    fn inside(self, inside: impl ToString) -> Self {
        Self { inside: Some(inside.to_string()), ..self }
    }

    /// Nobody showed a key or token that is known.
    pub(crate) fn unauthorized() -> Self {
        Self::new(Code::Unauthorized, "Send the header `Authorization: Bearer <key>`.")
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// The token was good once.
    pub(crate) fn token_expired() -> Self {
        let error = HeaderValue::from_static("Bearer error=\"invalid_token\"");
        Self::new(Code::TokenExpired, "Renew it: POST /api/v1/auth/refresh.").header(WWW_AUTHENTICATE, error)
    }

    /// Redis does not answer.
    pub(crate) fn redis_unavailable(inside: impl ToString) -> Self {
        Self::new(Code::RedisUnavailable, "Try again in a moment; an Idempotency-Key makes that safe.")
            .retry_after(Duration::from_secs(2))
            .inside(inside)
    }

    /// There is no room on a disk.
    pub(crate) fn disk_full(detail: &str) -> Self {
        Self::new(Code::DiskFull, detail).retry_after(Duration::from_secs(10))
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// The sort of problem.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// After how many seconds to try again, if it says so.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        let (_, value) = self.headers.iter().find(|(name, _)| *name == RETRY_AFTER)?;
        value.to_str().ok()?.parse().ok()
    }

    /// The same problem, of which the log knows already.
    pub(crate) fn without_inside(&self) -> Self {
        let (detail, errors, headers) = (self.detail.clone(), self.errors.clone(), self.headers.clone());
        Self { code: self.code, detail, errors, headers, inside: None }
    }

    /// Tells the log what callers are not told.
    pub(crate) fn log(&self) {
        if let Some(inside) = &self.inside {
            tracing::error!(error.code = self.code.as_str(), error.message = inside, "request failed");
        }
    }

    /// The problem as it is written in the answer to a request for `instance`.
    pub(crate) fn document<'a>(&'a self, instance: &'a str) -> Document<'a> {
        Document {
            kind: format!("urn:fourmi:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.status().as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            instance,
            errors: &self.errors,
        }
    }

    /// Puts the problem into a response to a request for `instance`.
    pub(crate) fn render(self, instance: &str, response: &mut Response) {
        self.log();
        let body = serde_json::to_vec(&self.document(instance)).unwrap_or_default();
        response.status_code(self.status());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response.replace_body(salvo::http::ResBody::Once(body.into()));
    }
}

#[async_trait]
impl Writer for Problem {
    async fn write(self, request: &mut Request, _depot: &mut Depot, response: &mut Response) {
        self.render(request.uri().path(), response);
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Unavailable(_) | QueueError::Unsuitable(_) => Self::redis_unavailable(error),
            QueueError::Full { retry_after } => {
                Self::new(Code::RedisFull, "Jobs that end make room.").retry_after(retry_after).inside(error)
            }
            _ => Self::internal(error),
        }
    }
}

impl From<RecordsError> for Problem {
    fn from(error: RecordsError) -> Self {
        match error {
            RecordsError::Unavailable(_) => Self::new(Code::RecordsUnavailable, "Try again in a moment.")
                .retry_after(Duration::from_secs(2))
                .inside(error),
            _ => Self::internal(error),
        }
    }
}

impl From<Busy> for Problem {
    fn from(_: Busy) -> Self {
        Self::new(Code::LoginBusy, "Try again in a moment.").retry_after(Duration::from_secs(1))
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::IdempotencyConflict(_) => Self::new(Code::IdempotencyConflict, sentence(&refusal)),
            Refusal::QueueFull { retry_after } => {
                Self::new(Code::QueueFull, sentence(&refusal)).retry_after(*retry_after)
            }
            _ => Self::internal(refusal),
        }
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        match &error {
            BlobError::TooLarge { .. } => Self::new(Code::FileTooLarge, sentence(&error)),
            BlobError::ChecksumMismatch { .. } => Self::new(Code::ChecksumMismatch, sentence(&error)),
            BlobError::DiskFull => Self::disk_full("Nothing was kept of the file.").inside(error),
            BlobError::Source(cause) if let Some(mistake) = Mistake::of(cause) => {
                Self::new(Code::InvalidForm, mistake.to_string())
            }
            BlobError::Source(cause) if is_timeout(cause) => {
                Self::new(Code::RequestTimeout, "Nothing was kept of the file; send it again.")
            }
            BlobError::Source(_) => Self::new(Code::UploadIncomplete, "Nothing was kept of the file; send it again."),
            _ => Self::internal(error),
        }
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        const KEPT: &str = "What arrived is kept: HEAD says how much, go on from there.";
        match error {
            UploadError::Gone => Self::new(Code::UnknownUpload, "It was never made, was ended, or is long over."),
            UploadError::Locked => {
                Self::new(Code::UploadLocked, "Try again when that piece has arrived or was cut off.")
                    .retry_after(Duration::from_secs(1))
            }
            UploadError::Elsewhere { offset } => tus::elsewhere(offset),
            UploadError::Blob(BlobError::TooLarge { .. }) => {
                Self::new(Code::FileTooLarge, "The piece goes beyond the length that was announced.")
            }
            UploadError::Blob(BlobError::Source(cause)) if is_timeout(&cause) => Self::new(Code::RequestTimeout, KEPT),
            UploadError::Blob(BlobError::Source(_)) => Self::new(Code::UploadIncomplete, KEPT),
            UploadError::Blob(error @ BlobError::DiskFull) => Self::disk_full(KEPT).inside(error),
            UploadError::Blob(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

/// Whether a body stopped coming, which is wrapped once or twice on its way.
pub(crate) fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
        None => error.source(),
    })
    .any(|error| error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut))
}

/// An error's words as a sentence.
fn sentence(error: &impl ToString) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

/// Gives errors that the framework answers (no such route, wrong method …) the form of all others.
pub(crate) struct Catch;

#[async_trait]
impl Handler for Catch {
    async fn handle(&self, request: &mut Request, _: &mut Depot, response: &mut Response, _: &mut FlowCtrl) {
        let problem = match response.status_code.unwrap_or(StatusCode::NOT_FOUND) {
            StatusCode::NOT_FOUND => Problem::new(Code::NotFound, "The addresses are listed at /docs."),
            StatusCode::METHOD_NOT_ALLOWED => {
                Problem::new(Code::MethodNotAllowed, "The header Allow lists the methods that it knows.")
            }
            StatusCode::NOT_ACCEPTABLE => Problem::new(Code::NotAcceptable, ""),
            StatusCode::REQUEST_TIMEOUT => Problem::new(Code::RequestTimeout, ""),
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::PayloadTooLarge, ""),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(Code::UnsupportedMediaType, ""),
            status if status.is_client_error() => Problem::new(Code::BadRequest, ""),
            status => Problem::internal(format!("the framework answered {status}")),
        };
        problem.render(request.uri().path(), response);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        let problem = Problem::from(QueueError::Full { retry_after: Duration::from_millis(1_200) });
        assert_eq!(problem.headers, [(RETRY_AFTER, HeaderValue::from_static("2"))]);
        assert_eq!(problem.status(), StatusCode::TOO_MANY_REQUESTS);
    }

    #[test]
    fn a_timeout_is_found_below_its_wrappers() {
        use std::io::{Error, ErrorKind};
        let wrapped = Error::other(Error::other(Error::from(ErrorKind::TimedOut)));
        assert!(is_timeout(&wrapped));
        assert!(!is_timeout(&Error::other("reset")));
    }
}
