//! A client that costs little: requests over a fixed number of connections, one at a time on each.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// What a load gave.
#[derive(Default)]
pub(super) struct Answers {
    /// How long each took.
    pub(super) latencies: Vec<Duration>,
    /// How long all of them took.
    pub(super) elapsed: Duration,
}

impl Answers {
    /// Requests answered a second.
    pub(super) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends what `request` makes over this many connections until the time is over.
///
/// # Panics
/// If one is refused: then nothing was measured.
pub(super) async fn send(
    address: &str,
    connections: usize,
    lasting: Duration,
    request: impl Fn(usize, u64) -> Vec<u8> + Clone + Send + 'static,
) -> Answers {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for connection in 0..connections {
        let (address, request) = (address.to_owned(), request.clone());
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut latencies, mut buffer) = (Vec::new(), Vec::with_capacity(8 * 1024));
            for number in 0.. {
                let sent = Instant::now();
                if sent.duration_since(started) >= lasting {
                    break;
                }
                stream.write_all(&request(connection, number)).await.unwrap();
                answer(&mut stream, &mut buffer).await;
                latencies.push(sent.elapsed());
            }
            latencies
        });
    }
    let latencies = tasks.join_all().await.concat();
    Answers { latencies, elapsed: started.elapsed() }
}

/// Reads one answer, which must be a success.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    buffer.clear();
    loop {
        let read = stream.read_buf(buffer).await.unwrap();
        assert!(read > 0, "the connection was closed");
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).unwrap().to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 2"), "{}", String::from_utf8_lossy(buffer));
        let length = text
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap_or_default().parse::<usize>().unwrap());
        while buffer.len() < head + 4 + length {
            assert!(stream.read_buf(buffer).await.unwrap() > 0, "the connection was closed");
        }
        return;
    }
}
