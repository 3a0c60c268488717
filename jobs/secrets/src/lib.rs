#![doc = include_str!("../README.md")]

mod links;

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use fourmi_settings::{Data, Secret, SecretKeys};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac, digest::Key};
use sha2::Sha256;

/// How what is sealed begins: the way it was sealed in.
const SEALED: &str = "v1.";

/// The length of a nonce of XChaCha20-Poly1305: long enough to be drawn at random.
const NONCE_BYTES: usize = 24;

/// A text that is too long to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is too long to be sealed")]
pub struct TooLong;

/// The keys that are derived from the secret of the platform, and from the one before it.
pub struct Secrets {
    present: Derived,
    before: Option<Derived>,
}

struct Derived(Hkdf<Sha256>);

impl Secrets {
    /// The secret of the settings, else the one in the data folder, which is made if there is none.
    ///
    /// # Errors
    /// If the file cannot be read or made, or holds a secret that can be guessed.
    pub fn load(settings: &SecretKeys, data: &Data) -> anyhow::Result<Self> {
        let present = match &settings.present {
            Some(secret) => secret.clone(),
            None => of_file(&data.secret_key())?,
        };
        Ok(Self { present: Derived::of(&present), before: settings.before.as_ref().map(Derived::of) })
    }

    /// The key for a purpose (HKDF, RFC 5869): what is made with one tells nothing about another.
    pub fn key(&self, purpose: &str) -> [u8; 32] {
        self.present.key(purpose)
    }

    /// Hides a text from whoever reads where it is kept. It opens in the same context only: what was sealed for one person
    /// does not serve for another.
    ///
    /// # Errors
    /// If it is longer than 256 GiB.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<String, TooLong> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: plain, aad: context.as_bytes() };
        let sealed = self.present.cipher().encrypt(&XNonce::from(nonce), payload).map_err(|_| TooLong)?;
        Ok(format!("{SEALED}{}", BASE64_URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// What was sealed in this context, with the present secret or the one before; `None` if it was not, or was changed.
    pub fn open(&self, context: &str, sealed: &str) -> Option<Vec<u8>> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(sealed.strip_prefix(SEALED)?).ok()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let open = |derived: &Derived| {
            derived.cipher().decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: context.as_bytes() }).ok()
        };
        self.all().find_map(open)
    }

    /// What proves, to whoever knows the secret, that these parts were put together for a purpose: URL-safe text.
    pub fn proof(&self, purpose: &str, parts: &[&str]) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.present.mac(purpose, parts).finalize().into_bytes())
    }

    /// Whether `shown` is the [proof](Self::proof) of these parts, made with the present secret or the one before.
    pub fn is_proof(&self, purpose: &str, parts: &[&str], shown: &str) -> bool {
        // `verify_slice` takes the same time whatever is wrong.
        let Ok(shown) = BASE64_URL_SAFE_NO_PAD.decode(shown) else { return false };
        self.all().any(|derived| derived.mac(purpose, parts).verify_slice(&shown).is_ok())
    }

    fn all(&self) -> impl Iterator<Item = &Derived> {
        std::iter::once(&self.present).chain(&self.before)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Derived {
    fn of(secret: &Secret) -> Self {
        Self(Hkdf::new(Some(b"fourmi 1"), secret.expose().as_bytes()))
    }

    #[expect(clippy::expect_used, reason = "HKDF gives up to 8,160 bytes")]
    fn key(&self, purpose: &str) -> [u8; 32] {
        let mut key = [0; 32];
        self.0.expand(purpose.as_bytes(), &mut key).expect("32 bytes are not too many");
        key
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.key("sealing").into())
    }

    fn mac(&self, purpose: &str, parts: &[&str]) -> Hmac<Sha256> {
        let mut mac = hmac_sha256(&self.key(purpose));
        for part in parts {
            // With their lengths, no two lists of parts give one message.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }
}

/// HMAC-SHA256 with a key of 32 bytes, which is shorter than a block and so filled up with zeros (RFC 2104).
pub fn hmac_sha256(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Key::<Hmac<Sha256>>::default();
    block[..key.len()].copy_from_slice(key);
    Hmac::new(&block)
}

/// The secret in the file at `path`. Servers that start at the same time agree on one.
fn of_file(path: &Path) -> anyhow::Result<Secret> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let new = format!("{}\n", hex::encode(rand::random::<[u8; 32]>()));
            create_once(path, new.as_bytes())
                .with_context(|| format!("the secret key cannot be written to {}", path.display()))?;
            fs::read_to_string(path)
        }
        read => read,
    };
    let text = text.with_context(|| format!("the secret key cannot be read from {}", path.display()))?;
    let secret = Secret::new(text.trim());
    anyhow::ensure!(
        secret.is_strong(),
        "{} holds a secret that can be guessed: write at least 32 characters into it that nobody can guess, such as \
         `openssl rand -hex 32` prints, or delete it, and one is made",
        path.display()
    );
    Ok(secret)
}

/// Makes a file that only its owner may read, with all of its content at once, unless there is one.
///
/// # Errors
/// If the folder cannot be written to.
pub fn create_once(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".new-key").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => fs::File::open(folder)?.sync_all(),
        Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(failed) => Err(failed.error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use fourmi_settings::Environment;

    use super::*;

    const PRESENT: &str = "b1f6c0de94a7835e2d1f6c0de94a7835";
    const BEFORE: &str = "0f9e8d7c6b5a49382716f5e4d3c2b1a0";

    fn secrets(variables: &[(&str, &str)]) -> Secrets {
        let settings = SecretKeys::read(&Environment::of(variables.iter().copied())).unwrap();
        Secrets::load(&settings, &Data::at("/nowhere")).unwrap()
    }

    #[test]
    fn the_secret_is_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::at(folder.path());
        let settings = SecretKeys::read(&Environment::of::<&str, &str>([])).unwrap();
        let first = Secrets::load(&settings, &data).unwrap();
        let second = Secrets::load(&settings, &data).unwrap();
        assert_eq!(first.key("tokens 1"), second.key("tokens 1"));
        assert_eq!(fs::metadata(data.secret_key()).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(data.secret_key()).unwrap();
        assert_eq!(text.trim().len(), 64);
        assert!(!format!("{first:?}").contains(text.trim()));
        // The setting wins over the file.
        let given = SecretKeys::read(&Environment::of([("FOURMI_SECRET_KEY", PRESENT)])).unwrap();
        assert_ne!(Secrets::load(&given, &data).unwrap().key("tokens 1"), first.key("tokens 1"));
    }

    #[test]
    fn a_file_with_a_weak_secret_refuses_the_start_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::at(folder.path());
        let settings = SecretKeys::read(&Environment::of::<&str, &str>([])).unwrap();
        for weak in ["", "short", "please-change-me-please-change-me-0123456789"] {
            fs::write(data.secret_key(), weak).unwrap();
            let error = format!("{:#}", Secrets::load(&settings, &data).unwrap_err());
            assert!(error.contains("secret-key") && error.contains("openssl rand -hex 32"), "{error}");
            assert!(weak.is_empty() || !error.contains(weak), "{error}");
        }
        let nowhere = Secrets::load(&settings, &Data::at(folder.path().join("none"))).unwrap_err();
        assert!(format!("{nowhere:#}").contains("cannot be written"), "{nowhere:#}");
    }

    #[test]
    fn every_purpose_has_a_key_of_its_own() {
        let secrets = secrets(&[("FOURMI_SECRET_KEY", PRESENT)]);
        assert_ne!(secrets.key("tokens 1"), secrets.key("tokens 2"));
        let all: std::collections::HashSet<_> =
            ["tokens 1", "sealing", "links", "forms"].map(|purpose| secrets.key(purpose)).into();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn what_is_sealed_opens_in_its_context_only() {
        let secrets = secrets(&[("FOURMI_SECRET_KEY", PRESENT)]);
        let sealed = secrets.seal("totp user-1", b"twenty bytes of seed").unwrap();
        assert!(sealed.starts_with("v1."));
        assert_ne!(sealed, secrets.seal("totp user-1", b"twenty bytes of seed").unwrap());
        assert_eq!(secrets.open("totp user-1", &sealed).unwrap(), b"twenty bytes of seed");
        assert_eq!(secrets.open("totp user-2", &sealed), None);
        for place in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(secrets.open("totp user-1", &String::from_utf8(changed).unwrap()), None, "{place}");
            assert_eq!(secrets.open("totp user-1", &sealed[..place]), None, "{place}");
        }
        let empty = secrets.seal("", b"").unwrap();
        assert_eq!(secrets.open("", &empty).unwrap(), b"");
    }

    #[test]
    fn the_secret_before_still_opens_and_no_longer_seals() {
        let old = secrets(&[("FOURMI_SECRET_KEY", BEFORE)]);
        let new = secrets(&[("FOURMI_SECRET_KEY", PRESENT), ("FOURMI_SECRET_KEY_BEFORE", BEFORE)]);
        let later = secrets(&[("FOURMI_SECRET_KEY", PRESENT)]);
        let sealed = old.seal("a", b"b").unwrap();
        let (link, form) = (old.proof("links", &["1", "reset"]), old.proof("forms", &["session"]));
        assert_eq!(new.open("a", &sealed).unwrap(), b"b");
        assert!(new.is_proof("links", &["1", "reset"], &link) && new.is_proof("forms", &["session"], &form));
        assert_eq!(later.open("a", &sealed), None);
        assert!(!later.is_proof("links", &["1", "reset"], &link) && !later.is_proof("forms", &["session"], &form));
        assert_eq!(old.open("a", &new.seal("a", b"b").unwrap()), None);
        assert_eq!(new.key("tokens 1"), later.key("tokens 1"));
    }

    #[test]
    fn a_proof_is_of_its_parts_and_purpose() {
        let secrets = secrets(&[("FOURMI_SECRET_KEY", PRESENT)]);
        let proof = secrets.proof("links", &["1", "reset"]);
        assert!(secrets.is_proof("links", &["1", "reset"], &proof));
        for (purpose, parts) in
            [("forms", &["1", "reset"][..]), ("links", &["2", "reset"]), ("links", &["1r", "eset"]), ("links", &["1"])]
        {
            assert!(!secrets.is_proof(purpose, parts, &proof), "{purpose} {parts:?}");
        }
        for wrong in ["", "AAAA", "not base64!", &proof[1..], &format!("{proof}A"), &format!("{proof}=")] {
            assert!(!secrets.is_proof("links", &["1", "reset"], wrong), "{wrong}");
        }
    }
}
