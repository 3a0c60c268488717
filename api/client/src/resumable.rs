//! Sending a file so that what has arrived is not sent again (tus 1.0).

use std::{
    io::SeekFrom,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use fourmi_model::BlobId;
use reqwest::{Body, Method, RequestBuilder, header};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use crate::{
    Client, ClientError, StoredFile,
    patience::Patience,
    upload::{OnProgress, Seen, observed},
};

/// A file on its way.
pub(crate) struct Sending<'a> {
    pub(crate) client: &'a Client,
    pub(crate) path: &'a Path,
    pub(crate) name: &'a str,
    /// Its length when it was opened: what it grows by meanwhile is not sent.
    pub(crate) bytes: u64,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) on_progress: OnProgress,
}

impl Sending<'_> {
    /// Sends the file, however often the connection breaks.
    pub(crate) async fn send(&self) -> Result<StoredFile, ClientError> {
        let mut patience = Patience::default();
        let upload = patiently(&mut patience, || self.announce()).await?;
        let mut offset = 0;
        while offset < self.bytes {
            let Err(error) = self.send_from(&upload, offset).await else { break };
            tokio::time::sleep(patience.wait_after(error)?).await;
            let arrived = patiently(&mut patience, || self.arrived(&upload)).await?;
            if arrived > offset {
                patience.restore();
            }
            offset = arrived;
        }
        let file: BlobId = upload.parse().map_err(|_| strange("the upload has an id that is none of a file"))?;
        patiently(&mut patience, || self.client.stored_file(file)).await
    }

    /// Makes an upload and gives its id. One that was made in vain expires.
    async fn announce(&self) -> Result<String, ClientError> {
        let metadata = format!("filename {}", BASE64_STANDARD.encode(self.name));
        let request = tus(self.client.request(Method::POST, ["uploads"]))
            .header("upload-length", self.bytes)
            .header("upload-metadata", metadata);
        let answer = self.client.send(request).await?;
        let place = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok()).unwrap_or_default();
        Ok(place.rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// How many bytes have arrived.
    async fn arrived(&self, upload: &str) -> Result<u64, ClientError> {
        let answer = self.client.send(tus(self.client.request(Method::HEAD, ["uploads", upload]))).await?;
        let offset = answer.headers().get("upload-offset").and_then(|offset| offset.to_str().ok()?.parse().ok());
        offset.ok_or_else(|| strange("an upload says nothing of how far it is"))
    }

    /// Sends everything from there on.
    async fn send_from(&self, upload: &str, offset: u64) -> Result<(), ClientError> {
        let mut file = File::open(self.path).await.map_err(ClientError::file(self.path))?;
        file.seek(SeekFrom::Start(offset)).await.map_err(ClientError::file(self.path))?;
        let rest = Box::pin(file.take(self.bytes - offset));
        let body = observed(rest, Arc::clone(&self.seen), offset, Arc::clone(&self.on_progress));
        let request = tus(self.client.request(Method::PATCH, ["uploads", upload]))
            .header(header::CONTENT_TYPE, "application/offset+octet-stream")
            .header(header::CONTENT_LENGTH, self.bytes - offset)
            .header("upload-offset", offset)
            .body(Body::wrap_stream(body));
        self.client.send_slowly(request).await.map(drop)
    }
}

fn tus(request: RequestBuilder) -> RequestBuilder {
    request.header("tus-resumable", "1.0.0")
}

fn strange(what: &str) -> ClientError {
    ClientError::Protocol(what.to_owned())
}

/// Calls until there is an answer, or patience is at its end.
async fn patiently<T, F: Future<Output = Result<T, ClientError>>>(
    patience: &mut Patience,
    mut call: impl FnMut() -> F,
) -> Result<T, ClientError> {
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => tokio::time::sleep(patience.wait_after(error)?).await,
        }
    }
}
