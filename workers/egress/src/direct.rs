//! An HTTP client that keeps its connections and asks the guard before it makes one.

use std::{
    collections::HashMap,
    error::Error as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{
    Method, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderMap,
    redirect::Policy,
};

use crate::{EgressError, Guard, proxy::PATIENCE};

/// Ports for which a client is kept. Nearly everybody listens on one of two.
const MOST_PORTS: usize = 64;

/// Connections of HTTP/2 to one host. Servers take about a hundred requests at a time on each.
const MULTIPLEXED: usize = 4;

/// An HTTP client that keeps its connections, connects to addresses alone that the guard has just judged, and follows no
/// redirects. Addresses are `https`; `http` may be those that the operator has opened.
#[derive(Debug)]
pub struct Direct {
    guard: Guard,
    version: Version,
    /// The guard judges addresses by their port too, which a resolver is not told.
    by_port: Mutex<HashMap<u16, Vec<reqwest::Client>>>,
    /// Whose turn it is of several clients.
    turn: AtomicUsize,
}

/// How it talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// HTTP/1.1: one request at a time on a connection.
    One,
    /// HTTP/2: many requests at a time on a few connections.
    Two,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// The address is none, or names no host.
    #[error("{0:?} is no https URL")]
    NotHttps(String),
    /// The guard refuses, or the host is not there.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// There was no answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The exchange failed.
    #[error("{}", chain(.0))]
    Http(reqwest::Error),
}

impl DirectError {
    /// Whether the request may have been read, and acted on, by the other side; otherwise it can be sent again without being
    /// sent twice.
    pub fn is_doubtful(&self) -> bool {
        match self {
            Self::NotHttps(_) | Self::Egress(_) => false,
            Self::TimedOut(_) => true,
            Self::Http(error) => !error.is_connect() && !error.is_builder(),
        }
    }
}

impl Direct {
    /// A client behind this guard.
    pub fn new(guard: Guard) -> Self {
        Self::of(guard, Version::One)
    }

    /// A client behind this guard that speaks HTTP/2 to every server, and sends some hundred requests at a time to each on a
    /// few connections.
    pub fn multiplexed(guard: Guard) -> Self {
        Self::of(guard, Version::Two)
    }

    fn of(guard: Guard, version: Version) -> Self {
        // Another part of the process may have chosen one before; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { guard, version, by_port: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// Posts `body`, and gives the answer whatever its status, redirects too. The answer's body must be read within the same
    /// time.
    ///
    /// # Errors
    /// [`DirectError`].
    pub async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: impl Into<reqwest::Body>,
        longest: Duration,
    ) -> Result<Response, DirectError> {
        self.send(Method::POST, url, headers, Some(body.into()), longest).await
    }

    /// Sends a request, and gives the answer whatever its status, redirects too. The address is sent as it is written. The
    /// answer's body must be read within the same time.
    ///
    /// # Errors
    /// [`DirectError`].
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Option<reqwest::Body>,
        longest: Duration,
    ) -> Result<Response, DirectError> {
        let not_https = || DirectError::NotHttps(url.to_owned());
        let parsed = Url::parse(url).map_err(|_| not_https())?;
        let (host, port) = parsed.host_str().zip(parsed.port_or_known_default()).ok_or_else(not_https)?;
        match parsed.scheme() {
            // A resolver is not asked about an address that is written as one.
            "https" if parsed.domain().is_some() => {}
            "https" => self.guard.judged(host, port).await.map(drop)?,
            "http" => {
                let addresses = self.guard.judged(host, port).await?;
                if !self.guard.has_opened(host, &addresses, port) {
                    return Err(not_https());
                }
            }
            _ => return Err(not_https()),
        }
        let client = self.client(port).map_err(DirectError::Http)?;
        let mut request = client.request(method, parsed).headers(headers).timeout(longest);
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await.map_err(|error| match refusal(&error) {
            Some(refusal) => refusal.into(),
            None if error.is_timeout() && !error.is_connect() => DirectError::TimedOut(longest),
            None => DirectError::Http(error.without_url()),
        })
    }

    fn client(&self, port: u16) -> Result<reqwest::Client, reqwest::Error> {
        let mut by_port = self.by_port.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(clients) = by_port.get(&port) {
            return Ok(clients[turn % clients.len()].clone());
        }
        let count = if self.version == Version::Two { MULTIPLEXED } else { 1 };
        let clients = (0..count).map(|_| self.build(port)).collect::<Result<Vec<_>, _>>()?;
        if by_port.len() >= MOST_PORTS {
            by_port.clear();
        }
        let client = clients[0].clone();
        by_port.insert(port, clients);
        Ok(client)
    }

    fn build(&self, port: u16) -> Result<reqwest::Client, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .dns_resolver(Arc::new(Judge { guard: self.guard.clone(), port }))
            .no_proxy()
            .connect_timeout(PATIENCE)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("Fourmi/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none());
        let builder = match self.version {
            Version::One => builder.http1_only(),
            // A connection that is dead must not be found so by hundreds of requests that wait for their answers.
            Version::Two => builder.http2_prior_knowledge().http2_keep_alive_interval(PATIENCE),
        };
        builder.build()
    }
}

/// Resolves names for connections to one port.
struct Judge {
    guard: Guard,
    port: u16,
}

impl Resolve for Judge {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, port) = (self.guard.clone(), self.port);
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = guard.judged(name.as_str(), port).await.map_err(Refusal)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// What the guard has said, on its way through the client.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Refusal(EgressError);

fn refusal(error: &reqwest::Error) -> Option<EgressError> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(Refusal(refused)) = error.downcast_ref() {
            return Some(refused.clone());
        }
        cause = error.source();
    }
    None
}

/// An error with its causes: the client's own words say little.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const SHORT: Duration = Duration::from_secs(5);

    /// A server that answers every request with a redirect; gives its port.
    async fn server() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        let answer =
                            b"HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
                        let _ = stream.write_all(answer).await;
                    }
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn a_host_that_was_opened_is_reached_and_its_redirects_are_not_followed() {
        let port = server().await;
        let direct = Direct::new(Guard::parse(&format!("127.0.0.1:{port},localhost:{port}")).unwrap());
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("http://{host}:{port}/path");
            let answer = direct.post(&url, HeaderMap::new(), "body", SHORT).await.unwrap();
            assert_eq!(answer.status(), 307, "{host}");
        }
    }

    #[tokio::test]
    async fn the_inside_is_refused_however_it_is_written() {
        let port = server().await;
        // Another port of the same host is open.
        let direct = Direct::new(Guard::parse("127.0.0.1:1").unwrap());
        for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"] {
            for scheme in ["http", "https"] {
                let refused = direct.post(&format!("{scheme}://{host}:{port}/"), HeaderMap::new(), "", SHORT).await;
                let forbidden = matches!(refused, Err(DirectError::Egress(EgressError::Forbidden { .. })));
                assert!(forbidden, "{scheme} {host}: {refused:?}");
            }
        }
        for url in ["http://1.1.1.1/", "ftp://127.0.0.1:1/", "https://", "file:///etc/passwd", "", "no url"] {
            let refused = direct.post(url, HeaderMap::new(), "", SHORT).await;
            assert!(matches!(refused, Err(DirectError::NotHttps(_))), "{url}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn a_host_that_is_silent_is_not_waited_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let direct = Direct::new(Guard::parse("127.0.0.1").unwrap());
        let url = format!("http://127.0.0.1:{port}/");
        let late = direct.post(&url, HeaderMap::new(), "", Duration::from_millis(100)).await;
        assert!(matches!(&late, Err(error @ DirectError::TimedOut(_)) if error.is_doubtful()), "{late:?}");
    }

    #[tokio::test]
    async fn what_was_never_connected_was_not_sent() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let direct = Direct::new(Guard::parse("127.0.0.1").unwrap());
        let url = format!("http://127.0.0.1:{port}/");
        let cut = async {
            let (stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
        };
        let (answer, ()) = tokio::join!(direct.post(&url, HeaderMap::new(), "body", SHORT), cut);
        assert!(answer.unwrap_err().is_doubtful(), "it was connected, and then cut");
        drop(listener);
        let refused = direct.send(Method::GET, &url, HeaderMap::new(), None, SHORT).await.unwrap_err();
        assert!(!refused.is_doubtful(), "{refused:?}");
    }
}
