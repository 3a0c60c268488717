//! The first key, which opens everything: a file in the data folder, for whoever runs the platform.

use std::{fs, io, path::Path};

use anyhow::Context;
use fourmi_model::Scopes;
use fourmi_records::{ApiKey, Records};
use fourmi_secrets::create_once;
use jiff::Timestamp;
use serde::Deserialize;

use super::secret;

/// Where earlier versions kept hashes of keys, each of which opened everything.
#[derive(Deserialize)]
struct EarlierKey {
    id: String,
    prefix: String,
    sha256: String,
    created_at: Timestamp,
}

/// Sees to it that there is a key: the one in the file at `plain`; if there is no file and no key either, a new one, which
/// is written there. So whoever may write into the data folder can always come in again.
///
/// Servers that start at the same time agree on one key: the file appears whole, once, and whoever comes second takes what
/// is there.
///
/// # Errors
/// If a file cannot be read or made, or holds something else, or the records do not answer.
pub(super) async fn ensure(records: &Records, plain: &Path, earlier: &Path) -> anyhow::Result<()> {
    import(records, earlier).await?;
    let text = match fs::read_to_string(plain) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !records.keys().await?.is_empty() {
                return Ok(());
            }
            create_once(plain, format!("{}\n", secret::new()).as_bytes())
                .with_context(|| format!("the API key cannot be written to {}", plain.display()))?;
            fs::read_to_string(plain).with_context(|| format!("the API key cannot be read from {}", plain.display()))?
        }
        Err(error) => {
            return Err(error).with_context(|| format!("the API key cannot be read from {}", plain.display()));
        }
    };
    let secret = text.trim();
    anyhow::ensure!(
        secret::is_strong(secret),
        "{} holds no API key: at least 16 visible ASCII characters; delete it, and one is made",
        plain.display()
    );
    let hash = secret::hash(secret.as_bytes());
    let id = format!("key-{}", &hex::encode(hash)[..12]);
    records.add_key(&admin(id, secret::prefix(secret), hex::encode(hash), Timestamp::now())).await?;
    Ok(())
}

async fn import(records: &Records, earlier: &Path) -> anyhow::Result<()> {
    let text = match fs::read(earlier) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", earlier.display())),
    };
    let keys: Vec<EarlierKey> = serde_json::from_slice(&text)
        .with_context(|| format!("{} is damaged; delete it to do without its keys", earlier.display()))?;
    for EarlierKey { id, prefix, sha256, created_at } in keys {
        records.add_key(&admin(id, prefix, sha256, created_at)).await?;
    }
    Ok(())
}

/// A key that opens everything.
pub(super) fn admin(id: String, prefix: String, sha256: String, created_at: Timestamp) -> ApiKey {
    ApiKey {
        id,
        version: 1,
        name: "first key".to_owned(),
        prefix,
        sha256,
        previous_sha256: None,
        previous_until: None,
        tenant: None,
        scopes: Scopes::all(),
        device: false,
        created_at,
        created_by: None,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        rate_limit: None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{super::Keys, *};

    #[tokio::test(flavor = "multi_thread")]
    async fn servers_that_start_together_agree_on_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, earlier) = (folder.path().join("api-key"), folder.path().join("api-keys.json"));
        let records = Records::open(&folder.path().join("records")).await.unwrap();
        let start = || tokio::spawn(open(records.clone(), plain.clone(), earlier.clone()));
        async fn open(records: Records, plain: std::path::PathBuf, earlier: std::path::PathBuf) -> Keys {
            Keys::open_all(records, &plain, &earlier).await.unwrap()
        }
        let servers: Vec<_> = (0..8).map(|_| start()).collect();
        let mut all = Vec::new();
        for server in servers {
            all.push(server.await.unwrap());
        }

        let key = fs::read_to_string(&plain).unwrap();
        assert!(all.iter().all(|keys| keys.who(key.trim().as_bytes()).is_some()));
        assert!(all[0].who(key.as_bytes()).is_none() && all[0].who(b"").is_none());
        assert_eq!(records.keys().await.unwrap().len(), 1);
        assert_eq!(fs::metadata(&plain).unwrap().permissions().mode() & 0o777, 0o600);

        // The operator may keep the key elsewhere, and put a new one there to come in again.
        fs::remove_file(&plain).unwrap();
        let keys = open(records.clone(), plain.clone(), earlier.clone()).await;
        assert!(keys.who(key.trim().as_bytes()).is_some() && !plain.exists());
        fs::write(&plain, "chosen-by-the-operator\n").unwrap();
        let keys = open(records.clone(), plain.clone(), earlier.clone()).await;
        assert!(keys.who(b"chosen-by-the-operator").is_some());
        fs::write(&plain, "short\n").unwrap();
        assert!(Keys::open_all(records, &plain, &earlier).await.is_err());
    }

    #[tokio::test]
    async fn keys_of_earlier_versions_are_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, earlier) = (folder.path().join("api-key"), folder.path().join("api-keys.json"));
        let records = Records::open(&folder.path().join("records")).await.unwrap();
        let sha256 = hex::encode(secret::hash(b"fourmi_of_an_earlier_version"));
        let text = format!(
            r#"[{{"id": "key-1", "prefix": "fourmi_of_a", "sha256": "{sha256}", "created_at": "2026-01-01T00:00:00Z"}}]"#
        );
        fs::write(&earlier, text).unwrap();
        let keys = Keys::open_all(records.clone(), &plain, &earlier).await.unwrap();
        assert_eq!(keys.who(b"fourmi_of_an_earlier_version").unwrap().id(), "key-1");
        assert!(!plain.exists());
        fs::write(&earlier, "[{").unwrap();
        let damaged = Keys::open_all(records, &plain, &earlier).await.err().unwrap();
        assert!(damaged.to_string().contains("is damaged"));
    }
}
