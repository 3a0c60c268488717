//! Shows the figures of a program that has no HTTP API of its own.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use fourmi_settings::{Metrics, Secret};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};

use super::CONTENT_TYPE as PAGE;

/// How many ports after the one that was named are tried: processes of one machine may be given the same setting.
const PORTS: u16 = 100;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 16;

/// How long a connection may take to send its request.
const HEAD: Duration = Duration::from_secs(10);

/// The pause after the system refused a connection, because there are too many files open, say.
const REFUSED: Duration = Duration::from_secs(1);

/// Shows the figures of a program at `/metrics`, to whoever knows the token.
pub struct Listener {
    listener: TcpListener,
    token: Secret,
}

impl Listener {
    /// Listens as the settings say; `None` if they do not. If the port is taken, the next free one of a hundred is.
    ///
    /// # Errors
    /// If the token cannot be read, or the address cannot be used.
    pub async fn open(settings: &Metrics) -> anyhow::Result<Option<Self>> {
        let Some(address) = settings.listen else { return Ok(None) };
        let token = settings.token()?;
        let listener =
            listen(address).await.with_context(|| format!("FOURMI_METRICS_LISTEN: cannot listen on {address}"))?;
        Ok(Some(Self { listener, token }))
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Shows what `page` gives, for as long as it is polled.
    pub async fn serve<F, P>(self, page: F)
    where
        F: Fn() -> P + Send + Sync + 'static,
        P: Future<Output = String> + Send + 'static,
    {
        let Self { listener, token } = self;
        let (page, token) = (Arc::new(page), Arc::new(token));
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = converse(stream, Arc::clone(&page), Arc::clone(&token));
                    tokio::spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection for figures was refused by the system");
                    sleep(REFUSED).await;
                }
            }
        }
    }
}

async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let mut port = address.port();
    loop {
        let is_last = port == 0 || port == u16::MAX || port >= address.port().saturating_add(PORTS);
        match TcpListener::bind(SocketAddr::new(address.ip(), port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && !is_last => port += 1,
            bound => return bound,
        }
    }
}

async fn converse<F, P>(stream: TcpStream, page: Arc<F>, token: Arc<Secret>)
where
    F: Fn() -> P + Send + Sync + 'static,
    P: Future<Output = String> + Send + 'static,
{
    let answer = service_fn(move |request: Request<Incoming>| {
        let (page, token) = (Arc::clone(&page), Arc::clone(&token));
        async move {
            Ok::<_, Infallible>(match refusal(&request, &token) {
                Some(refusal) => refusal,
                None => shown(page().await),
            })
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // Whoever asked has gone away, or speaks something else: nobody needs to know.
    let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
}

fn shown(page: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(page));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PAGE));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a request does not get the page.
fn refusal(request: &Request<Incoming>, token: &Secret) -> Option<Response<Full<Bytes>>> {
    let (status, header) = if request.uri().path() != "/metrics" {
        (StatusCode::NOT_FOUND, None)
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        (StatusCode::METHOD_NOT_ALLOWED, Some((ALLOW, "GET, HEAD")))
    } else if !shows(request.headers().get(AUTHORIZATION), token) {
        (StatusCode::UNAUTHORIZED, Some((WWW_AUTHENTICATE, "Bearer")))
    } else {
        return None;
    };
    let mut response = Response::new(Full::from(format!("{status}\n")));
    *response.status_mut() = status;
    if let Some((name, value)) = header {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

fn shows(header: Option<&HeaderValue>, token: &Secret) -> bool {
    let shown = header.and_then(|header| header.as_bytes().split_at_checked("Bearer ".len()));
    shown.is_some_and(|(scheme, shown)| {
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(shown.trim_ascii().ct_eq(token.expose().as_bytes()))
    })
}
