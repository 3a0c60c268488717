//! The connection: address, key, sending one request, reading one answer.

use std::{error::Error, net::IpAddr, sync::Arc, time::Duration};

use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::de::DeserializeOwned;

use crate::{ClientError, Problem};

/// The longest silence before the API counts as gone. The API itself is silent for 15 seconds at most on a stream, and
/// for the wait that was asked for (20 seconds) on a call.
pub(crate) const SILENCE: Duration = Duration::from_secs(45);

/// A client of one API with one key, or with the access token of a person who has logged in ([`Client::login`]); cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Arc<Url>,
}

impl Client {
    /// A client of the API at `url` (`http://127.0.0.1:8700`) that shows `key`. It connects when it is first used. An access
    /// token takes the place of a key.
    ///
    /// # Errors
    /// [`ClientError::Unusable`] if the address is no HTTP URL or the key cannot stand in a header.
    pub fn new(url: &str, key: &str) -> Result<Self, ClientError> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", key.trim()))
            .map_err(|_| ClientError::Unusable("the API key holds characters that no key has".to_owned()))?;
        bearer.set_sensitive(true);
        Self::showing(url, HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
    }

    /// A client for what nobody needs a key for.
    pub(crate) fn without_key(url: &str) -> Result<Self, ClientError> {
        Self::showing(url, HeaderMap::new())
    }

    /// A client that sends these headers with every request.
    fn showing(url: &str, headers: HeaderMap) -> Result<Self, ClientError> {
        let base = base(url)?;
        // Another part of the process may have chosen a provider already: that one is as good.
        let _chosen_already = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("fourmi-client/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            // Ends an upload whose other side is gone: there, silence alone proves nothing.
            .tcp_user_timeout(Duration::from_secs(60))
            // A key is for one API: it follows no redirect.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        if base.scheme() == "http" {
            // Certificates would be loaded, and missed where there are none, for a connection that shows none.
            builder = builder.tls_backend_preconfigured(trusting_nobody());
        }
        let http = builder.build().map_err(|error| ClientError::Unusable(innermost(&error)))?;
        Ok(Self { http, base: Arc::new(base) })
    }

    /// The API's address.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A request to `/api/v1/` and these segments, which may hold any character.
    pub(crate) fn request<'a>(&self, method: Method, segments: impl IntoIterator<Item = &'a str>) -> RequestBuilder {
        let mut url = Url::clone(&self.base);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(segments);
        }
        self.http.request(method, url)
    }

    /// Sends a request, and gives the answer up to its headers if it is not an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        match tokio::time::timeout(SILENCE, self.send_slowly(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent()),
        }
    }

    /// [`send`](Self::send) for a request whose body takes its time.
    pub(crate) async fn send_slowly(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() || status == reqwest::StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        if status.is_redirection() {
            let place = response.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or("nowhere");
            return Err(ClientError::Protocol(format!(
                "{} redirects to {place}; use that address instead",
                self.url()
            )));
        }
        let headers = response.headers().clone();
        let body = self.whole_body(response).await?;
        Err(Problem::read(self.url(), status.as_u16(), &headers, &body))
    }

    /// Sends a request and reads the answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        self.read_json(response).await
    }

    /// Reads an answer as JSON.
    pub(crate) async fn read_json<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let body = self.whole_body(response).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::Protocol(format!("{} answered as the API would not: {error}", self.url())))
    }

    async fn whole_body(&self, response: Response) -> Result<bytes::Bytes, ClientError> {
        match tokio::time::timeout(SILENCE, response.bytes()).await {
            Ok(body) => body.map_err(|error| self.unreachable(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    /// The next piece of a long body; `None` at its end.
    pub(crate) async fn chunk(&self, response: &mut Response) -> Result<Option<bytes::Bytes>, ClientError> {
        match tokio::time::timeout(SILENCE, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| self.unreachable(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Unreachable { url: self.url().to_owned(), reason: innermost(error) }
    }

    pub(crate) fn closed(&self) -> ClientError {
        ClientError::Unreachable { url: self.url().to_owned(), reason: "the connection was closed".to_owned() }
    }

    fn silent(&self) -> ClientError {
        let reason = format!("nothing came for {} seconds", SILENCE.as_secs());
        ClientError::Unreachable { url: self.url().to_owned(), reason }
    }
}

fn base(url: &str) -> Result<Url, ClientError> {
    let unusable = || ClientError::Unusable(format!("{url:?} is no address of an API such as http://127.0.0.1:8700"));
    let base = Url::parse(url).map_err(|_| unusable())?;
    if matches!(base.scheme(), "http" | "https") && base.has_host() { Ok(base) } else { Err(unusable()) }
}

fn trusting_nobody() -> rustls::ClientConfig {
    rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

/// The cause that says most: the library's own words repeat the URL and leave the reason to the last of the chain.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_path() {
        for (url, expected) in [
            ("http://127.0.0.1:8700", "http://127.0.0.1:8700/api/v1/jobs/a%2Fb"),
            ("https://example.org/fourmi/", "https://example.org/fourmi/api/v1/jobs/a%2Fb"),
        ] {
            let client = Client::new(url, "key\n").unwrap();
            let request = client.request(Method::GET, ["jobs", "a/b"]).build().unwrap();
            assert_eq!(request.url().as_str(), expected);
        }
    }

    #[test]
    fn what_cannot_work_is_refused_at_once() {
        for (url, key) in [("127.0.0.1:8700", "k"), ("ftp://x", "k"), ("http://x", "a\nb")] {
            assert!(matches!(Client::new(url, key), Err(ClientError::Unusable(_))), "{url} {key}");
        }
    }
}
