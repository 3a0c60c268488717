//! An API in the tests that gives one written answer to each connection and keeps what it was asked.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::Client;

pub(crate) struct Scripted {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// An answer as it goes over the wire. `length` is what its head claims; by default what is true for an answer of known
/// length, and nothing for a stream, which ends with its connection.
pub(crate) fn answer(status: &str, headers: &str, length: Option<usize>, body: &str) -> String {
    let streamed = headers.contains("event-stream");
    let length = length.or((!streamed).then_some(body.len()));
    let length = length.map(|length| format!("content-length: {length}\r\n")).unwrap_or_default();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}{length}\r\n{body}")
}

impl Scripted {
    pub(crate) async fn start(answers: impl IntoIterator<Item = String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answers, seen): (Vec<_>, _) = (answers.into_iter().collect(), Arc::clone(&requests));
        tokio::spawn(async move {
            for answer in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let head = head(&mut socket).await;
                seen.lock().unwrap().push(head);
                socket.write_all(answer.as_bytes()).await.unwrap();
                socket.shutdown().await.unwrap();
            }
        });
        Self { url, requests }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url, "key").unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn head(socket: &mut TcpStream) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(socket.read_u8().await.unwrap()));
    }
    head
}
