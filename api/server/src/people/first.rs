//! The first admin, who can make all others: with a random password in a file of the data folder.

use std::{fs, io, path::Path};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fourmi_model::{Role, UserId};
use fourmi_records::User;
use fourmi_secrets::create_once;
use jiff::Timestamp;

use super::People;

/// What the first admin logs in as.
const USERNAME: &str = "admin";

/// Makes the first admin if there is nobody at all.
///
/// Servers that start at the same time agree on one password: the file appears whole, once, and whoever comes second takes
/// what is there. It is there before the account, so that nobody is made whom nobody can be.
///
/// # Errors
/// If the file cannot be read or made, or the records do not answer.
pub(super) async fn ensure(people: &People) -> anyhow::Result<()> {
    if people.records.any_user().await? {
        return Ok(());
    }
    let id = UserId::random();
    let path = &people.admin_password;
    let secret = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 18]>());
    let text = format!("{secret}\n");
    create_once(path, text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let password = text.trim().to_owned();
    people.passwords.check_strength(&password, &[USERNAME]).await?.map_err(|reason| {
        anyhow::anyhow!(
            "{} holds no good password for the first admin: {reason}; delete it, and one is made",
            path.display()
        )
    })?;
    let password_hash = people.passwords.hash(&password).await?;
    let now = Timestamp::now();
    let admin = User {
        username: Some(USERNAME.to_owned()),
        password_hash: Some(password_hash),
        password_changed_at: Some(now),
        ..User::new(id, Role::SuperAdmin, now)
    };
    if people.records.add_user(&admin).await? {
        tracing::info!(user.id = %admin.id, "the first admin was made: {USERNAME}, with the password in {}", path.display());
    }
    Ok(())
}

/// Removes the file once its password opens nothing any more.
pub(super) fn forget(path: &Path, user: &User) {
    if user.username.as_deref() != Some(USERNAME) {
        return;
    }
    match fs::remove_file(path) {
        Ok(()) => tracing::info!("{} was removed: its password was changed", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "{} cannot be removed; its password opens nothing", path.display()),
    }
}
