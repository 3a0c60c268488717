//! An HTTP proxy on loopback in front of the guard.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{Client, EgressError, Guard};

/// The longest head of a request.
const LONGEST_HEAD: usize = 64 * 1024;

/// How long a client may take to say what it wants.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What is copied at a time.
const CHUNK: usize = 256 * 1024;

const FORBIDDEN_STATUS: &str = "403 Forbidden by the operator";

/// A running proxy; dropped, it ends with all its connections.
pub struct Proxy {
    address: SocketAddr,
    token: String,
    shared: Arc<Shared>,
    _serving: AbortOnDropHandle<()>,
}

struct Shared {
    guard: Guard,
    credentials: String,
    refused: Mutex<Option<EgressError>>,
}

impl Proxy {
    /// What a client reads of a refused connection, beside the status 403.
    pub const FORBIDDEN: &str = FORBIDDEN_STATUS.split_at(4).1;

    /// Starts a proxy on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start(guard: Guard) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let token = format!("{:032x}", rand::random::<u128>());
        let credentials = format!("Basic {}", BASE64_STANDARD.encode(format!("fourmi:{token}")));
        let shared = Arc::new(Shared { guard, credentials, refused: Mutex::new(None) });
        let serving = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self { address, token, shared, _serving: AbortOnDropHandle::new(serving) })
    }

    /// The URL to give to those who shall use it; it holds the password.
    pub fn url(&self) -> String {
        format!("http://fourmi:{}@{}", self.token, self.address)
    }

    /// An HTTP client behind this proxy.
    ///
    /// # Errors
    /// If TLS cannot be set up: there are no trusted certificates on this machine, for one.
    pub fn client(&self) -> Result<Client, reqwest::Error> {
        Client::behind(&self.url())
    }

    /// Why the newest connection that did not come about was refused or failed, once: those behind a proxy see no more
    /// than a status.
    pub fn take_refusal(&self) -> Option<EgressError> {
        self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let shared = shared.clone();
                    connections.spawn(async move {
                        if let Err(error) = talk(client, &shared).await {
                            tracing::debug!(%error, "a proxied connection broke");
                        }
                    });
                }
                // Out of descriptors, most likely: those that end give theirs back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// What a client asks for.
struct Request {
    host: String,
    port: u16,
    /// What goes to the host first; empty for a tunnel.
    head: Vec<u8>,
    is_tunnel: bool,
}

async fn talk(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let Ok(read) = timeout(PATIENCE, read_head(&mut client)).await else { return Ok(()) };
    let (head, rest) = read?;
    let request = match parse(&head, &shared.credentials) {
        Ok(request) => request,
        Err(answer) => return refuse(&mut client, answer).await,
    };
    let mut host = match shared.guard.connect(&request.host, request.port).await {
        Ok(stream) => stream,
        Err(error) => {
            let answer = match error {
                EgressError::Forbidden { .. } => FORBIDDEN_STATUS,
                EgressError::Unresolved { .. } | EgressError::Unreachable { .. } => "502 Bad Gateway",
            };
            tracing::debug!(%error, "a connection was refused");
            *shared.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return refuse(&mut client, answer).await;
        }
    };
    if request.is_tunnel {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    } else {
        host.write_all(&request.head).await?;
    }
    host.write_all(&rest).await?;
    copy_bidirectional_with_sizes(&mut client, &mut host, 16 * 1024, CHUNK).await.map(drop)
}

async fn refuse(client: &mut TcpStream, answer: &str) -> io::Result<()> {
    let login = if answer.starts_with("407") { "Proxy-Authenticate: Basic realm=\"fourmi\"\r\n" } else { "" };
    let text = format!("HTTP/1.1 {answer}\r\n{login}Content-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await
}

/// The head of a request, with the empty line at its end, and what came after it.
async fn read_head(client: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut read = Vec::with_capacity(4 * 1024);
    loop {
        if client.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            return Ok((read, rest));
        }
        if read.len() > LONGEST_HEAD {
            return Err(io::Error::other("the head of a request is too long"));
        }
    }
}

/// Reads a head; gives the status to answer if it cannot be served.
fn parse(head: &[u8], credentials: &str) -> Result<Request, &'static str> {
    const BAD: &str = "400 Bad Request";
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    if !request.parse(head).is_ok_and(|status| status.is_complete()) {
        return Err(BAD);
    }
    let (method, target) = (request.method.ok_or(BAD)?, request.path.ok_or(BAD)?);
    let is = |header: &httparse::Header<'_>, name: &str| header.name.eq_ignore_ascii_case(name);
    let logged_in = request
        .headers
        .iter()
        .any(|header| is(header, "proxy-authorization") && header.value == credentials.as_bytes());
    if !logged_in {
        return Err("407 Proxy Authentication Required");
    }
    if method.eq_ignore_ascii_case("CONNECT") {
        let (host, port) = authority(target, None).ok_or(BAD)?;
        return Ok(Request { host, port, head: Vec::new(), is_tunnel: true });
    }
    let scheme_end = "http://".len();
    if !target.get(..scheme_end).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://")) {
        return Err("501 Not Implemented");
    }
    let rest = &target[scheme_end..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, port) = authority(&rest[..end], Some(80)).ok_or(BAD)?;
    let path = if rest[end..].starts_with('/') { rest[end..].to_owned() } else { format!("/{}", &rest[end..]) };
    // One request a connection: what follows could name another host.
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n").into_bytes();
    for header in request.headers.iter() {
        let hop = ["connection", "proxy-connection", "proxy-authorization", "keep-alive", "upgrade"];
        if !hop.iter().any(|name| is(header, name)) {
            text.extend_from_slice(header.name.as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(header.value);
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend_from_slice(b"\r\n");
    Ok(Request { host, port, head: text, is_tunnel: false })
}

/// Host and port of `host:port`, `[address]:port` or, if a port is implied, of these without.
fn authority(text: &str, implied: Option<u16>) -> Option<(String, u16)> {
    let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let bracket = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[bracket..].rfind(':') {
        Some(colon) => (&text[..bracket + colon], text[bracket + colon + 1..].parse().ok()?),
        None => (text, implied?),
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Request, &'static str> {
        parse(format!("{text}\r\nProxy-Authorization: x\r\nA: b\r\n\r\n").as_bytes(), "x")
    }

    #[test]
    fn requests_are_passed_on_in_their_own_form() {
        let request = head("GET http://host:81/a?b HTTP/1.1\r\nProxy-Connection: keep-alive").ok().unwrap();
        assert_eq!((request.host.as_str(), request.port, request.is_tunnel), ("host", 81, false));
        let passed = String::from_utf8(request.head).unwrap();
        assert_eq!(passed, "GET /a?b HTTP/1.1\r\nConnection: close\r\nA: b\r\n\r\n");
        let request = head("GET http://[::1]?q HTTP/1.1").ok().unwrap();
        assert_eq!((request.host.as_str(), request.port), ("[::1]", 80));
        assert!(request.head.starts_with(b"GET /?q HTTP/1.1\r\n"));
        let request = head("CONNECT host:443 HTTP/1.1").ok().unwrap();
        assert_eq!((request.host.as_str(), request.port, request.is_tunnel), ("host", 443, true));
    }

    #[test]
    fn what_is_no_request_for_a_proxy_is_refused() {
        assert_eq!(head("GET /path HTTP/1.1").err(), Some("501 Not Implemented"));
        assert_eq!(head("GET ftp://host/ HTTP/1.1").err(), Some("501 Not Implemented"));
        assert_eq!(head("CONNECT host HTTP/1.1").err(), Some("400 Bad Request"));
        assert_eq!(head("GET http://:80/ HTTP/1.1").err(), Some("400 Bad Request"));
        assert_eq!(parse(b"GET http://host/ HTTP/1.1\r\n\r\n", "x").err(), Some("407 Proxy Authentication Required"));
        assert_eq!(parse(b"\x00\x01\r\n\r\n", "x").err(), Some("400 Bad Request"));
    }
}
