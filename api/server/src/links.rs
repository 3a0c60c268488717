//! Links that open one file for a while, without a key.
//!
//! A link holds when it ends and a signature (HMAC-SHA-256) of that, of the file and of how it is to be shown. Nothing is
//! kept of it: it cannot be taken back before its time but with all others, by deleting the key that signs.

use std::{fmt, fs, path::Path};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fourmi_model::BlobId;
use fourmi_secrets::create_once;
use hmac::{Hmac, KeyInit, Mac, digest::Key};
use jiff::Timestamp;
use salvo::Request;
use sha2::Sha256;

use crate::problem::{Code, Problem};

const EXPIRES: &str = "expires";
const DOWNLOAD: &str = "download";
const SIGNATURE: &str = "signature";

/// What signs links, and knows its own signatures.
pub struct Links {
    key: [u8; 32],
}

/// What a link allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Until when.
    pub(crate) expires: Timestamp,
    /// Whether the file is to be saved rather than shown.
    pub(crate) download: bool,
}

impl Links {
    /// Reads the key at `path`, which is made if there is none. Servers that start at the same time agree on one.
    ///
    /// # Errors
    /// If it cannot be read or made, or is something else.
    pub fn load_or_create(path: &Path) -> anyhow::Result<Self> {
        let new = format!("{}\n", hex::encode(rand::random::<[u8; 32]>()));
        create_once(path, new.as_bytes())
            .with_context(|| format!("the key of links cannot be written to {}", path.display()))?;
        let text = fs::read_to_string(path)
            .with_context(|| format!("the key of links cannot be read from {}", path.display()))?;
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim(), &mut key).ok().with_context(|| {
            format!("{} is damaged; delete it, and another is made: links given out so far end then", path.display())
        })?;
        Ok(Self { key })
    }

    /// Links for tests, with a key of their own.
    #[doc(hidden)]
    pub fn random() -> Self {
        Self { key: rand::random() }
    }

    /// The query that opens a file.
    pub(crate) fn query(&self, file: &BlobId, grant: Grant) -> String {
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.mac(file, grant).finalize().into_bytes());
        let download = if grant.download { "&download=true" } else { "" };
        format!("{EXPIRES}={}{download}&{SIGNATURE}={signature}", grant.expires.as_second())
    }

    /// Whether the request comes by a link, good or bad.
    pub(crate) fn is_used(request: &Request) -> bool {
        request.queries().contains_key(SIGNATURE)
    }

    /// What the link that a request comes by allows. Other words of the query are not ours to judge.
    ///
    /// # Errors
    /// If it is none that we made for this file, or its time is over.
    pub(crate) fn check(&self, file: &BlobId, request: &Request) -> Result<Grant, Problem> {
        let (grant, signature) = read(request).ok_or_else(invalid)?;
        self.mac(file, grant).verify_slice(&signature).map_err(|_| invalid())?;
        if grant.expires <= Timestamp::now() {
            return Err(Problem::new(Code::LinkExpired, format!("It ended at {}; ask for another.", grant.expires)));
        }
        Ok(grant)
    }

    fn mac(&self, file: &BlobId, Grant { expires, download }: Grant) -> Hmac<Sha256> {
        // A key shorter than a block is filled up with zeros (RFC 2104).
        let mut key = Key::<Hmac<Sha256>>::default();
        key[..self.key.len()].copy_from_slice(&self.key);
        let mut mac = Hmac::<Sha256>::new(&key);
        mac.update(format!("fourmi link 1\n{file}\n{}\n{download}\n", expires.as_second()).as_bytes());
        mac
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

fn invalid() -> Problem {
    Problem::new(Code::LinkInvalid, "It was changed, cut off, or made for another file or platform.")
}

/// A link's words, each of which may stand once.
fn read(request: &Request) -> Option<(Grant, Vec<u8>)> {
    let queries = request.queries();
    let one = |name| match queries.get_vec(name).map(Vec::as_slice) {
        None => Some(None),
        Some([value]) => Some(Some(value.as_str())),
        Some(_) => None,
    };
    let expires = Timestamp::from_second(one(EXPIRES)??.parse().ok()?).ok()?;
    let download = match one(DOWNLOAD)? {
        None => false,
        Some("true") => true,
        Some(_) => return None,
    };
    let signature = BASE64_URL_SAFE_NO_PAD.decode(one(SIGNATURE)??).ok()?;
    Some((Grant { expires, download }, signature))
}
