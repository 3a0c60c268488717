//! Files: up, down, away.

use std::{io, ops::Range};

use bytes::Bytes;
use fourmi_blobs::{Blob, Blobs, Expected};
use fourmi_model::BlobId;
use futures_util::{Stream, StreamExt, future};
use salvo::{
    Depot, Request, Response, handler,
    http::{
        HeaderMap, HeaderValue, Method, ReqBody, ResBody, StatusCode,
        header::{
            ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
            CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, EXPECT, IF_RANGE, LOCATION, RANGE,
        },
    },
};
use schemars::{Schema, SchemaGenerator, json_schema};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio_util::io::ReaderStream;

use crate::{
    body, checksum, disposition, headers,
    operation::{ANY, Group, JSON, Operation, Place, schema, state_of},
    problem::{Code, Problem},
    query::Query,
    range::{self, Asked},
};

/// How much of a file is read at a time, in bytes.
const CHUNK_BYTES: usize = 128 * 1024;

/// The files, and how large an upload may be.
#[derive(Debug, Clone)]
pub struct Files {
    /// Where they are.
    pub blobs: Blobs,
    /// The largest upload, in bytes.
    pub max_upload_bytes: u64,
}

/// The routes.
pub fn group(files: Files) -> Group {
    table().sharing(files)
}

pub(crate) fn table() -> Group {
    const PATH: &str = "/api/v1/files/{id}";
    const HEADERS: &[&str] = &["ETag", "Accept-Ranges", "Content-Disposition"];
    let described = "`ETag` is the file's SHA-256. One range at a time is served; of several, the whole file.";
    Group::new(
        "files",
        "What jobs read and write.",
        vec![
            Operation::new("upload_file", Method::POST, "/api/v1/files", upload_file)
                .says(
                    "Stores a file",
                    "The body is the file itself, of any type; what it is, is read from its content.",
                )
                .takes(
                    Place::Query,
                    "name",
                    schema::<String>,
                    "Its name. Without it, that of Content-Disposition, else `file`.",
                )
                .takes(
                    Place::Header,
                    "Content-Disposition",
                    schema::<String>,
                    "Its name, as `attachment; filename=\"…\"`.",
                )
                .takes(
                    Place::Header,
                    "Content-SHA256",
                    schema::<String>,
                    "Its SHA-256 in hexadecimal digits; another file is refused.",
                )
                .takes(
                    Place::Header,
                    "Content-Digest",
                    schema::<String>,
                    "The same as `sha-256=:<base64>:` (RFC 9530).",
                )
                .reads("application/octet-stream", binary)
                .answers(StatusCode::CREATED, JSON, schema::<Blob>, "It is stored, and safe on disk.")
                .with_headers(&["Location"])
                .fails(&[Code::InvalidHeader, Code::InvalidQuery, Code::UploadIncomplete, Code::FileTooLarge])
                .fails(&[Code::ChecksumMismatch, Code::DiskFull]),
            identified("download_file", Method::GET, PATH, download_file)
                .says("Fetches a file", described)
                .takes(Place::Header, "Range", schema::<String>, "A part of it, as `bytes=0-999`.")
                .takes(Place::Header, "If-Range", schema::<String>, "The ETag of the file that the range is of.")
                .takes(Place::Header, "If-None-Match", schema::<String>, "The ETag of what you have.")
                .answers(StatusCode::OK, ANY, binary, "The file.")
                .with_headers(HEADERS)
                .answers(StatusCode::PARTIAL_CONTENT, ANY, binary, "The range.")
                .with_headers(&["ETag", "Content-Range"])
                .answers_empty(StatusCode::NOT_MODIFIED, "You have it.")
                .fails(&[Code::RangeNotSatisfiable]),
            identified("head_file", Method::HEAD, PATH, download_file)
                .says("Says what fetching a file would give", described)
                .takes(Place::Header, "If-None-Match", schema::<String>, "The ETag of what you have.")
                .answers_empty(StatusCode::OK, "The file, without its content.")
                .with_headers(HEADERS)
                .answers_empty(StatusCode::NOT_MODIFIED, "You have it."),
            identified("delete_file", Method::DELETE, PATH, delete_file)
                .says("Deletes a file", "A job that reads it is not asked.")
                .answers_empty(StatusCode::NO_CONTENT, "It is gone."),
            identified("get_file", Method::GET, "/api/v1/files/{id}/info", get_file)
                .says("Describes a file", "")
                .answers(StatusCode::OK, JSON, schema::<Blob>, "The file, without its content."),
        ],
    )
}

fn identified(id: &'static str, method: Method, path: &'static str, handler: impl salvo::Handler) -> Operation {
    let operation = Operation::new(id, method, path, handler);
    operation.takes(Place::Path, "id", schema::<BlobId>, "The file.").fails(&[Code::UnknownFile])
}

fn binary(_: &mut SchemaGenerator) -> Schema {
    json_schema!({})
}

#[handler]
async fn upload_file(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let files: Files = state_of(depot)?;
    let name = upload_name(request)?;
    check_form(request.headers())?;
    let expected = Expected { max_bytes: files.max_upload_bytes, sha256: checksum::announced(request.headers())? };
    if content_length(request.headers()).is_some_and(|bytes| bytes > files.max_upload_bytes) {
        return Err(fourmi_blobs::BlobError::TooLarge { max_bytes: files.max_upload_bytes }.into());
    }
    // From here on the caller sends without waiting for more.
    request.headers_mut().remove(EXPECT);
    let blob = files.blobs.put(&name, data(request.body_mut()), expected).await?;
    response.headers_mut().insert(LOCATION, headers::value(format!("/api/v1/files/{}", blob.id))?);
    body::write(response, StatusCode::CREATED, &blob)
}

fn upload_name(request: &Request) -> Result<String, Problem> {
    let name: Option<String> = Query::of(request, &["name"])?.one("name")?;
    // Its bytes may be UTF-8, against the standard but as many programs send it.
    let header = || String::from_utf8(request.headers().get(CONTENT_DISPOSITION)?.as_bytes().to_vec()).ok();
    Ok(name.or_else(|| disposition::name(&header()?)).unwrap_or_default())
}

/// Refuses bodies that are a file in a wrapping.
fn check_form(headers: &HeaderMap) -> Result<(), Problem> {
    let is = |name, prefix: &str| {
        let value = headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        value.trim().to_ascii_lowercase().starts_with(prefix)
    };
    if is(CONTENT_TYPE, "multipart/") {
        let detail = "Send the file itself as the body (`curl --data-binary @file`), not a form.";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    if headers.contains_key(CONTENT_ENCODING) && !is(CONTENT_ENCODING, "identity") {
        return Err(Problem::new(Code::UnsupportedMediaType, "Send the file without a Content-Encoding."));
    }
    Ok(())
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The bytes of a body, which stays with the request: what is left of it is read after a refusal.
fn data(body: &mut ReqBody) -> impl Stream<Item = io::Result<Bytes>> + Send {
    body.filter_map(|frame| future::ready(frame.map(|frame| frame.into_data().ok()).transpose()))
}

#[handler]
async fn download_file(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let files: Files = state_of(depot)?;
    let found = files.blobs.reader(&file_id(request)?).await?;
    let (blob, file) = found.ok_or_else(unknown_file)?;
    let etag = format!("\"{}\"", blob.sha256);
    let known = headers::has_already(request.headers(), &etag);
    let range = match asked(request, &etag, blob.bytes) {
        Asked::Outside if !known => return Err(not_satisfiable(blob.bytes)?),
        Asked::Part(range) => Some(range),
        _ => None,
    };
    describe(response.headers_mut(), &blob, &etag)?;
    if known {
        response.status_code(StatusCode::NOT_MODIFIED);
        return Ok(());
    }
    describe_content(response, &blob, range.as_ref())?;
    send(request, response, file, range.unwrap_or(0..blob.bytes)).await
}

/// What `Range` asks of the file, if `If-Range` names this file.
fn asked(request: &Request, etag: &str, bytes: u64) -> Asked {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default().trim());
    let applies = request.method() == Method::GET && header(IF_RANGE).is_none_or(|other| other == etag);
    range::asked(header(RANGE).filter(|_| applies), bytes)
}

fn not_satisfiable(bytes: u64) -> Result<Problem, Problem> {
    let problem = Problem::new(Code::RangeNotSatisfiable, format!("The file has {bytes} bytes."));
    Ok(problem.header(CONTENT_RANGE, headers::value(format!("bytes */{bytes}"))?))
}

/// What is said of a file with every answer that is no error.
fn describe(headers: &mut HeaderMap, blob: &Blob, etag: &str) -> Result<(), Problem> {
    headers.insert(ETAG, headers::value(etag)?);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // A browser may keep it, but asks each time: it may have been deleted.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(CONTENT_DISPOSITION, headers::value(disposition::attachment(&blob.name))?);
    // A page that somebody uploaded must not run as ours.
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    Ok(())
}

/// What is said of the content that follows.
fn describe_content(response: &mut Response, blob: &Blob, range: Option<&Range<u64>>) -> Result<(), Problem> {
    let mut length = blob.bytes;
    response.status_code(StatusCode::OK);
    if let Some(range) = range {
        let part = format!("bytes {}-{}/{}", range.start, range.end - 1, blob.bytes);
        length = range.end - range.start;
        response.status_code(StatusCode::PARTIAL_CONTENT);
        response.headers_mut().insert(CONTENT_RANGE, headers::value(part)?);
    }
    response.headers_mut().insert(CONTENT_TYPE, headers::value(&blob.media_type)?);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(())
}

async fn send(
    request: &Request,
    response: &mut Response,
    mut file: tokio::fs::File,
    range: Range<u64>,
) -> Result<(), Problem> {
    if request.method() == Method::HEAD {
        return Ok(());
    }
    file.seek(SeekFrom::Start(range.start)).await.map_err(Problem::internal)?;
    let content = file.take(range.end - range.start);
    response.replace_body(ResBody::stream(ReaderStream::with_capacity(content, CHUNK_BYTES)));
    Ok(())
}

#[handler]
async fn get_file(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let files: Files = state_of(depot)?;
    let blob = files.blobs.get(&file_id(request)?).await?.ok_or_else(unknown_file)?;
    body::write(response, StatusCode::OK, &blob)
}

#[handler]
async fn delete_file(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let files: Files = state_of(depot)?;
    if !files.blobs.delete(&file_id(request)?).await? {
        return Err(unknown_file());
    }
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

/// The file that the address names. What is no id names none.
fn file_id(request: &Request) -> Result<BlobId, Problem> {
    let text = request.param::<String>("id").unwrap_or_default();
    text.parse().map_err(|_| unknown_file())
}

fn unknown_file() -> Problem {
    Problem::new(Code::UnknownFile, "It was never stored, or was deleted.")
}
