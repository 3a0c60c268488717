//! What equal requests made before.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use fourmi_kinds::{AudioExtract, AudioExtracted, Source};
use fourmi_model::Failure;
use fourmi_runtime::{Context, write_whole};

use crate::source::{Held, Page, hash, hold, is_held, normal};

/// Answers by content are right for good; after so long their files are seldom there.
const OLDEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Grows when the same request gives other files than before.
const EDITION: u32 = 1;

/// What equal requests made before, in a folder of the cache.
pub(crate) struct Results<'a> {
    folder: PathBuf,
    context: &'a Context,
    /// How long what an address gave may be used again.
    fresh: Duration,
    /// Everything that makes a difference to the files, but the source.
    wish: String,
    /// The largest source that the request takes.
    max_bytes: u64,
}

/// What an answer is looked up by.
pub(crate) enum Key<'a> {
    /// An address: the recording behind it may change.
    Url(&'a str),
    /// The SHA-256 of a recording.
    Content {
        sha256: &'a str,
        /// What its page says of it: that goes into the files, too.
        page: &'a Page,
    },
}

impl<'a> Results<'a> {
    pub(crate) fn open(
        request: &AudioExtract,
        wants_file: bool,
        fresh: Duration,
        context: &'a Context,
    ) -> Result<Self, Failure> {
        let folder = context.cache()?.join("results");
        fs::create_dir_all(&folder)
            .map_err(|error| Failure::retry("storage_failed", "the cache cannot be used").because(error))?;
        let max_bytes = request.max_bytes.unwrap_or(u64::MAX);
        let wish = AudioExtract {
            source: Source::Url(String::new()),
            reuse: true,
            // How large it is is known of an answer.
            max_bytes: None,
            rate_limit: None,
            ..request.clone()
        };
        let wish = serde_json::to_string(&wish).unwrap_or_default();
        Ok(Self { folder, context, fresh, wish: format!("{EDITION} {wants_file} {wish}"), max_bytes })
    }

    /// Waits until no other job works on the same, so that it is made once; the answer, if there is one by then.
    ///
    /// # Errors
    /// `cancelled`, `storage_failed`.
    pub(crate) async fn claim(
        &self,
        key: &Key<'_>,
        waiting: impl Fn(),
    ) -> Result<(Held, Option<AudioExtracted>), Failure> {
        let held = hold(&self.place(key).with_extension("lock"), self.context, waiting).await?;
        Ok((held, self.find(key).await))
    }

    async fn find(&self, key: &Key<'_>) -> Option<AudioExtracted> {
        let path = self.place(key);
        let made = fs::metadata(&path).ok()?.modified().ok()?;
        let most = if matches!(key, Key::Url(_)) { self.fresh } else { OLDEST };
        if SystemTime::now().duration_since(made).unwrap_or_default() > most {
            return None;
        }
        let result: AudioExtracted = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        for file in &result.files {
            // Somebody may have deleted one.
            self.context.input(file.file).await.ok()?;
        }
        let is_too_large = result.source.as_ref().is_some_and(|source| source.bytes > self.max_bytes);
        (!is_too_large).then_some(AudioExtracted { reused: true, ..result })
    }

    /// Notes an answer; that it cannot be noted costs the next request its time, and no more.
    pub(crate) fn note(&self, key: &Key<'_>, result: &AudioExtracted) {
        if let Ok(text) = serde_json::to_vec(result)
            && let Err(error) = write_whole(&self.place(key), &text)
        {
            tracing::debug!(%error, "a result could not be noted");
        }
    }

    fn place(&self, key: &Key<'_>) -> PathBuf {
        let key = match key {
            Key::Url(url) => format!("url {}", normal(url)),
            Key::Content { sha256, page } => {
                let said = (&page.tags, &page.chapters, &page.picture_url);
                format!("sha256 {sha256} {}", serde_json::to_string(&said).unwrap_or_default())
            }
        };
        self.folder.join(format!("{}.json", hash(&format!("{key} {}", self.wish))))
    }

    /// Removes answers that nobody may use any more.
    pub(crate) fn tidy(&self) {
        for item in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let age = item.metadata().and_then(|metadata| metadata.modified()).ok();
            let age = age.and_then(|made| SystemTime::now().duration_since(made).ok()).unwrap_or_default();
            let is_lock = item.path().extension().is_some_and(|ending| ending == "lock");
            if age > OLDEST && !(is_lock && is_held(&item.path())) {
                // Another process may have been quicker.
                let _ = fs::remove_file(item.path());
            }
        }
    }
}
