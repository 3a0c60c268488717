//! A file's content: whole or in parts, by key or by link.

use fourmi_blobs::Blob;
use fourmi_model::BlobId;
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{
        HeaderMap, HeaderValue, Method, ResBody, StatusCode,
        header::{
            ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL,
            CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_RANGE,
            RANGE,
        },
    },
};
use tokio::{fs::File, io::AsyncReadExt};

use crate::{
    caller::Caller,
    content::{self, Content},
    disposition, headers,
    links::{Grant, Links},
    operation::state_of,
    playlist,
    problem::{Code, Problem},
    range::{self, Asked},
    routes::files::{Files, file_id, sees, unknown_file},
};

#[handler]
pub(super) async fn download_file(
    request: &mut Request,
    depot: &mut Depot,
    response: &mut Response,
) -> Result<(), Problem> {
    let files: Files = state_of(depot)?;
    let grant = depot.get_typed::<Grant>().ok().copied();
    let (blob, mut file) = files.blobs.reader(&file_id(request)?).await?.ok_or_else(unknown_file)?;
    // Whoever made the link saw the file.
    if grant.is_none() && sees(&Caller::of(depot)?, Some(&blob)).is_none() {
        return Err(unknown_file());
    }
    if let Some(grant) = grant.filter(|_| playlist::opens_others(&blob)) {
        let playlist = read_playlist(&mut file, &blob, &files.links, grant).await?;
        return answer_playlist(request, response, &blob, grant, playlist);
    }

    let etag = (!blob.growing).then(|| format!("\"{}\"", blob.sha256));
    if headers::wants_another(request.headers(), etag.as_deref()) {
        return Err(Problem::new(
            Code::PreconditionFailed,
            "If-Match names another version, or there is none to name.",
        ));
    }
    let known = etag.as_ref().is_some_and(|etag| headers::has_already(request.headers(), etag));
    let asked = asked(request, etag.as_deref(), blob.bytes);
    if asked == Asked::Outside && !known {
        return Err(not_satisfiable(blob.bytes)?);
    }
    describe(response.headers_mut(), &blob, grant)?;
    response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(etag) = etag {
        response.headers_mut().insert(ETAG, headers::value(etag)?);
    }
    if known {
        response.status_code(StatusCode::NOT_MODIFIED);
        return Ok(());
    }
    let content = describe_content(response, &blob, asked)?;
    if request.method() != Method::HEAD {
        response.replace_body(ResBody::stream(content.read(file)));
    }
    Ok(())
}

/// What `Range` asks of the file, if `If-Range` names this version of it. A date never does: files have none, and
/// neither does anything of a file that still grows.
fn asked(request: &Request, etag: Option<&str>, bytes: u64) -> Asked {
    let header = |name| headers::text(request.headers(), name).unwrap_or_default();
    let unchanged = !request.headers().contains_key(IF_RANGE) || etag.is_some() && header(&IF_RANGE) == etag;
    let applies = request.method() == Method::GET && unchanged;
    range::asked(header(&RANGE).filter(|_| applies), bytes)
}

fn not_satisfiable(bytes: u64) -> Result<Problem, Problem> {
    let problem = Problem::new(Code::RangeNotSatisfiable, format!("The file has {bytes} bytes."));
    Ok(problem.header(CONTENT_RANGE, headers::value(format!("bytes */{bytes}"))?))
}

/// What is said of a file with every answer that is no error.
fn describe(headers: &mut HeaderMap, blob: &Blob, grant: Option<Grant>) -> Result<(), Problem> {
    let caching = match grant {
        _ if blob.growing => "no-store".to_owned(),
        Some(grant) => format!("private, max-age={}", seconds_left(grant)),
        // A browser may keep it, but asks each time: it may have been deleted.
        None => "private, no-cache".to_owned(),
    };
    headers.insert(CACHE_CONTROL, headers::value(caching)?);
    let shown = grant.is_some_and(|grant| !grant.download);
    let disposition = if shown { disposition::inline(&blob.name) } else { disposition::attachment(&blob.name) };
    headers.insert(CONTENT_DISPOSITION, headers::value(disposition)?);
    // A page that somebody uploaded must not run as ours; a browser that shows sound or a picture must fetch it.
    let policy = "sandbox; default-src 'none'; media-src 'self'; img-src 'self'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if grant.is_some() {
        // A link works for whoever has it, so also for the player of any page. It needs no cookies, and there are none.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        let readable = "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag";
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(readable));
    }
    Ok(())
}

fn seconds_left(grant: Grant) -> i64 {
    grant.expires.duration_since(Timestamp::now()).as_secs().max(0)
}

/// What is said of the content that follows, and the content.
fn describe_content(response: &mut Response, blob: &Blob, asked: Asked) -> Result<Content, Problem> {
    let (mut status, mut media_type) = (StatusCode::PARTIAL_CONTENT, blob.media_type.clone());
    let content = match asked {
        Asked::Parts(parts) => match <[_; 1]>::try_from(parts) {
            Ok([range]) => {
                let place = headers::value(content::of(&range, blob.bytes))?;
                response.headers_mut().insert(CONTENT_RANGE, place);
                Content::part(range)
            }
            Err(parts) => {
                let (content, whole_type) = Content::parts(parts, &blob.media_type, blob.bytes);
                media_type = whole_type;
                content
            }
        },
        Asked::Whole | Asked::Outside => {
            status = StatusCode::OK;
            Content::part(0..blob.bytes)
        }
    };
    response.status_code(status);
    response.headers_mut().insert(CONTENT_TYPE, headers::value(media_type)?);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(content.bytes()));
    Ok(content)
}

/// A playlist whose files can be opened as long as it can.
async fn read_playlist(file: &mut File, blob: &Blob, links: &Links, grant: Grant) -> Result<String, Problem> {
    let mut text = String::new();
    file.take(blob.bytes).read_to_string(&mut text).await.map_err(Problem::internal)?;
    let grant = Grant { download: false, ..grant };
    Ok(playlist::with_queries(&text, |file: &BlobId| links.query(file, grant)))
}

/// It is written anew for every link: it has no version, and no ranges that would fit together.
fn answer_playlist(
    request: &Request,
    response: &mut Response,
    blob: &Blob,
    grant: Grant,
    playlist: String,
) -> Result<(), Problem> {
    if headers::wants_another(request.headers(), None) {
        return Err(Problem::new(Code::PreconditionFailed, "A playlist that is opened by a link has no versions."));
    }
    describe(response.headers_mut(), blob, Some(grant))?;
    response.status_code(StatusCode::OK);
    response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
    response.headers_mut().insert(CONTENT_TYPE, headers::value(&blob.media_type)?);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(playlist.len()));
    if request.method() != Method::HEAD {
        response.replace_body(ResBody::Once(playlist.into()));
    }
    Ok(())
}
