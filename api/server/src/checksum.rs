//! Checksums that callers announce.

use base64::{Engine, prelude::BASE64_STANDARD};
use salvo::http::{HeaderMap, HeaderName};

use crate::{
    headers::text,
    problem::{Code, Problem},
};

const CONTENT_SHA256: HeaderName = HeaderName::from_static("content-sha256");

/// Where RFC 9530 and, before it, RFC 3230 put checksums.
const DIGESTS: [HeaderName; 3] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// The SHA-256 that the body should have: `Content-SHA256: <hex>` or `Digest: sha-256=<base64>`.
///
/// # Errors
/// If it is announced but cannot be read, or several are announced that differ.
pub(crate) fn announced(headers: &HeaderMap) -> Result<Option<[u8; 32]>, Problem> {
    let mut found = None;
    if let Some(value) = text(headers, &CONTENT_SHA256)? {
        let mut sum = [0; 32];
        hex::decode_to_slice(value, &mut sum).map_err(|_| unreadable(&CONTENT_SHA256))?;
        found = Some(sum);
    }
    for name in &DIGESTS {
        let Some(sum) = text(headers, name)?.and_then(sha256_of) else { continue };
        let sum = sum.ok_or_else(|| unreadable(name))?;
        if found.replace(sum).is_some_and(|other| other != sum) {
            return Err(Problem::new(Code::InvalidHeader, "Two checksums are announced that differ."));
        }
    }
    Ok(found)
}

/// The SHA-256 in a list of digests: `None` if there is none in it, `Some(None)` if it cannot be read.
fn sha256_of(list: &str) -> Option<Option<[u8; 32]>> {
    let mut digests = list.split(',').filter_map(|digest| digest.trim().split_once('='));
    let (_, value) = digests.find(|(algorithm, _)| algorithm.eq_ignore_ascii_case("sha-256"))?;
    // RFC 9530 writes bytes between colons.
    let value = value.trim_matches(':');
    Some(BASE64_STANDARD.decode(value).ok().and_then(|sum| sum.try_into().ok()))
}

fn unreadable(name: &HeaderName) -> Problem {
    let form = if *name == CONTENT_SHA256 { "64 hexadecimal digits" } else { "sha-256=<base64>" };
    Problem::new(Code::InvalidHeader, format!("{name} must be {form}."))
}

#[cfg(test)]
mod tests {
    use salvo::http::HeaderValue;
    use sha2::{Digest, Sha256};

    use super::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const BASE64: &str = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";

    fn read(headers: &[(HeaderName, &str)]) -> Result<Option<[u8; 32]>, Problem> {
        let pairs = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        announced(&pairs.collect())
    }

    #[test]
    fn every_form_gives_the_same_sum() {
        let expected: [u8; 32] = Sha256::digest("abc").into();
        let [content_digest, repr_digest, digest] = DIGESTS;
        for (name, value) in [
            (CONTENT_SHA256, HEX.to_owned()),
            (CONTENT_SHA256, HEX.to_uppercase()),
            (digest.clone(), format!("md5=abc, SHA-256={BASE64}")),
            (content_digest.clone(), format!("sha-256=:{BASE64}:")),
            (repr_digest, format!("sha-256=:{BASE64}:")),
        ] {
            assert_eq!(read(&[(name.clone(), &value)]).unwrap(), Some(expected), "{name}: {value}");
        }
        assert_eq!(read(&[(digest.clone(), "md5=abc")]).unwrap(), None);
        assert_eq!(read(&[]).unwrap(), None);
        for (name, value) in [(CONTENT_SHA256, "abc"), (digest, "sha-256=abc"), (content_digest, "sha-256=::")] {
            assert!(read(&[(name.clone(), value)]).is_err(), "{name}: {value}");
        }
    }
}
