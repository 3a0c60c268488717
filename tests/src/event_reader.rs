//! A reader of event streams that sees everything on the wire, and costs little: a socket and a small buffer.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// A block of a stream: an event, or a comment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// The name of the event; empty for none.
    pub name: String,
    /// The id of the event; empty for none.
    pub id: String,
    /// Its data.
    pub data: String,
    /// The comment.
    pub comment: String,
    /// When to come back, in milliseconds.
    pub retry_ms: Option<u64>,
}

impl Block {
    fn read(text: &str) -> Self {
        let mut block = Self::default();
        for line in text.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "event" => block.name = value,
                "id" => block.id = value,
                "data" => block.data += &value,
                "retry" => block.retry_ms = value.parse().ok(),
                _ => block.comment += &value,
            }
        }
        block
    }

    /// The data, as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// An open stream.
pub struct EventReader {
    socket: TcpStream,
    /// The status of the answer.
    pub status: u16,
    /// Bytes as they came: the rest of a chunk, or its head.
    raw: Vec<u8>,
    /// How much of the chunk is still to come, with the line feed behind it.
    chunk: usize,
    text: Vec<u8>,
    /// Whether the stream has been ended as HTTP wants it, not cut.
    pub ended: bool,
}

impl EventReader {
    /// Asks for a stream and reads the head of the answer. `url` is that of the API, `path` what comes after `/api/v1`.
    ///
    /// # Errors
    /// If the connection fails.
    pub async fn open(url: &str, path: &str, key: &str, last: Option<&str>) -> std::io::Result<Self> {
        Self::open_with(TcpSocket::new_v4()?, url, path, key, last).await
    }

    /// The same by this socket.
    ///
    /// # Errors
    /// If the connection fails.
    pub async fn open_with(
        socket: TcpSocket,
        url: &str,
        path: &str,
        key: &str,
        last: Option<&str>,
    ) -> std::io::Result<Self> {
        let host = url.trim_start_matches("http://");
        let mut socket = socket.connect(host.parse().unwrap()).await?;
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let head = format!("GET /api/v1{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n{last}\r\n");
        socket.write_all(head.as_bytes()).await?;
        let mut raw = Vec::with_capacity(512);
        let end = loop {
            if let Some(end) = raw.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if socket.read_buf(&mut raw).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
        let status = std::str::from_utf8(&raw[9..12]).unwrap().parse().unwrap();
        raw.drain(..end);
        let mut this = Self { socket, status, raw, chunk: 0, text: Vec::new(), ended: false };
        this.unwrap_chunks();
        Ok(this)
    }

    /// The next block; `None` once the stream has ended, or was cut.
    pub async fn next(&mut self) -> Option<Block> {
        loop {
            if let Some(end) = self.text.windows(2).position(|bytes| bytes == b"\n\n") {
                let block = String::from_utf8(self.text.drain(..end + 2).collect()).unwrap();
                return Some(Block::read(&block));
            }
            if self.ended || self.socket.read_buf(&mut self.raw).await.unwrap_or(0) == 0 {
                return None;
            }
            self.unwrap_chunks();
        }
    }

    /// The next event with data.
    pub async fn event(&mut self) -> Option<Block> {
        loop {
            let block = self.next().await?;
            if !block.name.is_empty() {
                return Some(block);
            }
        }
    }

    /// Takes the text out of the chunks that it came in.
    fn unwrap_chunks(&mut self) {
        let mut at = 0;
        while at < self.raw.len() && !self.ended {
            let rest = &self.raw[at..];
            if self.chunk > 0 {
                let there = rest.len().min(self.chunk);
                // The last two bytes are the line feed.
                let text = there.min(self.chunk.saturating_sub(2));
                self.text.extend_from_slice(&rest[..text]);
                self.chunk -= there;
                at += there;
                continue;
            }
            let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") else { break };
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap().trim(), 16).unwrap();
            self.ended = size == 0;
            self.chunk = size + 2;
            at += end + 2;
        }
        self.raw.drain(..at);
    }
}
