//! What equal requests made before.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use fourmi_kinds::{AudioExtract, AudioExtracted, Source};
use fourmi_model::{Artifact, Failure};
use fourmi_runtime::{Context, write_whole};

use crate::{
    pipeline::PLAYLIST,
    source::{Held, Page, hash, hold, is_held, normal},
};

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
        if is_too_large {
            return None;
        }
        let files = self.shared(result.files).await.ok()?;
        Some(AudioExtracted { files, reused: true, ..result })
    }

    /// The files as those of whoever submitted this job: nobody is given what somebody else may delete, or what they may
    /// not see. They come in the order in which they were made, so that playlists follow what they name.
    async fn shared(&self, files: Vec<Artifact>) -> Result<Vec<Artifact>, Failure> {
        let mut shared = Vec::with_capacity(files.len());
        let mut renamed = Vec::new();
        for file in files {
            let id = file.file;
            let file = if file.media_type == PLAYLIST && !renamed.is_empty() {
                self.renamed(&file, &renamed).await?
            } else {
                Artifact { file: self.context.share(id).await?, ..file }
            };
            if file.file != id {
                renamed.push((id.to_string(), file.file.to_string()));
            }
            shared.push(file);
        }
        Ok(shared)
    }

    /// A playlist that names these files by their new ids.
    async fn renamed(&self, playlist: &Artifact, ids: &[(String, String)]) -> Result<Artifact, Failure> {
        let broken =
            |error: std::io::Error| Failure::retry("storage_failed", "a playlist cannot be read").because(error);
        let text = fs::read_to_string(self.context.input(playlist.file).await?.path).map_err(broken)?;
        let text = ids.iter().fold(text, |text, (old, new)| text.replace(old, new));
        let path = self.context.scratch()?.join("reused.m3u8");
        fs::write(&path, text).map_err(broken)?;
        self.context.store(&path, &playlist.role, &playlist.name, PLAYLIST).await
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
