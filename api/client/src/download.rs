//! Fetching a file: resumed when cut, checked, and only then given its name.

use std::{
    io::{self, Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use fourmi_model::BlobId;
use reqwest::{Method, Response, StatusCode, header};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::{Client, ClientError, patience::Patience};

type OnProgress = Box<dyn Fn(u64, Option<u64>) + Send + Sync>;

/// A file about to be fetched. Nothing happens before [`to`](Self::to).
#[must_use = "a file is fetched by to()"]
pub struct Download {
    client: Client,
    file: BlobId,
    sha256: Option<String>,
    replace: bool,
    on_progress: OnProgress,
}

impl Client {
    /// The stored file of that id.
    pub fn download(&self, file: BlobId) -> Download {
        Download { client: self.clone(), file, sha256: None, replace: false, on_progress: Box::new(|_, _| ()) }
    }
}

impl Download {
    /// The checksum that the file must have; without it, the one that the API states is taken.
    pub fn sha256(mut self, hex: impl Into<String>) -> Self {
        self.sha256 = Some(hex.into());
        self
    }

    /// Whether a file that is there already is replaced; by default it is left alone and the download fails. Anything
    /// else than a file is always left alone.
    pub fn replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }

    /// Calls `f` with the number of bytes that have arrived and the length of the file, if it is known.
    pub fn on_progress(mut self, f: impl Fn(u64, Option<u64>) + Send + Sync + 'static) -> Self {
        self.on_progress = Box::new(f);
        self
    }

    /// Fetches the file to `path`. Until it is whole and checked it lies beside it under another name, which goes away
    /// when something fails.
    ///
    /// # Errors
    /// `unknown_file`; [`ClientError::Damaged`]; [`ClientError::File`] if it cannot be written or is there already.
    pub async fn to(self, path: &Path) -> Result<(), ClientError> {
        refuse_what_is_there(path, self.replace)?;
        let mut part = Part::create(path)?;
        let mut patience = Patience::default();
        loop {
            let before = part.bytes;
            let error = match self.fetch(&mut part).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if part.bytes > before {
                patience.restore();
            }
            tokio::time::sleep(patience.wait_after(error)?).await;
        }
        part.finish(self.sha256.as_deref(), self.replace)
    }

    /// Fetches what is missing.
    async fn fetch(&self, part: &mut Part) -> Result<(), ClientError> {
        let mut request = self.client.request(Method::GET, ["files", &self.file.to_string()]);
        if let (true, Some(etag)) = (part.bytes > 0, &part.etag) {
            let range = format!("bytes={}-", part.bytes);
            request = request.header(header::RANGE, range).header(header::IF_RANGE, etag);
        }
        let mut answer = self.client.send(request).await?;
        part.begin(&answer)?;
        let whole = answer.content_length().map(|missing| part.bytes + missing);
        while let Some(chunk) = self.client.chunk(&mut answer).await? {
            part.write(&chunk)?;
            (self.on_progress)(part.bytes, whole);
        }
        Ok(())
    }
}

/// Only a file may be replaced, and only on request: a device or a folder is not what was meant.
fn refuse_what_is_there(path: &Path, replace: bool) -> Result<(), ClientError> {
    match path.metadata() {
        Ok(about) if !replace || !about.is_file() => Err(ClientError::file(path)(io::ErrorKind::AlreadyExists.into())),
        _ => Ok(()),
    }
}

/// A file that is not whole yet. It is removed when it is dropped.
struct Part {
    path: PathBuf,
    file: NamedTempFile,
    bytes: u64,
    hash: Sha256,
    etag: Option<String>,
}

impl Part {
    fn create(path: &Path) -> Result<Self, ClientError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new()
            .prefix(".fourmi-")
            .suffix(".part")
            // As any new file: what the umask leaves of it, not the private mode of a temporary file.
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(ClientError::file(folder))?;
        Ok(Self { path: path.to_owned(), file, bytes: 0, hash: Sha256::new(), etag: None })
    }

    /// Takes note of the answer's headers; an answer with the whole file starts from nothing.
    fn begin(&mut self, answer: &Response) -> Result<(), ClientError> {
        self.etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        if answer.status() == StatusCode::PARTIAL_CONTENT || self.bytes == 0 {
            return Ok(());
        }
        self.bytes = 0;
        self.hash = Sha256::new();
        let file = self.file.as_file_mut();
        file.set_len(0).and_then(|()| file.rewind()).map_err(ClientError::file(&self.path))
    }

    /// Written to the page cache, so short enough to be done in place.
    fn write(&mut self, chunk: &[u8]) -> Result<(), ClientError> {
        self.file.as_file_mut().write_all(chunk).map_err(ClientError::file(&self.path))?;
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    fn finish(self, expected: Option<&str>, replace: bool) -> Result<(), ClientError> {
        let found = hex::encode(self.hash.finalize());
        let stated = self.etag.as_deref().map(|etag| etag.trim_matches('"')).filter(|etag| etag.len() == 64);
        if let Some(expected) = expected.or(stated).filter(|expected| *expected != found) {
            let what = self.path.display().to_string();
            return Err(ClientError::Damaged { what, expected: expected.to_owned(), found });
        }
        self.file.as_file().sync_all().map_err(ClientError::file(&self.path))?;
        let kept = if replace { self.file.persist(&self.path) } else { self.file.persist_noclobber(&self.path) };
        kept.map(drop).map_err(|error| ClientError::file(&self.path)(error.error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Scripted, answer};

    fn etag(of: &str) -> String {
        format!("etag: \"{}\"\r\n", hex::encode(Sha256::digest(of)))
    }

    fn file() -> BlobId {
        BlobId::random()
    }

    fn names(folder: &Path) -> Vec<String> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_cut_download_is_resumed_and_then_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.opus");
        let range = format!("{}content-range: bytes 6-9/10\r\n", etag("0123456789"));
        let api = Scripted::start([
            answer("200 OK", &etag("0123456789"), Some(10), "012345"),
            answer("206 Partial Content", &range, None, "6789"),
        ])
        .await;
        api.client().download(file()).to(&path).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
        assert_eq!(names(folder.path()), ["talk.opus"]);
        let second = &api.requests()[1];
        assert!(second.contains("range: bytes=6-\r\n") && second.contains("if-range: \""), "{second}");
    }

    #[tokio::test]
    async fn a_file_that_changed_meanwhile_starts_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.opus");
        let api = Scripted::start([
            answer("200 OK", &etag("0123456789"), Some(10), "012345"),
            answer("200 OK", &etag("abc"), None, "abc"),
        ])
        .await;
        api.client().download(file()).to(&path).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let api = Scripted::start([answer("200 OK", &etag("abc"), None, "abd")]).await;
        let error = api.client().download(file()).to(&folder.path().join("x")).await.unwrap_err();
        assert!(matches!(error, ClientError::Damaged { .. }));
        assert!(names(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn a_file_that_is_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine");
        std::fs::write(&path, "mine").unwrap();
        let api = Scripted::start([answer("200 OK", "", None, "theirs")]).await;
        let error = api.client().download(file()).to(&path).await.unwrap_err();
        assert!(matches!(error, ClientError::File { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        let device = api.client().download(file()).replace(true).to("/dev/null".as_ref()).await.unwrap_err();
        assert!(matches!(device, ClientError::File { .. }), "{device}");
        api.client().download(file()).replace(true).to(&path).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
    }
}
