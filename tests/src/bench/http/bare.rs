//! The least that a server of this framework can do with a job: a handler that puts the body into a list of Redis.

use std::sync::OnceLock;

use redis::{AsyncCommands, aio::MultiplexedConnection};
use salvo::{
    Request, Response, Router, Server, Service,
    conn::{Acceptor, Listener, TcpListener},
    handler,
    http::StatusCode,
};

static CONNECTION: OnceLock<MultiplexedConnection> = OnceLock::new();

/// Serves until it is killed, and says where.
///
/// # Panics
/// If Redis (`REDIS_URL`) does not answer or no port is free.
pub async fn serve() {
    let client = redis::Client::open(std::env::var("REDIS_URL").unwrap()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let acceptor = TcpListener::new("127.0.0.1:0").bind().await;
    let address = acceptor.holdings()[0].local_addr.to_string();
    CONNECTION.set(connection).ok();
    let router = Router::with_path("{**any}").post(push);
    println!("listening on {}", address.trim_start_matches("socket://"));
    Server::new(acceptor).serve(Service::new(router)).await;
}

#[handler]
async fn push(request: &mut Request, response: &mut Response) {
    let mut connection = CONNECTION.get().unwrap().clone();
    let body = request.payload().await.unwrap().to_vec();
    let _length: u64 = connection.lpush("bare", body).await.unwrap();
    response.status_code(StatusCode::ACCEPTED);
    response.render("{}");
}
