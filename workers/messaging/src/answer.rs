//! What is read of an answer: whoever answers says how long it is, and not how much memory it takes.

use reqwest::Response;

/// The body of an answer; of a longer one than so many bytes, its beginning.
///
/// # Errors
/// If it breaks off before.
pub(crate) async fn read_body(mut answer: Response, most: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < most {
        let Some(chunk) = answer.chunk().await? else { break };
        body.extend_from_slice(&chunk[..chunk.len().min(most - body.len())]);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use fourmi_egress::{Direct, Guard};
    use reqwest::header::HeaderMap;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// What is read, 1,000 bytes at most, of an answer with this beginning; then the other side waits, or hangs up.
    async fn read_of(answer: String, waits: bool) -> Result<Vec<u8>, reqwest::Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4_096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            if waits {
                std::future::pending::<()>().await;
            }
        });
        let direct = Direct::new(Guard::parse("127.0.0.1").unwrap());
        let answer = direct.post(&url, HeaderMap::new(), "", Duration::from_secs(60)).await.unwrap();
        let read = read_body(answer, 1_000).await;
        serving.abort();
        read
    }

    #[tokio::test]
    async fn no_more_is_read_of_an_answer_than_is_wanted() {
        let answer = |length: usize, body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        assert_eq!(read_of(answer(5, "short"), true).await.unwrap(), b"short");
        let endless = answer(usize::MAX >> 1, &"x".repeat(5_000));
        assert_eq!(read_of(endless, true).await.unwrap(), "x".repeat(1_000).as_bytes());
        assert!(read_of(answer(10, "short"), false).await.is_err(), "it breaks off");
    }
}
