//! Bodies in JSON, in and out.

use std::time::Duration;

use salvo::{
    Request, Response,
    http::{HeaderValue, ParseError, ResBody, StatusCode, header::CONTENT_TYPE},
    hyper::body::Body as _,
};
use serde::{Deserialize, Serialize};

use crate::{
    operation::JSON,
    problem::{Code, Problem},
};

/// The largest body in JSON, in bytes.
pub(crate) const MAX_BYTES: usize = 256 * 1024;

/// The longest that such a body may take to arrive.
const LONGEST: Duration = Duration::from_secs(20);

/// Reads a whole body that should be JSON.
///
/// # Errors
/// If it says that it is something else, is too large, or does not arrive.
pub(crate) async fn read(request: &mut Request) -> Result<&[u8], Problem> {
    read_up_to(request, MAX_BYTES).await
}

/// Reads a whole body that should be JSON and may have this many bytes.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_up_to(request: &mut Request, most: usize) -> Result<&[u8], Problem> {
    check_type(request)?;
    if request.body().size_hint().lower() > most as u64 {
        return Err(too_large(most));
    }
    match tokio::time::timeout(LONGEST, request.payload_with_max_size(most)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(ParseError::PayloadTooLarge)) => Err(too_large(most)),
        Ok(Err(_)) => Err(Problem::new(Code::BadRequest, "The body did not arrive whole.")),
        Err(_) => Err(too_slow()),
    }
}

/// The type that a body says that it has, without parameters.
pub(crate) fn given_type(request: &Request) -> Option<String> {
    let given = request.headers().get(CONTENT_TYPE)?.to_str().unwrap_or_default();
    Some(given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn check_type(request: &Request) -> Result<(), Problem> {
    let Some(given) = given_type(request) else { return Ok(()) };
    if given == JSON || given.starts_with("application/") && given.ends_with("+json") {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, format!("Send JSON, with the header `Content-Type: {JSON}`.")))
}

pub(crate) fn too_large(most: usize) -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("A body in JSON may have {most} bytes at most."))
}

fn too_slow() -> Problem {
    Problem::new(Code::RequestTimeout, format!("A body in JSON must arrive within {} seconds.", LONGEST.as_secs()))
}

/// Reads a JSON object; a mistake is named by the path of its field.
///
/// # Errors
/// If it is no JSON, or not of the type.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    // A list of the fields' values would be taken for the object.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::field(Code::InvalidRequest, "", "The body must be an object."));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let error = error.into_inner();
        match error.classify() {
            serde_json::error::Category::Data => Problem::field(Code::InvalidRequest, path, error.to_string()),
            _ => Problem::new(Code::InvalidJson, error.to_string()),
        }
    })?;
    reader.end().map_err(|error| Problem::new(Code::InvalidJson, error.to_string()))?;
    Ok(value)
}

/// The schema of a moment.
pub(crate) fn time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}

/// Answers with JSON.
///
/// # Errors
/// If the value cannot be written as JSON: a mistake of the programmer.
pub(crate) fn write(response: &mut Response, status: StatusCode, value: &impl Serialize) -> Result<(), Problem> {
    let body = serde_json::to_vec(value).map_err(Problem::internal)?;
    response.status_code(status);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response.replace_body(ResBody::Once(body.into()));
    Ok(())
}
