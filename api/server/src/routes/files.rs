//! Files: up, down, away; the table of all that is done with them.

use std::sync::Arc;

use fourmi_blobs::{Blob, Blobs, Owner, Uploads};
use fourmi_model::{BlobId, Scope};
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::{Schema, SchemaGenerator, json_schema};

use super::{
    download::download_file,
    links::{self, Link, LinkRequest},
    resumable,
    upload::upload_file,
};
use crate::{
    body,
    caller::Caller,
    disk::Disk,
    links::Links,
    operation::{ANY, Group, JSON, Operation, Place, schema, state_of},
    problem::{Code, Problem},
};

/// The files, and how large an upload may be.
#[derive(Debug, Clone)]
pub struct Files {
    /// Where they are.
    pub blobs: Blobs,
    /// Those that arrive in pieces.
    pub uploads: Uploads,
    /// Whether there is room for new ones.
    pub disk: Disk,
    /// The largest upload, in bytes.
    pub max_upload_bytes: u64,
    /// What opens a file without a key.
    pub links: Arc<Links>,
}

/// The routes.
pub fn group(files: Files) -> Group {
    table().sharing(files)
}

pub(crate) fn table() -> Group {
    const PATH: &str = "/api/v1/files/{id}";
    const NAMED: &str = "/api/v1/files/{id}/content/{name}";
    const NAME: &str = "Any name: it serves programs that judge by the ending of an address.";
    let mut group = Group::new(
        "files",
        "What jobs read and write.",
        vec![
            Operation::new("upload_file", Method::POST, "/api/v1/files", upload_file)
                .needs(&[Scope::FilesWrite])
.says(
                    "Stores a file",
                    "The body is the file itself, of any type; what it is, is read from its content. Or it is a form with \
                     one file: its first part with a file name, whatever the field is called. Other fields are skipped, \
                     and a second file is refused.",
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
                    "Its SHA-256 in hexadecimal digits; another file is refused. In a form it stands in the headers of the part.",
                )
                .takes(
                    Place::Header,
                    "Content-Digest",
                    schema::<String>,
                    "The same as `sha-256=:<base64>:` (RFC 9530).",
                )
                .reads("application/octet-stream", binary)
                .reads("multipart/form-data", form)
                .answers(StatusCode::CREATED, JSON, schema::<Blob>, "It is stored, and safe on disk.")
                .with_headers(&["Location"])
                .fails(&[Code::InvalidHeader, Code::InvalidQuery, Code::InvalidForm, Code::UploadIncomplete])
                .fails(&[Code::FileTooLarge, Code::ChecksumMismatch, Code::DiskFull]),
            download("download_file", PATH).says(
                "Fetches a file",
                "`ETag` is the file's SHA-256; a file that still grows has none. Ranges that overlap or touch become one; \
                 of more than 16, the whole file is sent.",
            ),
            head("head_file", PATH).says("Says what fetching a file would give", ""),
            download("download_file_named", NAMED)
                .takes(Place::Path, "name", schema::<String>, NAME)
                .says("Fetches a file, by an address that ends with a name", "As `download_file`. Playlists are read here."),
            head("head_file_named", NAMED)
                .takes(Place::Path, "name", schema::<String>, NAME)
                .says("Says what fetching a file would give, by an address that ends with a name", ""),
            identified("create_link", Method::POST, "/api/v1/files/{id}/links", links::create_link)
                .needs(&[Scope::FilesRead])
.says(
                    "Makes a link that opens a file without a key",
                    "It works for GET and HEAD until it expires, and cannot be taken back but by deleting the file. \
                     The link of an HLS playlist that a job made opens all that it names.",
                )
                .reads(JSON, schema::<LinkRequest>)
                .answers(StatusCode::OK, JSON, schema::<Link>, "The link.")
                .fails(&[Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest]),
            identified("delete_file", Method::DELETE, PATH, delete_file)
                .needs(&[Scope::FilesWrite])
.says("Deletes a file", "A job that reads it is not asked.")
                .answers_empty(StatusCode::NO_CONTENT, "It is gone."),
            identified("get_file", Method::GET, "/api/v1/files/{id}/info", get_file)
                // Whoever sends files is told this of them anyway.
                .needs(&[Scope::FilesRead, Scope::FilesWrite])
                .says("Describes a file", "")
                .answers(StatusCode::OK, JSON, schema::<Blob>, "The file, without its content."),
        ],
    );
    group.operations.extend(resumable::operations());
    group
}

fn identified(id: &'static str, method: Method, path: &'static str, handler: impl salvo::Handler) -> Operation {
    let operation = Operation::new(id, method, path, handler);
    operation.takes(Place::Path, "id", schema::<BlobId>, "The file.").fails(&[Code::UnknownFile])
}

const HEADERS: &[&str] = &["ETag", "Accept-Ranges", "Content-Disposition"];

fn download(id: &'static str, path: &'static str) -> Operation {
    with_conditions(identified(id, Method::GET, path, download_file).needs(&[Scope::FilesRead]))
        .takes(Place::Header, "Range", schema::<String>, "Parts of it, as `bytes=0-999` or `bytes=0-99,-100`.")
        .takes(Place::Header, "If-Range", schema::<String>, "The ETag of the file that the range is of.")
        .answers(StatusCode::OK, ANY, binary, "The file.")
        .with_headers(HEADERS)
        .answers(StatusCode::PARTIAL_CONTENT, ANY, binary, "The range; several as `multipart/byteranges`.")
        .with_headers(&["ETag", "Content-Range"])
        .answers_empty(StatusCode::NOT_MODIFIED, "You have it.")
        .fails(&[Code::RangeNotSatisfiable])
}

fn head(id: &'static str, path: &'static str) -> Operation {
    with_conditions(identified(id, Method::HEAD, path, download_file).needs(&[Scope::FilesRead]))
        .answers_empty(StatusCode::OK, "The file, without its content.")
        .with_headers(HEADERS)
        .answers_empty(StatusCode::NOT_MODIFIED, "You have it.")
}

fn with_conditions(operation: Operation) -> Operation {
    operation
        .by_link()
        .takes(Place::Header, "If-None-Match", schema::<String>, "The ETag of what you have.")
        .takes(Place::Header, "If-Match", schema::<String>, "The ETag of what it must be.")
        .fails(&[Code::PreconditionFailed])
}

pub(super) fn binary(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "binary" })
}

fn form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": { "file": { "type": "string", "format": "binary" } },
        "required": ["file"],
    })
}

#[handler]
async fn get_file(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let blob = seen_file(request, depot).await?;
    body::write(response, StatusCode::OK, &blob)
}

#[handler]
async fn delete_file(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let files: Files = state_of(depot)?;
    let blob = seen_file(request, depot).await?;
    if !files.blobs.delete(&blob.id).await? {
        return Err(unknown_file());
    }
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

/// The file that the address names, if the caller sees it.
pub(super) async fn seen_file(request: &Request, depot: &Depot) -> Result<Blob, Problem> {
    let files: Files = state_of(depot)?;
    let blob = files.blobs.get(&file_id(request)?).await?;
    sees(&Caller::of(depot)?, blob.as_ref()).cloned().ok_or_else(unknown_file)
}

/// A file, if the caller sees it.
pub(super) fn sees<'a>(caller: &Caller, blob: Option<&'a Blob>) -> Option<&'a Blob> {
    blob.filter(|Blob { owner, .. }| caller.sees(owner.tenant.as_ref(), owner.submitted_by.as_deref()))
}

/// Whose the files are that the caller sends.
pub(super) fn owner(caller: &Caller) -> Owner {
    Owner { tenant: caller.tenant().cloned(), submitted_by: Some(caller.id().to_owned()) }
}

/// The file that the address names. What is no id names none.
pub(crate) fn file_id(request: &Request) -> Result<BlobId, Problem> {
    let text = request.param::<String>("id").unwrap_or_default();
    text.parse().map_err(|_| unknown_file())
}

pub(super) fn unknown_file() -> Problem {
    Problem::new(Code::UnknownFile, "It was never stored, or was deleted.")
}
