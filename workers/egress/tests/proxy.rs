//! The proxy as a client meets it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use fourmi_egress::{Client, EgressError, Guard, Proxy};
use reqwest::header::HeaderMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A server that answers every request with `answer`, once a connection.
async fn server(answer: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = client.read(&mut request).await.unwrap();
            client.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

fn plain(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

async fn get(client: &Client, port: u16) -> reqwest::Response {
    client.get(&format!("http://127.0.0.1:{port}/"), &HeaderMap::new()).await.unwrap()
}

#[tokio::test]
async fn an_opened_host_is_reached_and_its_redirect_inside_is_not() {
    let inner = server(plain("secret")).await;
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{inner}/\r\nContent-Length: 0\r\n\r\n");
    let (open, leads_inside) = (server(plain("hello")).await, server(redirect).await);
    let guard = Guard::parse(&format!("127.0.0.1:{open},127.0.0.1:{leads_inside}")).unwrap();
    let proxy = Proxy::start(guard).await.unwrap();
    let client = proxy.client().unwrap();

    let answer = get(&client, open).await;
    assert_eq!(answer.text().await.unwrap(), "hello");
    assert!(proxy.take_refusal().is_none());

    let answer = get(&client, leads_inside).await;
    assert_eq!(answer.status(), 403);
    assert!(matches!(proxy.take_refusal(), Some(EgressError::Forbidden { .. })));
    assert!(proxy.take_refusal().is_none());
}

#[tokio::test]
async fn strangers_cannot_use_it() {
    let open = server(plain("hello")).await;
    let proxy = Proxy::start(Guard::parse(&format!("127.0.0.1:{open}")).unwrap()).await.unwrap();
    let port = proxy.url().rsplit_once(':').unwrap().1.to_owned();
    // Another client first: it sets TLS up.
    proxy.client().unwrap();
    let stranger = reqwest::Proxy::all(format!("http://fourmi:guess@127.0.0.1:{port}")).unwrap();
    let client = reqwest::Client::builder().proxy(stranger).build().unwrap();
    let answer = client.get(format!("http://127.0.0.1:{open}/")).send();
    assert_eq!(answer.await.unwrap().status(), 407);
}

#[tokio::test]
async fn nobody_there_is_said() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let proxy = Proxy::start(Guard::parse("127.0.0.1").unwrap()).await.unwrap();
    let answer = get(&proxy.client().unwrap(), unused).await;
    assert_eq!(answer.status(), 502);
    assert!(matches!(proxy.take_refusal(), Some(EgressError::Unreachable { .. })));
}
