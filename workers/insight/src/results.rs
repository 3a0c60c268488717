//! What equal requests made of equal tables before.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use fourmi_kinds::{DatasetAnalyze, DatasetAnalyzed};
use fourmi_model::Failure;
use fourmi_runtime::{Context, write_whole};
use sha2::{Digest, Sha256};

/// Results are right for good; after so long their files are seldom there.
const OLDEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Grows when the same request gives other bytes than before.
const EDITION: u32 = 1;

/// The SHA-256 of everything that makes a difference to the result, but the table.
pub(crate) fn config_hash(job: &DatasetAnalyze) -> String {
    let mut options = serde_json::to_value(job).unwrap_or_default();
    if let Some(options) = options.as_object_mut() {
        for field in ["file", "dataset_id", "reuse"] {
            options.remove(field);
        }
    }
    hex::encode(Sha256::digest(format!("{EDITION} {options}")))
}

/// What an equal request made of an equal table, in a folder of the cache.
pub(crate) struct Results<'a> {
    place: PathBuf,
    context: &'a Context,
}

impl<'a> Results<'a> {
    pub(crate) fn open(input_hash: &str, config_hash: &str, context: &'a Context) -> Result<Self, Failure> {
        let folder = context.cache()?.join("results");
        fs::create_dir_all(&folder)
            .map_err(|error| Failure::retry("storage_failed", "the cache cannot be used").because(error))?;
        tidy(&folder);
        let key = hex::encode(Sha256::digest(format!("{input_hash} {config_hash}")));
        Ok(Self { place: folder.join(format!("{key}.json")), context })
    }

    /// The result, if all of its files are still there. They become files of whoever submitted this job.
    pub(crate) async fn find(&self) -> Option<DatasetAnalyzed> {
        let mut result: DatasetAnalyzed = serde_json::from_slice(&fs::read(&self.place).ok()?).ok()?;
        for file in &mut result.files {
            file.file = self.context.share(file.file).await.ok()?;
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
