//! Sending a file in one request: as it is, or in a form.

use std::io;

use bytes::Bytes;
use fourmi_blobs::{Blob, BlobError, Expected};
use futures_util::{Stream, StreamExt, future};
use salvo::{
    Depot, Request, Response, handler,
    http::{
        HeaderMap, HeaderName, ReqBody, StatusCode,
        header::{CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, LOCATION},
    },
};

use crate::{
    body,
    caller::Caller,
    checksum, disposition,
    form::{self, FormFile},
    headers,
    operation::state_of,
    problem::{Code, Problem},
    query::Query,
    routes::files::{Files, owner},
};

/// What a form may have beside the file, in bytes; more is refused when it comes.
const FORM_BYTES: u64 = 2 * 1024 * 1024;

#[handler]
pub(super) async fn upload_file(
    request: &mut Request,
    depot: &mut Depot,
    response: &mut Response,
) -> Result<(), Problem> {
    let files: Files = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let name: Option<String> = Query::of(request, &["name"])?.one("name")?;
    refuse_encoding(request.headers())?;
    let boundary = boundary(request.headers())?;
    let most = files.max_upload_bytes.saturating_add(if boundary.is_some() { FORM_BYTES } else { 0 });
    if content_length(request.headers()).is_some_and(|bytes| bytes > most) {
        return Err(BlobError::TooLarge { max_bytes: files.max_upload_bytes }.into());
    }
    files.disk.check()?;
    let blob = match boundary {
        Some(boundary) => put_form(&files, &caller, name, &boundary, request).await?,
        None => put_body(&files, &caller, name, request).await?,
    };
    response.headers_mut().insert(LOCATION, headers::value(format!("/api/v1/files/{}", blob.id))?);
    body::write(response, StatusCode::CREATED, &blob)
}

async fn put_body(
    files: &Files,
    caller: &Caller,
    name: Option<String>,
    request: &mut Request,
) -> Result<Blob, Problem> {
    // Its bytes may be UTF-8, against the standard but as many programs send it.
    let header = || String::from_utf8(request.headers().get(CONTENT_DISPOSITION)?.as_bytes().to_vec()).ok();
    let name = name.or_else(|| disposition::name(&header()?)).unwrap_or_default();
    let expected = Expected { max_bytes: files.max_upload_bytes, sha256: checksum::announced(request.headers())? };
    Ok(files.blobs.put(&name, owner(caller), content(request), expected).await?)
}

async fn put_form(
    files: &Files,
    caller: &Caller,
    name: Option<String>,
    boundary: &str,
    request: &mut Request,
) -> Result<Blob, Problem> {
    let of_form = checksum::announced(request.headers())?;
    let file = FormFile::find(content(request), boundary).await.map_err(BlobError::Source)?;
    let name = name.unwrap_or_else(|| file.name.clone());
    let sha256 = checksum::announced(&file.headers)?;
    if of_form.is_some() {
        // Of the request they would be about the form and all that is in it.
        let detail = "Put the checksum of the file into the headers of its part of the form.";
        return Err(Problem::new(Code::InvalidHeader, detail));
    }
    let expected = Expected { max_bytes: files.max_upload_bytes, sha256 };
    Ok(files.blobs.put(&name, owner(caller), file.content(), expected).await?)
}

/// Where the parts of a form end; `None` if the body is the file itself.
fn boundary(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let given = lower(headers, &CONTENT_TYPE);
    if !given.starts_with("multipart/") {
        return Ok(None);
    }
    if given.split(';').next().unwrap_or_default().trim() != "multipart/form-data" {
        let detail = "Send the file itself as the body (`curl --data-binary @file`), or a form (`curl -F file=@file`).";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let given = headers::text(headers, &CONTENT_TYPE)?.unwrap_or_default();
    form::boundary(given).map(Some).map_err(|error| BlobError::Source(error).into())
}

/// Refuses a body that is not what will be stored.
pub(super) fn refuse_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(CONTENT_ENCODING) && lower(headers, &CONTENT_ENCODING) != "identity" {
        return Err(Problem::new(Code::UnsupportedMediaType, "Send the file without a Content-Encoding."));
    }
    Ok(())
}

fn lower(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.trim().to_ascii_lowercase()
}

/// The length of a body that says it.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The bytes of a body, which stays with the request: what is left of it is read after a refusal.
pub(super) fn content(request: &mut Request) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
    // From here on the caller sends without waiting for more.
    request.headers_mut().remove(EXPECT);
    data(request.body_mut())
}

fn data(body: &mut ReqBody) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
    body.filter_map(|frame| future::ready(frame.map(|frame| frame.into_data().ok()).transpose()))
}
