//! A line to Redis that can be cut, slowed down, or made to carry nothing in one direction.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    time::sleep,
};

/// How a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    #[default]
    Whole,
    /// All connections end, and new ones end at once.
    Cut,
    /// Whatever passes takes its time.
    Slow,
    /// What the client says is held back.
    DeafServer,
    /// What the server says is held back.
    DeafClient,
    /// The server's end of every connection is gone, and the client is not told.
    HalfOpen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Line {
    fn holds_back(self, direction: Direction) -> bool {
        match self {
            Self::DeafServer => direction == Direction::Up,
            Self::DeafClient => direction == Direction::Down,
            _ => false,
        }
    }
}

/// Stops when it is dropped.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    line: watch::Sender<Line>,
}

impl Proxy {
    /// In front of the server at this socket.
    pub(super) async fn start(server: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, state) = watch::channel(Line::Whole);
        tokio::spawn(async move {
            let mut ends = state.clone();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { continue };
                        tokio::spawn(serve(client, server.clone(), state.clone()));
                    }
                    changed = ends.changed() => if changed.is_err() { return },
                }
            }
        });
        Self { address, line }
    }

    pub(super) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn serve(mut client: TcpStream, server: PathBuf, mut line: watch::Receiver<Line>) {
    // An error is the end of the connection, and dropping both sockets tells both sides.
    let connected = async {
        client.set_nodelay(true)?;
        let now = *line.borrow();
        match now {
            Line::Cut => Err(io::ErrorKind::ConnectionReset.into()),
            Line::HalfOpen => Ok(None),
            _ => UnixStream::connect(server).await.map(Some),
        }
    };
    let Ok(server) = connected.await else { return };
    if let Some(mut server) = server {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let (up, down) = (line.clone(), line.clone());
        let hit = async { line.wait_for(|line| matches!(line, Line::Cut | Line::HalfOpen)).await.map(|line| *line) };
        tokio::select! {
            _ = pass(&mut from_client, &mut to_server, up, Direction::Up) => return,
            _ = pass(&mut from_server, &mut to_client, down, Direction::Down) => return,
            hit = hit => if !matches!(hit, Ok(Line::HalfOpen)) { return },
        }
    }
    // Only the client can end what is half open.
    let mut nobody = tokio::io::sink();
    let _ = tokio::io::copy(&mut client, &mut nobody).await;
}

async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut line: watch::Receiver<Line>,
    direction: Direction,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let now = *line.borrow_and_update();
        if now == Line::Slow {
            // About 200 kB a second, and a far way.
            sleep(Duration::from_millis(50 + length as u64 / 200)).await;
        }
        if line.wait_for(|line| !line.holds_back(direction)).await.is_err() {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const NOT_YET: Duration = Duration::from_millis(100);

    /// A server that says everything back, a line to it, and a connection through that.
    async fn echo() -> (tempfile::TempDir, Proxy, TcpStream) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let proxy = Proxy::start(socket).await;
        let client = TcpStream::connect(proxy.address).await.unwrap();
        (folder, proxy, client)
    }

    async fn says_back(client: &mut TcpStream) -> bool {
        let mut answer = [0; 4];
        client.write_all(b"ping").await.is_ok() && client.read_exact(&mut answer).await.is_ok() && answer == *b"ping"
    }

    #[tokio::test]
    async fn a_whole_line_carries_and_a_cut_one_ends_old_and_new_connections() {
        let (_folder, proxy, mut client) = echo().await;
        assert!(says_back(&mut client).await);
        proxy.set(Line::Cut);
        assert!(!timeout(SOON, says_back(&mut client)).await.unwrap());
        let mut refused = TcpStream::connect(proxy.address).await.unwrap();
        assert!(!timeout(SOON, says_back(&mut refused)).await.unwrap());
        proxy.set(Line::Whole);
        let mut again = TcpStream::connect(proxy.address).await.unwrap();
        assert!(timeout(SOON, says_back(&mut again)).await.unwrap());
    }

    #[tokio::test]
    async fn a_deaf_line_holds_back_and_loses_nothing() {
        for line in [Line::DeafServer, Line::DeafClient] {
            let (_folder, proxy, mut client) = echo().await;
            assert!(says_back(&mut client).await);
            proxy.set(line);
            client.write_all(b"ping").await.unwrap();
            let mut answer = [0; 4];
            assert!(timeout(NOT_YET, client.read_exact(&mut answer)).await.is_err(), "{line:?}");
            proxy.set(Line::Whole);
            timeout(SOON, client.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(&answer, b"ping");
        }
    }

    #[tokio::test]
    async fn a_half_open_connection_never_answers_and_never_ends() {
        let (_folder, proxy, mut client) = echo().await;
        assert!(says_back(&mut client).await);
        proxy.set(Line::HalfOpen);
        tokio::task::yield_now().await;
        let mut fresh = TcpStream::connect(proxy.address).await.unwrap();
        for client in [&mut client, &mut fresh] {
            assert!(timeout(NOT_YET, says_back(client)).await.is_err());
        }
    }
}
