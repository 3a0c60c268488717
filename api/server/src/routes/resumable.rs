//! Sending a file in pieces, with tus 1.0.
//!
//! Handlers of our own on a store of our own: salvo's keeps its locks in one process and its files beside ours, while any
//! of the API's processes must take the next piece, and the last piece must make an ordinary file without a copy.

use fourmi_blobs::{Announced, BlobError, Upload, UploadError, UploadState};
use fourmi_model::BlobId;
use salvo::{
    Depot, Request, Response, handler,
    http::{HeaderName, Method, StatusCode},
    hyper::body::Body as _,
};

use super::upload::{content, content_length, refuse_encoding};
use crate::{
    caller::Caller,
    checksum, headers,
    operation::{Operation, Place, schema, state_of},
    problem::{Code, Problem},
    routes::files::{Files, binary, owner},
    tus,
};

const UPLOADS: &str = "/api/v1/uploads";
const UPLOAD: &str = "/api/v1/uploads/{id}";

/// The routes of the table of files.
pub(super) fn operations() -> Vec<Operation> {
    let tells = &["Upload-Offset", "Upload-Expires", "Upload-File"];
    vec![
        Operation::new("describe_uploads", Method::OPTIONS, UPLOADS, describe_uploads)
            .open()
            .says("Says what of tus is understood", "")
            .answers_empty(StatusCode::NO_CONTENT, "See the headers.")
            .with_headers(&["Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size"]),
        writing(Operation::new("create_upload", Method::POST, UPLOADS, create_upload))
            .says(
                "Announces a file that is sent in pieces (tus 1.0)",
                "The upload's id is the id that the file will have. A body, if there is one, is the first piece.",
            )
            .takes(Place::Header, "Upload-Length", schema::<u64>, "The length of the file, in bytes.")
            .takes(
                Place::Header,
                "Upload-Metadata",
                schema::<String>,
                "Keys and values in Base64; `filename` is the file's name, `sha256` its SHA-256 in hexadecimal digits: \
                 another file is refused.",
            )
            .may_read(tus::PIECE, binary)
            .answers_empty(StatusCode::CREATED, "It may be sent to the address in `Location`; an empty file is stored.")
            .with_headers(&["Location", "Upload-Offset", "Upload-Expires", "Upload-File"]),
        identified(Operation::new("head_upload", Method::HEAD, UPLOAD, head_upload))
            .says("Says how far an upload is", "What it has is safe on disk.")
            .answers_empty(StatusCode::OK, "`Upload-File` is there, with the file's id, as soon as it is stored.")
            .with_headers(&["Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Expires", "Upload-File"]),
        piece(Operation::new("append_upload", Method::PATCH, UPLOAD, append_upload))
            .says(
                "Sends a piece of a file",
                "What arrives of a piece that is cut off is kept. The last piece makes the file, which is then answered \
                 by `Upload-File`.",
            )
            .answers_empty(StatusCode::NO_CONTENT, "The piece is safe on disk.")
            .with_headers(tells),
        piece(Operation::new("override_upload", Method::POST, UPLOAD, override_upload))
            .says("Sends a piece, or ends an upload, for programs that can only POST", "")
            .takes(Place::Header, "X-HTTP-Method-Override", schema::<String>, "`PATCH` or `DELETE`.")
            .fails(&[Code::MethodNotAllowed])
            .answers_empty(StatusCode::NO_CONTENT, "As the method that it stands for.")
            .with_headers(tells),
        identified(Operation::new("delete_upload", Method::DELETE, UPLOAD, delete_upload))
            .says("Ends an upload", "What has arrived of it is removed. A file that is stored stays.")
            .fails(&[Code::UploadLocked])
            .answers_empty(StatusCode::NO_CONTENT, "It is gone."),
    ]
}

fn versioned(operation: Operation) -> Operation {
    operation
        .needs(&[fourmi_model::Scope::FilesWrite])
        .takes(Place::Header, "Tus-Resumable", schema::<String>, "`1.0.0`.")
        .fails(&[Code::TusVersion, Code::InvalidHeader])
}

fn identified(operation: Operation) -> Operation {
    versioned(operation).takes(Place::Path, "id", schema::<BlobId>, "The upload.").fails(&[
        Code::UnknownUpload,
        Code::UploadExpired,
        Code::ChecksumMismatch,
    ])
}

fn writing(operation: Operation) -> Operation {
    const CHECKED: &str = "The SHA-256 of this piece; another one is refused, and nothing of it is kept.";
    versioned(operation)
        .takes(Place::Header, "Content-SHA256", schema::<String>, CHECKED)
        .takes(Place::Header, "Content-Digest", schema::<String>, CHECKED)
        .fails(&[Code::UploadIncomplete, Code::FileTooLarge, Code::ChecksumMismatch, Code::DiskFull])
}

fn piece(operation: Operation) -> Operation {
    writing(operation)
        .takes(Place::Path, "id", schema::<BlobId>, "The upload.")
        .takes(Place::Header, "Upload-Offset", schema::<u64>, "Where the piece begins: where the upload ends.")
        .reads(tus::PIECE, binary)
        .fails(&[Code::UnknownUpload, Code::UploadExpired, Code::OffsetConflict, Code::UploadLocked])
}

#[handler]
async fn describe_uploads(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let files: Files = state_of(depot)?;
    tus::describe(response, files.max_upload_bytes);
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

#[handler]
async fn create_upload(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    tus::begin(request, response)?;
    let files: Files = state_of(depot)?;
    let bytes = tus::length(request.headers())?;
    if bytes > files.max_upload_bytes {
        return Err(BlobError::TooLarge { max_bytes: files.max_upload_bytes }.into());
    }
    let tus::Metadata { text, name, sha256 } = tus::metadata(request.headers())?;
    let has_piece = !request.body().is_end_stream();
    if has_piece {
        tus::check_piece(request.headers())?;
    }
    files.disk.check()?;
    let owner = owner(&Caller::of(depot)?);
    let announced = Announced { name, bytes, sha256, metadata: text, owner };
    let mut upload = files.uploads.announce(announced).await?;
    if has_piece && upload.state != UploadState::Stored {
        let id = upload.id;
        upload = match take_piece(&files, request, upload).await {
            Ok(upload) => upload,
            Err(problem) => {
                // The caller does not learn its address. What is left of it now expires.
                let _expires = files.uploads.abandon(&id).await;
                return Err(problem);
            }
        };
    }
    tus::locate(response, &upload)?;
    tus::report(response, &upload)?;
    response.status_code(StatusCode::CREATED);
    Ok(())
}

#[handler]
async fn head_upload(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    tus::begin(request, response)?;
    let upload = seen_upload(request, depot).await?;
    tus::repeat(response, &upload)?;
    tus::report(response, &upload)?;
    response.status_code(StatusCode::OK);
    Ok(())
}

#[handler]
async fn append_upload(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    append(request, depot, response).await
}

#[handler]
async fn delete_upload(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    end(request, depot, response).await
}

#[handler]
async fn override_upload(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let name = HeaderName::from_static("x-http-method-override");
    match headers::text(request.headers(), &name)? {
        Some("PATCH") => append(request, depot, response).await,
        Some("DELETE") => end(request, depot, response).await,
        _ => Err(Problem::new(Code::MethodNotAllowed, "X-HTTP-Method-Override must be PATCH or DELETE.")),
    }
}

async fn append(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    tus::begin(request, response)?;
    let files: Files = state_of(depot)?;
    tus::check_piece(request.headers())?;
    let at = tus::offset(request.headers())?;
    let upload = seen_upload(request, depot).await?;
    if at != upload.offset {
        return Err(tus::elsewhere(upload.offset));
    }
    let upload = take_piece(&files, request, upload).await?;
    tus::report(response, &upload)?;
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

async fn end(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    tus::begin(request, response)?;
    let files: Files = state_of(depot)?;
    let upload = seen_upload(request, depot).await?;
    files.uploads.abandon(&upload.id).await?;
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

/// Adds the body of a request to an upload.
async fn take_piece(files: &Files, request: &mut Request, upload: Upload) -> Result<Upload, Problem> {
    refuse_encoding(request.headers())?;
    let sha256 = checksum::announced(request.headers())?;
    let room = upload.announced.bytes.saturating_sub(upload.offset);
    if content_length(request.headers()).is_some_and(|bytes| bytes > room) {
        return Err(UploadError::Blob(BlobError::TooLarge { max_bytes: room }).into());
    }
    if upload.state == UploadState::Stored {
        return Ok(upload);
    }
    files.disk.check()?;
    Ok(files.uploads.append(&upload.id, upload.offset, content(request), sha256).await?)
}

/// The upload that the address names, if the caller sees it.
async fn seen_upload(request: &Request, depot: &Depot) -> Result<Upload, Problem> {
    let (files, caller): (Files, _) = (state_of(depot)?, Caller::of(depot)?);
    let id: BlobId = request.param::<String>("id").unwrap_or_default().parse().map_err(|_| UploadError::Gone)?;
    let upload = files.uploads.get(&id).await?;
    let owner = &upload.announced.owner;
    if !caller.sees(owner.tenant.as_ref(), owner.submitted_by.as_deref()) {
        return Err(UploadError::Gone.into());
    }
    if upload.state == UploadState::Expired {
        return Err(Problem::new(Code::UploadExpired, "It got no piece for too long, or its file was deleted."));
    }
    Ok(upload)
}
