//! What equal requests made of equal tables before.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use fourmi_kinds::DatasetAnalyzed;
use fourmi_model::{Failure, TenantName};
use fourmi_runtime::{Context, InputFile, write_whole};
use sha2::{Digest, Sha256};

use crate::kinds::file_name;

/// Results are right for good; after so long their files are seldom there.
const OLDEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Grows when the same request gives other bytes than before.
pub(crate) const EDITION: u32 = 2;

/// Stands for those who are of no tenant; no tenant has such a name.
const NOBODY: &str = "*";

/// What an equal request of the same tenant made of an equal table, in a folder of the cache.
pub(crate) struct Results<'a> {
    place: PathBuf,
    table: &'a InputFile,
    context: &'a Context,
}

impl<'a> Results<'a> {
    /// Tenants do not meet: not even the time that an answer takes tells one what another has.
    pub(crate) async fn open(table: &'a InputFile, config_hash: &str, context: &'a Context) -> Result<Self, Failure> {
        let tenant = context.tenant().await?;
        let folder = context.cache()?.join("results");
        fs::create_dir_all(&folder)
            .map_err(|error| Failure::retry("storage_failed", "the cache cannot be used").because(error))?;
        tidy(&folder);
        let tenant = tenant.as_ref().map_or(NOBODY, TenantName::as_str);
        let key = hex::encode(Sha256::digest(format!("{tenant} {} {config_hash}", table.sha256)));
        Ok(Self { place: folder.join(format!("{key}.json")), table, context })
    }

    /// The result, if all of its files are still there. They become files of this job, named after its own table.
    pub(crate) async fn find(&self) -> Option<DatasetAnalyzed> {
        let mut result: DatasetAnalyzed = serde_json::from_slice(&fs::read(&self.place).ok()?).ok()?;
        for file in &result.files {
            // Somebody may have deleted one.
            self.context.input(file.file).await.ok()?;
        }
        for file in &mut result.files {
            let name = file_name(&self.table.name, &file.role);
            *file = self.context.share_as(file, name).await.ok()?;
        }
        result.cached = true;
        Some(result)
    }

    /// Notes a result; that it cannot be noted costs the next request its time, and no more.
    pub(crate) fn note(&self, result: &DatasetAnalyzed) {
        if let Ok(text) = serde_json::to_vec(result)
            && let Err(error) = write_whole(&self.place, &text)
        {
            tracing::debug!(%error, "a result could not be noted");
        }
    }
}

/// Removes results that are too old.
fn tidy(folder: &std::path::Path) {
    for item in fs::read_dir(folder).into_iter().flatten().flatten() {
        let made = item.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = made.and_then(|made| SystemTime::now().duration_since(made).ok()).unwrap_or_default();
        if age > OLDEST {
            // Another process may have been quicker.
            let _ = fs::remove_file(item.path());
        }
    }
}
