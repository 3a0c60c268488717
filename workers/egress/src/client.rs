//! An HTTP client that reaches the world through the proxy.

use reqwest::{
    Response, Url,
    header::{HeaderMap, LOCATION},
    redirect::Policy,
};

use crate::proxy::PATIENCE;

/// The most redirects that are followed.
const MOST_REDIRECTS: usize = 10;

/// An HTTP client that reaches the world through the proxy. It waits ten seconds for a connection, and takes bodies as they
/// are.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The exchange failed. Behind a proxy that says little: see [`crate::Proxy::take_refusal`].
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// The address leads from redirect to redirect.
    #[error("more than {MOST_REDIRECTS} redirects")]
    TooManyRedirects,
    /// It leads to something that is not HTTP, or to nothing.
    #[error("it leads to {0:?}, which is no http or https URL")]
    NotHttp(String),
}

impl Client {
    pub(crate) fn behind(proxy: &str) -> Result<Self, reqwest::Error> {
        // Another part of the process may have chosen one before; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .proxy(reqwest::Proxy::all(proxy)?)
            .connect_timeout(PATIENCE)
            .user_agent(concat!("Fourmi/", env!("CARGO_PKG_VERSION")))
            // Redirects are followed here: reqwest would leave the proxy's password behind.
            .redirect(Policy::none())
            // The proxy serves one request a connection.
            .http1_only()
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self(client))
    }

    /// Gets `url` with these headers, following redirects. Any other status is an answer, too.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn get(&self, url: &str, headers: &HeaderMap) -> Result<Response, FetchError> {
        let not_http = |url: &str| FetchError::NotHttp(url.to_owned());
        let mut url = Url::parse(url).map_err(|_| not_http(url))?;
        for _ in 0..=MOST_REDIRECTS {
            if !matches!(url.scheme(), "http" | "https") {
                return Err(not_http(url.as_str()));
            }
            let response = self.0.get(url.clone()).headers(headers.clone()).send().await?;
            let target = response.headers().get(LOCATION).filter(|_| response.status().is_redirection());
            let Some(target) = target else { return Ok(response) };
            let target = String::from_utf8_lossy(target.as_bytes()).into_owned();
            url = url.join(&target).map_err(|_| not_http(&target))?;
        }
        Err(FetchError::TooManyRedirects)
    }
}
