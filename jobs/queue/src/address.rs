//! Where Redis is: one server, the master that Sentinels name, or a cluster; with or without TLS.
//!
//! `redis://[user:password@]host[:port][/db]`, `redis+unix:///path[?user=…&pass=…&db=…]`,
//! `redis+sentinel://[user:password@]host[:port],…/master[/db][?sentinel_user=…&sentinel_pass=…]`,
//! `redis+cluster://[user:password@]host[:port],…`; with `rediss` for `redis` every connection is encrypted.

use std::{collections::HashMap, path::Path, sync::Once};

use rand::seq::IndexedRandom;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisError,
    RedisResult, TlsCertificates, TlsMode,
    aio::{MultiplexedConnection, PubSub},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::sync::Mutex;

use crate::{QueueError, link::CONNECT_TIMEOUT};

/// Where Redis is, and how to get there.
pub(crate) enum Address {
    /// One server, at a port or a socket.
    Server(Client),
    /// The server that the Sentinels name as the master now.
    Sentinel(Mutex<SentinelClient>),
    /// The nodes that are named, and those that they know.
    Cluster(ClusterClient, Vec<Client>),
}

/// A connection for commands.
#[derive(Clone)]
pub(crate) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Address {
    /// Reads `REDIS_URL`. `ca` is the file of `FOURMI_REDIS_CA`.
    pub(crate) fn parse(url: &str, ca: Option<&Path>) -> Result<Self, QueueError> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let (security, topology) = scheme.split_once('+').unwrap_or((scheme, ""));
        let certificates = if security == "rediss" { Some(read_certificates(ca)?) } else { None };
        let address = match topology {
            "sentinel" => sentinel(security, rest, certificates),
            "cluster" => cluster(security, rest, certificates),
            _ => client(url, certificates).map(Self::Server),
        };
        address.map_err(|error| {
            QueueError::Unsuitable(format!(
                "REDIS_URL is not a Redis address ({error}); it looks like redis://host:6379/0, redis+sentinel://host:26379,host:26379/master or redis+cluster://host:6379,host:6379"
            ))
        })
    }

    /// Connects once, to the one that is the master at this moment.
    pub(crate) async fn connect(&self) -> RedisResult<Connection> {
        let client = match self {
            Self::Cluster(client, _) => return client.get_async_connection().await.map(Connection::Cluster),
            Self::Server(client) => client.clone(),
            Self::Sentinel(sentinels) => sentinels.lock().await.async_get_client().await?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Calls are bounded by the link, which replaces a silent connection.
            .set_response_timeout(None);
        client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Server)
    }

    /// Connects once, for subscriptions. A cluster passes messages to all its nodes, so any will do: one is drawn, so
    /// that the next try takes another.
    pub(crate) async fn pubsub(&self) -> RedisResult<PubSub> {
        match self {
            Self::Server(client) => client.get_async_pubsub().await,
            Self::Sentinel(sentinels) => {
                let master = sentinels.lock().await.async_get_client().await?;
                master.get_async_pubsub().await
            }
            Self::Cluster(_, nodes) => {
                let drawn = nodes.choose(&mut rand::rng());
                drawn.ok_or_else(|| wrong("no node is named"))?.get_async_pubsub().await
            }
        }
    }
}

impl Connection {
    pub(crate) async fn query<T: FromRedisValue>(self, command: &redis::Cmd) -> RedisResult<T> {
        match self {
            Self::Server(mut server) => command.query_async(&mut server).await,
            Self::Cluster(mut cluster) => command.query_async(&mut cluster).await,
        }
    }
}

fn wrong(reason: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, reason).into()
}

fn client(info: impl IntoConnectionInfo, certificates: Option<TlsCertificates>) -> RedisResult<Client> {
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

fn sentinel(security: &str, rest: &str, certificates: Option<TlsCertificates>) -> RedisResult<Address> {
    let list = List::parse(security, rest, 26_379)?;
    let (master, db) = list.path.split_once('/').unwrap_or((list.path, "0"));
    if master.is_empty() {
        return Err(wrong("the name of the master is missing: …/master"));
    }
    let db = db.parse().map_err(|_| wrong("the number of the database is no number"))?;
    let sentinels = list.nodes.iter().map(|node| node.addr().clone());
    let mut builder =
        SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?.set_client_to_redis_db(db);
    if let Some(user) = list.nodes[0].redis_settings().username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = list.nodes[0].redis_settings().password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = list.options.get("sentinel_user") {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = list.options.get("sentinel_pass") {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    Ok(Address::Sentinel(Mutex::new(builder.build()?)))
}

fn cluster(security: &str, rest: &str, certificates: Option<TlsCertificates>) -> RedisResult<Address> {
    let list = List::parse(security, rest, 6_379)?;
    if !list.path.is_empty() {
        return Err(wrong("a cluster has no databases: nothing follows its nodes"));
    }
    let mut builder = ClusterClientBuilder::new(list.nodes.clone())
        .connection_timeout(CONNECT_TIMEOUT)
        // Calls are bounded by the link. Until then they are tried again, so that a failover inside the cluster is
        // not noticed if it is quick: each wait is twice the last, from 20 to 200 ms.
        .overall_response_timeout(None)
        .retries(16)
        .min_retry_wait(20)
        .max_retry_wait(200);
    if let Some(certificates) = &certificates {
        builder = builder.certs(certificates.clone());
    }
    let nodes = list.nodes.into_iter().map(|node| client(node, certificates.clone()));
    Ok(Address::Cluster(builder.build()?, nodes.collect::<RedisResult<_>>()?))
}

/// `[user:password@]host[:port],host[:port]…[/path][?options]`
struct List<'a> {
    /// At least one.
    nodes: Vec<ConnectionInfo>,
    path: &'a str,
    options: HashMap<String, String>,
}

impl<'a> List<'a> {
    fn parse(security: &str, rest: &'a str, port: u16) -> RedisResult<Self> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
        let nodes = hosts.split(',').map(|host| {
            let after_brackets = host.rfind(']').unwrap_or(0);
            let port = if host[after_brackets..].contains(':') { String::new() } else { format!(":{port}") };
            format!("{security}://{user}@{host}{port}").into_connection_info()
        });
        let options = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Ok(Self { nodes: nodes.collect::<RedisResult<_>>()?, path: path.trim_end_matches('/'), options })
    }
}

/// The certificates that are trusted: those of the file, or else the system's.
fn read_certificates(ca: Option<&Path>) -> Result<TlsCertificates, QueueError> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _chosen_already = rustls::crypto::ring::default_provider().install_default();
    });
    let Some(path) = ca else { return Ok(TlsCertificates { client_tls: None, root_cert: None }) };
    let unusable = |reason: &str| QueueError::Unsuitable(format!("FOURMI_REDIS_CA: {} {reason}", path.display()));
    let pem = std::fs::read(path).map_err(|error| unusable(&format!("cannot be read: {error}")))?;
    if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
        return Err(unusable("holds no certificate in PEM form"));
    }
    Ok(TlsCertificates { client_tls: None, root_cert: Some(pem) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_nodes_a_path_and_options() {
        let list = List::parse("redis", "me:p%40w@a,b:7,[::1]/main/3?sentinel_pass=x%20y", 26_379).unwrap();
        let nodes: Vec<_> = list.nodes.iter().map(|node| node.addr().to_string()).collect();
        assert_eq!(nodes, ["a:26379", "b:7", "::1:26379"]);
        assert!(list.nodes.iter().all(|node| node.redis_settings().password() == Some("p@w")));
        assert_eq!((list.path, list.options["sentinel_pass"].as_str()), ("main/3", "x y"));
    }

    #[test]
    fn addresses_of_every_form_are_read() {
        for url in [
            "redis://h",
            "rediss://u:p@h:1/2",
            "redis+unix:///s",
            "redis+sentinel://a,b/main",
            "rediss+sentinel://u:p@a:1/main/2",
            "redis+cluster://a,b,c",
            "rediss+cluster://:p@a",
        ] {
            let address = Address::parse(url, None);
            assert!(address.is_ok(), "{url}: {:?}", address.err());
        }
    }

    #[test]
    fn wrong_addresses_are_refused_without_their_password() {
        for url in [
            "redis+sentinel://:hunter2@a,b",
            "redis+sentinel://:hunter2@a/main/x",
            "redis+cluster://:hunter2@a/1",
            "redis+cluster://:hunter2@",
            "redis://:hunter2@h/x",
            "http://:hunter2@h",
        ] {
            let text = Address::parse(url, None).err().unwrap().to_string();
            assert!(text.contains("REDIS_URL") && !text.contains("hunter2"), "{text}");
        }
    }
}
