//! Redis as the queue may find it: one server, with a password, with TLS, behind a Sentinel, as a cluster.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    sync::{Mutex, MutexGuard},
};

use fourmi_queue::{QueueError, Queues};
use redis::{Cmd, FromRedisValue};
use tempfile::TempDir;

use crate::{RedisServer, eventually};

/// Nothing accepted is lost by a kill.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A word that must be nowhere but in the URL.
pub const PASSWORD: &str = "correct-horse";

/// The servers of one Redis; stopped and removed when dropped.
pub struct Topology {
    url: String,
    authorities: Option<PathBuf>,
    servers: Vec<Mutex<RedisServer>>,
    _sentinel: Option<RedisServer>,
    _certificates: Option<TempDir>,
}

impl Topology {
    /// One server at a socket.
    pub fn one_server() -> Self {
        Self::with(&DURABLE)
    }

    /// One server at a socket with these options.
    pub fn with(options: &[&str]) -> Self {
        let server = RedisServer::with(options);
        Self::of(server.url(), vec![server])
    }

    fn of(url: String, servers: Vec<RedisServer>) -> Self {
        let servers = servers.into_iter().map(Mutex::new).collect();
        Self { url, authorities: None, servers, _sentinel: None, _certificates: None }
    }

    /// One server at a port, with a password and a user who may do no more than docs/operations.md says.
    pub fn with_user() -> Self {
        let port = free_port();
        let rights = "~{*}:* &{*}:* +@all -@dangerous -@admin +info +config|get";
        let mut options = vec!["--port", &port, "--requirepass", "another", "--user", "fourmi", "on"];
        let password = format!(">{PASSWORD}");
        options.push(&password);
        options.extend(rights.split(' '));
        let server = RedisServer::with(&[&DURABLE, options.as_slice()].concat());
        Self::of(format!("redis://fourmi:{PASSWORD}@127.0.0.1:{port}"), vec![server])
    }

    /// One server that speaks nothing but TLS at its port.
    pub fn with_tls() -> Self {
        let port = free_port();
        let certificates = make_certificates();
        let path = |name: &str| certificates.path().join(name).display().to_string();
        let (ca, certificate, key) = (path("ca.pem"), path("server.pem"), path("server.key"));
        let options = ["--tls-port", &port, "--tls-ca-cert-file", &ca, "--tls-cert-file", &certificate];
        let keys = ["--tls-key-file", &key, "--tls-auth-clients", "no"];
        let server = RedisServer::with(&[DURABLE.as_slice(), &options, &keys].concat());
        let mut topology = Self::of(format!("rediss://localhost:{port}"), vec![server]);
        topology.authorities = Some(ca.into());
        topology._certificates = Some(certificates);
        topology
    }

    /// A master, a replica, and a Sentinel that makes the replica the master when the master is gone.
    pub fn behind_a_sentinel() -> Self {
        let (master_port, replica_port, sentinel_port) = (free_port(), free_port(), free_port());
        let secured = ["--requirepass", PASSWORD, "--masterauth", PASSWORD];
        let server = |port: &str, more: &[&str]| {
            RedisServer::with(
                &[DURABLE.as_slice(), &["--port", port, "--repl-diskless-sync-delay", "0"], &secured, more].concat(),
            )
        };
        let master = server(&master_port, &[]);
        let replica = server(&replica_port, &["--replicaof", "127.0.0.1", &master_port]);
        eventually("the replica has everything", || info(&replica, "master_link_status") == "up");
        let watched = format!(
            "sentinel monitor main 127.0.0.1 {master_port} 1\n\
             sentinel auth-pass main {PASSWORD}\n\
             sentinel down-after-milliseconds main 600\n\
             sentinel failover-timeout main 3000\n"
        );
        let sentinel = RedisServer::sentinel(&["--port", &sentinel_port], &watched);
        eventually("the Sentinel knows the replica", || info(&sentinel, "master0").contains("slaves=1"));
        let url = format!("redis+sentinel://:{PASSWORD}@127.0.0.1:{},127.0.0.1:{sentinel_port}/main", free_port());
        Self { _sentinel: Some(sentinel), ..Self::of(url, vec![master, replica]) }
    }

    /// Three masters, each with a third of the slots.
    pub fn cluster() -> Self {
        let ports: Vec<_> = (0..3).map(|_| (free_port(), free_port())).collect();
        let start = |(port, bus): &(String, String)| {
            let options = ["--port", port, "--cluster-enabled", "yes", "--cluster-port", bus];
            RedisServer::with(&[DURABLE.as_slice(), &options, &["--cluster-node-timeout", "2000"]].concat())
        };
        let servers: Vec<_> = ports.iter().map(start).collect();
        let ask = |server: &RedisServer, words: &[&str]| {
            let () = redis::cmd("CLUSTER").arg(words).query(&mut server.connection()).unwrap();
        };
        for (number, slots) in [["0", "5460"], ["5461", "10922"], ["10923", "16383"]].iter().enumerate() {
            ask(&servers[number], &["SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            ask(&servers[number], &["ADDSLOTSRANGE", slots[0], slots[1]]);
        }
        for (port, bus) in &ports[1..] {
            ask(&servers[0], &["MEET", "127.0.0.1", port, bus]);
        }
        for server in &servers {
            eventually("the cluster stands", || {
                let state: String = redis::cmd("CLUSTER").arg("INFO").query(&mut server.connection()).unwrap();
                state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:3")
            });
        }
        let nodes: Vec<_> = ports.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        Self::of(format!("redis+cluster://{}", nodes.join(",")), servers)
    }

    /// What `REDIS_URL` is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What `FOURMI_REDIS_CA` is.
    pub fn authorities(&self) -> Option<&PathBuf> {
        self.authorities.as_ref()
    }

    /// Its queues, over connections of their own.
    ///
    /// # Errors
    /// If they cannot be used.
    pub async fn connect(&self) -> Result<Queues, QueueError> {
        Queues::connect_trusting(&self.url, self.authorities.as_deref()).await
    }

    /// One of the servers; behind a Sentinel the first is the master at the beginning.
    pub fn server(&self, number: usize) -> MutexGuard<'_, RedisServer> {
        self.servers[number].lock().unwrap()
    }

    /// Asks the server that has the keys of the command.
    pub fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let answers = self.servers.iter().map(|server| command.query(&mut server.lock().unwrap().connection()));
        let mut refusals = Vec::new();
        for answer in answers {
            match answer {
                Ok(answer) => return answer,
                Err(error) => refusals.push(error),
            }
        }
        panic!("no server answers: {refusals:?}")
    }

    /// Waits until the replica behind a Sentinel has all that the first master has now.
    pub fn wait_until_replicated(&self) {
        let mut master = self.server(0).connection();
        // Replication keeps the order: what has this has all that came before.
        let () = redis::cmd("SET").arg("marker").arg(1).query(&mut master).unwrap();
        let replicas: u32 = redis::cmd("WAIT").arg(1).arg(10_000).query(&mut master).unwrap();
        assert_eq!(replicas, 1);
    }

    /// Cuts all connections to all servers.
    pub fn cut_connections(&self) {
        for server in &self.servers {
            let mut connection = server.lock().unwrap().connection();
            for kind in ["normal", "pubsub"] {
                let () = redis::cmd("CLIENT").arg(&["KILL", "TYPE", kind]).query(&mut connection).unwrap();
            }
        }
    }
}

/// A port that nobody has at this moment.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// A line of what a server says of itself.
fn info(server: &RedisServer, name: &str) -> String {
    let text: String = redis::cmd("INFO").query(&mut server.connection()).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().to_owned()
}

/// `ca.pem`, and what it has signed for localhost: `server.pem`, `server.key`.
fn make_certificates() -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, content: String| fs::write(folder.path().join(name), content).unwrap();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    write("ca.pem", ca.self_signed(&ca_key).unwrap().pem());
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server = rcgen::CertificateParams::new(names).unwrap();
    write("server.pem", server.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).unwrap().pem());
    write("server.key", key.serialize_pem());
    folder
}
