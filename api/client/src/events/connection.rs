//! A stream of events, which is opened anew whenever it was cut.

use std::{collections::VecDeque, time::Duration};

use reqwest::{RequestBuilder, Response, StatusCode, header};

use crate::{
    Client, ClientError,
    patience::Patience,
    sse::{Event, Parser},
};

/// The longest wait that a stream may ask for.
const LONGEST_RETRY_MS: u64 = 5_000;

/// A stream of events over as many connections as it takes.
pub(super) struct Connection {
    client: Client,
    open: Option<(Response, Parser)>,
    ready: VecDeque<Event>,
    patience: Patience,
    again_in: Duration,
}

impl Connection {
    pub(super) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            open: None,
            ready: VecDeque::new(),
            patience: Patience::default(),
            again_in: Duration::ZERO,
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The next event; `None` if the API says that there will be none. A closed connection is opened with this request.
    ///
    /// # Errors
    /// If a connection could not be made or was cut: see [`Connection::interrupted`].
    pub(super) async fn next(
        &mut self,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some((answer, parser)) = &mut self.open else {
                if self.connect(&request).await? {
                    continue;
                }
                return Ok(None);
            };
            let Some(chunk) = self.client.chunk(answer).await? else {
                let Some(retry) = parser.retry_ms() else { return Err(self.client.closed()) };
                self.again_in = Duration::from_millis(retry.min(LONGEST_RETRY_MS));
                self.open = None;
                continue;
            };
            let too_long = |_| ClientError::Protocol("the events are not those of the API".to_owned());
            self.ready.extend(parser.push(&chunk).map_err(too_long)?);
            self.patience.restore();
        }
    }

    async fn connect(&mut self, request: &impl Fn(&Client) -> RequestBuilder) -> Result<bool, ClientError> {
        tokio::time::sleep(std::mem::take(&mut self.again_in)).await;
        let request = request(&self.client).header(header::ACCEPT, "text/event-stream");
        let answer = self.client.send(request).await?;
        if answer.status() == StatusCode::NO_CONTENT {
            return Ok(false);
        }
        self.open = Some((answer, Parser::default()));
        Ok(true)
    }

    /// Closes the connection after this error, and says why and when it will be opened again, or the error if that is of
    /// no use.
    pub(super) fn interrupted(&mut self, error: ClientError) -> Result<(String, Duration), ClientError> {
        self.open = None;
        let reason = error.to_string();
        self.again_in = self.patience.wait_after(error)?;
        Ok((reason, self.again_in))
    }
}

/// The data of an event.
pub(super) fn data<T: serde::de::DeserializeOwned>(event: &Event) -> Result<T, ClientError> {
    serde_json::from_str(&event.data)
        .map_err(|error| ClientError::Protocol(format!("a {} event is unreadable: {error}", event.name)))
}
