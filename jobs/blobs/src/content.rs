//! Content on its way to the disk, and what is known of it afterwards.

use std::{
    fs::File,
    io::{self, Read, Seek},
    pin::pin,
};

use bytes::Bytes;
use fourmi_model::BlobId;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::{Blob, BlobError, Origin, Owner, clean_name, media_type};

/// Runs work that waits for the disk where it disturbs nobody.
pub(crate) async fn blocking<T: Send + 'static, E: From<BlobError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|stopped| Err(BlobError::storage("working with the disk")(io::Error::other(stopped)).into()))
}

/// Writes what `content` gives to where `file` stands, and shows it to `seen`. What came before an error is written.
pub(crate) async fn write(
    file: &File,
    content: impl Stream<Item = io::Result<Bytes>>,
    max_bytes: u64,
    mut seen: impl FnMut(&[u8]),
) -> Result<(), BlobError> {
    let file = file.try_clone().map_err(BlobError::storage("opening a file"))?;
    let mut file = tokio::fs::File::from_std(file);
    let copied = async {
        let (mut bytes, mut content) = (0, pin!(content));
        while let Some(chunk) = content.next().await {
            let chunk = chunk.map_err(BlobError::Source)?;
            bytes += chunk.len() as u64;
            if bytes > max_bytes {
                return Err(BlobError::TooLarge { max_bytes });
            }
            seen(&chunk);
            file.write_all(&chunk).await.map_err(BlobError::storage("writing a file"))?;
        }
        Ok(())
    };
    let copied = copied.await;
    // Whatever the content came to: the file takes what it gets a little later than it is told.
    let flushed = file.flush().await.map_err(BlobError::storage("writing a file"));
    copied.and(flushed)
}

/// What is known of content that went past.
#[derive(Default)]
pub(crate) struct Summary {
    pub(crate) bytes: u64,
    hash: Sha256,
    sample: Vec<u8>,
}

impl Summary {
    pub(crate) fn of_file(mut file: &File) -> io::Result<Self> {
        file.rewind()?;
        let mut summary = Self::default();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(summary),
                read => summary.add(&buffer[..read]),
            }
        }
    }

    pub(crate) fn add(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.hash.update(chunk);
        let missing = media_type::SAMPLE_BYTES.saturating_sub(self.sample.len());
        self.sample.extend_from_slice(&chunk[..chunk.len().min(missing)]);
    }

    pub(crate) fn check(&self, expected: Option<[u8; 32]>) -> Result<(), BlobError> {
        let actual: [u8; 32] = self.hash.clone().finalize().into();
        match expected {
            Some(expected) if expected != actual => {
                Err(BlobError::ChecksumMismatch { expected: hex::encode(expected), actual: hex::encode(actual) })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn sha256(self) -> String {
        hex::encode(self.hash.finalize())
    }

    /// The file that has this content. `media_type` wins over what the content says.
    pub(crate) fn describe(
        self,
        id: BlobId,
        name: &str,
        media_type: Option<&str>,
        origin: Origin,
        owner: Owner,
    ) -> Blob {
        Blob {
            id,
            name: clean_name(name),
            bytes: self.bytes,
            media_type: media_type.unwrap_or_else(|| media_type::of(&self.sample)).to_owned(),
            sha256: self.sha256(),
            created_at: Timestamp::now(),
            origin,
            owner,
            growing: false,
        }
    }
}
