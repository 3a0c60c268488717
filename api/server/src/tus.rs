//! The words of tus 1.0 (<https://tus.io/protocols/resumable-upload>): headers in and out.

use base64::{Engine, prelude::BASE64_STANDARD};
use fourmi_blobs::{Upload, UploadState};
use jiff::fmt::rfc2822::DateTimePrinter;
use salvo::{
    Request, Response,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CONTENT_TYPE, LOCATION},
    },
};

use crate::{
    headers::{text, value},
    problem::{Code, Problem},
};

/// The type of a piece.
pub(crate) const PIECE: &str = "application/offset+octet-stream";

/// The only version of the protocol.
const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");

const EXTENSIONS: HeaderValue = HeaderValue::from_static("creation,creation-with-upload,expiration,termination");

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const VERSIONS: HeaderName = HeaderName::from_static("tus-version");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const CONCAT: HeaderName = HeaderName::from_static("upload-concat");
const CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");

/// The longest `Upload-Metadata`, in bytes.
const METADATA_BYTES: usize = 4096;

/// Says what we can do.
pub(crate) fn describe(response: &mut Response, max_bytes: u64) {
    let headers = response.headers_mut();
    headers.insert(RESUMABLE, VERSION);
    headers.insert(VERSIONS, VERSION);
    headers.insert(HeaderName::from_static("tus-extension"), EXTENSIONS);
    headers.insert(HeaderName::from_static("tus-max-size"), HeaderValue::from(max_bytes));
}

/// Begins an answer, which says which version it is of.
///
/// # Errors
/// If the request is of another version, or uses what we do not know and would leave undone.
pub(crate) fn begin(request: &Request, response: &mut Response) -> Result<(), Problem> {
    response.headers_mut().insert(RESUMABLE, VERSION);
    if request.headers().get(RESUMABLE) != Some(&VERSION) {
        let problem = Problem::new(Code::TusVersion, "Send the header `Tus-Resumable: 1.0.0`.");
        return Err(problem.header(VERSIONS, VERSION));
    }
    for (name, instead) in [
        (DEFER_LENGTH, "say the length with Upload-Length when the upload is made"),
        (CONCAT, "send the pieces one after another"),
        (CHECKSUM, "announce the checksum with Content-Digest"),
    ] {
        if request.headers().contains_key(&name) {
            return Err(Problem::new(Code::InvalidHeader, format!("{name} is not known here; {instead}.")));
        }
    }
    Ok(())
}

/// The length that a new upload announces.
///
/// # Errors
/// If it is missing or none.
pub(crate) fn length(headers: &HeaderMap) -> Result<u64, Problem> {
    number(headers, &LENGTH)
}

/// Where a piece begins.
///
/// # Errors
/// If it is missing or none.
pub(crate) fn offset(headers: &HeaderMap) -> Result<u64, Problem> {
    number(headers, &OFFSET)
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<u64, Problem> {
    let digits = text(headers, name)?.filter(|text| text.bytes().all(|c| c.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok());
    number.ok_or_else(|| Problem::new(Code::InvalidHeader, format!("{name} must be there, as a number of bytes.")))
}

/// Refuses what is no piece.
///
/// # Errors
/// If the body says that it is something else.
pub(crate) fn check_piece(headers: &HeaderMap) -> Result<(), Problem> {
    let given = text(headers, &CONTENT_TYPE)?.unwrap_or_default();
    if given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(PIECE) {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, format!("Send the piece with the header `Content-Type: {PIECE}`.")))
}

/// What a caller says of a new upload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// All of it, as it was sent.
    pub(crate) text: String,
    /// `filename`, or `name`.
    pub(crate) name: String,
    /// `sha256`: that of the whole file.
    pub(crate) sha256: Option<[u8; 32]>,
}

/// Reads `Upload-Metadata`: keys with values in Base64. Keys that we do not know are kept and given back.
///
/// # Errors
/// If it is too long or cannot be read.
pub(crate) fn metadata(headers: &HeaderMap) -> Result<Metadata, Problem> {
    let wrong = |words: &str| Problem::new(Code::InvalidHeader, format!("{METADATA} {words}."));
    let Some(given) = text(headers, &METADATA)?.filter(|given| !given.is_empty()) else {
        return Ok(Metadata::default());
    };
    if given.len() > METADATA_BYTES {
        return Err(wrong("may have 4096 bytes"));
    }
    let mut found = Metadata { text: given.to_owned(), ..Metadata::default() };
    let mut known = Vec::new();
    for pair in given.split(',') {
        let (key, encoded) = pair.trim().split_once(' ').unwrap_or((pair.trim(), ""));
        if key.is_empty() || known.contains(&key) {
            return Err(wrong("must be keys, each of them once, with values in Base64: `filename YS5tcDQ=`"));
        }
        known.push(key);
        let value = BASE64_STANDARD.decode(encoded.trim()).map_err(|_| wrong("holds a value that is not Base64"))?;
        match key {
            "filename" | "name" if found.name.is_empty() || key == "filename" => {
                found.name = String::from_utf8(value).map_err(|_| wrong("holds a name that is not UTF-8"))?;
            }
            "sha256" => {
                let mut sum = [0; 32];
                hex::decode_to_slice(value, &mut sum)
                    .map_err(|_| wrong("holds a sha256 that is not 64 hexadecimal digits"))?;
                found.sha256 = Some(sum);
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Says how far an upload is.
///
/// # Errors
/// If a header cannot hold it: a mistake of the programmer.
pub(crate) fn report(response: &mut Response, upload: &Upload) -> Result<(), Problem> {
    let headers = response.headers_mut();
    headers.insert(OFFSET, HeaderValue::from(upload.offset));
    match upload.state {
        UploadState::Arriving { expires_at } => {
            let expires = DateTimePrinter::new().timestamp_to_rfc9110_string(&expires_at).map_err(Problem::internal)?;
            headers.insert(HeaderName::from_static("upload-expires"), value(expires)?);
        }
        UploadState::Stored => {
            headers.insert(HeaderName::from_static("upload-file"), value(upload.id.to_string())?);
        }
        UploadState::Expired => {}
    }
    Ok(())
}

/// Says what was announced.
///
/// # Errors
/// As [`report`].
pub(crate) fn repeat(response: &mut Response, upload: &Upload) -> Result<(), Problem> {
    let headers = response.headers_mut();
    headers.insert(LENGTH, HeaderValue::from(upload.announced.bytes));
    if !upload.announced.metadata.is_empty() {
        headers.insert(METADATA, value(&upload.announced.metadata)?);
    }
    Ok(())
}

/// Says where an upload is found.
///
/// # Errors
/// As [`report`].
pub(crate) fn locate(response: &mut Response, upload: &Upload) -> Result<(), Problem> {
    response.headers_mut().insert(LOCATION, value(format!("/api/v1/uploads/{}", upload.id))?);
    Ok(())
}

/// Where the upload ends, for a caller who thinks that it ends elsewhere.
pub(crate) fn elsewhere(offset: u64) -> Problem {
    let detail = format!("It has {offset} bytes so far: go on from there.");
    Problem::new(Code::OffsetConflict, detail).header(OFFSET, HeaderValue::from(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: HeaderName, value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_bytes(value).unwrap())])
    }

    #[test]
    fn numbers_are_digits() {
        for (given, expected) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("0x10", None),
            ("", None),
        ] {
            assert_eq!(length(&one(LENGTH, given.as_bytes())).ok(), expected, "{given}");
        }
        assert!(offset(&HeaderMap::new()).is_err());
    }

    #[test]
    fn metadata_is_read_or_refused() {
        let read = |text: &str| metadata(&one(METADATA, text.as_bytes()));
        let sum = BASE64_STANDARD.encode(hex::encode([7; 32]));
        let found =
            read(&format!("name Yg==, filename w4l0w6k=,is_private,filetype dmlkZW8vbXA0 ,sha256 {sum}")).unwrap();
        assert_eq!((found.name.as_str(), found.sha256), ("Été", Some([7; 32])));
        assert_eq!(read("name Yg==").unwrap().name, "b");
        assert_eq!(read("").unwrap(), Metadata::default());
        for wrong in [
            "filename ===",
            "filename /w==",
            "filename YQ==,filename YQ==",
            "filename YQ==,,",
            ",",
            "sha256 YQ==",
            &format!("filename {}", "YWFh".repeat(2000)),
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(metadata(&one(METADATA, b"filename \xff")).is_err());
    }

    #[test]
    fn a_piece_says_what_it_is() {
        for (given, good) in [
            (PIECE, true),
            ("Application/Offset+Octet-Stream; x=y", true),
            ("application/octet-stream", false),
            ("", false),
        ] {
            assert_eq!(check_piece(&one(CONTENT_TYPE, given.as_bytes())).is_ok(), good, "{given}");
        }
        assert!(check_piece(&HeaderMap::new()).is_err());
    }
}
