//! The secrets of keys. They are random, so that a fast hash of them is enough.

use sha2::{Digest, Sha256};

/// Letters of a secret that are kept readable: the word `fourmi_` and four more.
const PREFIX_LETTERS: usize = 11;

/// `fourmi_` and 192 random bits.
pub(super) fn new() -> String {
    format!("fourmi_{}", hex::encode(rand::random::<[u8; 24]>()))
}

/// What is kept of it.
pub(super) fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// Its beginning, for a person to recognise it by.
pub(super) fn prefix(secret: &str) -> String {
    secret.chars().take(PREFIX_LETTERS).collect()
}

/// Whether it may be one: shorter ones can be guessed; white space does not survive a header.
pub(super) fn is_strong(secret: &str) -> bool {
    (16..=256).contains(&secret.len()) && secret.bytes().all(|c| c.is_ascii_graphic())
}
