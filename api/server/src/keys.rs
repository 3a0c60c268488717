//! API keys: the server keeps hashes only; the first key is made at first start.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use fourmi_model::Scopes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::caller::{Caller, Rights};

/// The keys that open the API.
#[derive(Debug)]
pub struct Keys {
    keys: Vec<Key>,
}

/// What is kept of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    id: String,
    /// Its beginning, for a person to recognise it by.
    prefix: String,
    /// In lower-case hexadecimal digits.
    sha256: String,
    created_at: Timestamp,
}

/// Letters of a key that are kept readable: the word `fourmi_` and four more.
const PREFIX_LETTERS: usize = 11;

impl Keys {
    /// Reads the hashes at `hashes`. If there are none yet, they are made of the key at `plain`, which is made if need be.
    ///
    /// Servers that start at the same time agree on one key: each file appears whole, once, and whoever comes second
    /// takes what is there.
    ///
    /// # Errors
    /// If a file cannot be read or made, or holds something else.
    pub fn load_or_create(plain: &Path, hashes: &Path) -> anyhow::Result<Self> {
        if let Some(keys) = read(hashes)? {
            return Ok(keys);
        }
        create_once(plain, format!("{}\n", new_key()).as_bytes())
            .with_context(|| format!("the API key cannot be written to {}", plain.display()))?;
        let text = fs::read_to_string(plain)
            .with_context(|| format!("the API key cannot be read from {}", plain.display()))?;
        let key = Key::of(text.trim()).with_context(|| format!("{} holds no API key", plain.display()))?;
        create_once(hashes, &serde_json::to_vec_pretty(&[key])?)
            .with_context(|| format!("the keys' hashes cannot be written to {}", hashes.display()))?;
        read(hashes)?.with_context(|| format!("{} has gone away", hashes.display()))
    }

    /// Who shows this key, if it is known. All keys are compared in full, so that the time taken says nothing.
    pub(crate) fn open(&self, key: &[u8]) -> Option<Caller> {
        let hash = hex::encode(Sha256::digest(key));
        let is_it = |key: &Key| key.sha256.as_bytes().ct_eq(hash.as_bytes());
        let known: bool = self.keys.iter().fold(Choice::from(0), |known, key| known | is_it(key)).into();
        let key = self.keys.iter().find(|key| known && key.sha256 == hash)?;
        Some(Caller::new(Rights {
            key: key.id.clone(),
            tenant: None,
            own_only: false,
            scopes: Scopes::all(),
            rate_limit: None,
        }))
    }

    /// Keys for tests: just this one.
    #[doc(hidden)]
    pub fn only(key: &str) -> Self {
        Self { keys: Key::of(key).into_iter().collect() }
    }
}

impl Key {
    /// `None` for text that is no key.
    fn of(key: &str) -> Option<Self> {
        // Shorter ones can be guessed; white space does not survive a header.
        if key.len() < 16 || !key.bytes().all(|c| c.is_ascii_graphic()) {
            return None;
        }
        let sha256 = hex::encode(Sha256::digest(key));
        Some(Self {
            id: format!("key-{}", &sha256[..12]),
            prefix: key[..PREFIX_LETTERS].to_owned(),
            sha256,
            created_at: Timestamp::now(),
        })
    }
}

/// `fourmi_` and 192 random bits.
fn new_key() -> String {
    format!("fourmi_{}", hex::encode(rand::random::<[u8; 24]>()))
}

fn read(path: &Path) -> anyhow::Result<Option<Keys>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    let keys: Vec<Key> = serde_json::from_slice(&text).with_context(|| {
        format!("{} is damaged; delete it, and it is made anew from the file api-key beside it", path.display())
    })?;
    anyhow::ensure!(!keys.is_empty(), "{} holds no key; delete it, and it is made anew", path.display());
    Ok(Some(Keys { keys }))
}

/// Makes a file that only its owner may read, with all of its content at once, unless there is one.
pub(crate) fn create_once(path: &Path, content: &[u8]) -> io::Result<()> {
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
    use std::{os::unix::fs::PermissionsExt, sync::Barrier, thread};

    use super::*;

    #[test]
    fn servers_that_start_together_agree_on_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, hashes) = (folder.path().join("api-key"), folder.path().join("api-keys.json"));
        let start = Barrier::new(8);
        let servers = || {
            start.wait();
            Keys::load_or_create(&plain, &hashes).unwrap()
        };
        let all: Vec<Keys> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(servers)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        let key = fs::read_to_string(&plain).unwrap();
        assert!(all.iter().all(|keys| keys.keys.len() == 1 && keys.open(key.trim().as_bytes()).is_some()));
        assert!(all[0].open(key.as_bytes()).is_none() && all[0].open(b"").is_none());
        for path in [&plain, &hashes] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(!fs::read_to_string(&hashes).unwrap().contains(key.trim()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");

        // The operator may keep the key elsewhere.
        fs::remove_file(&plain).unwrap();
        assert!(Keys::load_or_create(&plain, &hashes).unwrap().open(key.trim().as_bytes()).is_some());
        assert!(!plain.exists());
    }

    #[test]
    fn a_key_that_is_there_is_taken_and_a_weak_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, hashes) = (folder.path().join("api-key"), folder.path().join("api-keys.json"));
        fs::write(&plain, "short\n").unwrap();
        assert!(Keys::load_or_create(&plain, &hashes).is_err());
        fs::write(&plain, "chosen-by-the-operator\n").unwrap();
        assert!(Keys::load_or_create(&plain, &hashes).unwrap().open(b"chosen-by-the-operator").is_some());
        fs::write(&hashes, "[{").unwrap();
        assert!(Keys::load_or_create(&plain, &hashes).unwrap_err().to_string().contains("is damaged"));
    }
}
