//! The few words of Redis's protocol that a supervisor speaks.

use std::{io, path::PathBuf, time::Duration};

use fourmi_settings::Secret;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpStream, UnixStream},
};

const PATIENCE: Duration = Duration::from_secs(2);

/// Where a private Redis listens.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    Socket(PathBuf),
    Port { port: u16, password: Secret },
}

/// What Redis says to a PING.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pulse {
    /// It serves.
    Ready,
    /// It reads its data and will serve.
    Loading,
    /// It does not answer as a Redis with this password does.
    None,
}

impl Address {
    /// The URL, which holds the password if there is one.
    pub(crate) fn url(&self) -> Secret {
        Secret::new(match self {
            Self::Socket(path) => format!("redis+unix://{}", path.display()),
            Self::Port { port, password } => format!("redis://:{}@127.0.0.1:{port}", password.expose()),
        })
    }

    /// Reads what [`url`](Self::url) wrote.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        if let Some(path) = url.strip_prefix("redis+unix://") {
            return Some(Self::Socket(path.into()));
        }
        let (password, port) = url.strip_prefix("redis://:")?.rsplit_once("@127.0.0.1:")?;
        Some(Self::Port { port: port.parse().ok()?, password: Secret::new(password) })
    }

    /// Asks whether it serves.
    pub(crate) async fn pulse(&self) -> Pulse {
        match self.ask(&["PING"]).await.as_deref() {
            Ok("+PONG") => Pulse::Ready,
            Ok(answer) if answer.starts_with("-LOADING") => Pulse::Loading,
            _ => Pulse::None,
        }
    }

    /// Sends one command and gives the first line of its answer.
    pub(crate) async fn ask(&self, command: &[&str]) -> io::Result<String> {
        let exchange = async {
            match self {
                Self::Socket(path) => exchange(UnixStream::connect(path).await?, None, command).await,
                Self::Port { port, password } => {
                    exchange(TcpStream::connect(("127.0.0.1", *port)).await?, Some(password), command).await
                }
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    password: Option<&Secret>,
    command: &[&str],
) -> io::Result<String> {
    let mut stream = BufReader::new(stream);
    if let Some(password) = password {
        stream.write_all(&encode(&["AUTH", password.expose()])).await?;
        let answer = line(&mut stream).await?;
        // While it loads, Redis answers so to everything.
        if answer != "+OK" {
            return Ok(answer);
        }
    }
    stream.write_all(&encode(command)).await?;
    line(&mut stream).await
}

async fn line(stream: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}

fn encode(command: &[&str]) -> Vec<u8> {
    let words = command.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    std::iter::once(format!("*{}\r\n", command.len())).chain(words).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_itself() {
        for url in ["redis+unix:///srv/fourmi/redis/redis.sock", "redis://:0a1b@127.0.0.1:40001"] {
            assert_eq!(Address::parse(url).unwrap().url().expose(), url);
        }
        assert!(Address::parse("redis://elsewhere:6379").is_none());
    }

    #[test]
    fn commands_are_written_as_arrays() {
        assert_eq!(encode(&["PING"]), b"*1\r\n$4\r\nPING\r\n");
    }
}
