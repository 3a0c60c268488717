//! Who may be connected to.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::is_global;

/// Longer than this is nobody asked to wait for a name or a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Resolves, judges and connects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    opened: Vec<Opened>,
}

/// What the operator has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Opened {
    Name { host: String, port: Option<u16> },
    Address { address: IpAddr, port: Option<u16> },
    Net(IpNet),
}

/// A rule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a host, nor host:port, nor a network such as 10.1.0.0/16")]
pub struct InvalidRule(pub String);

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EgressError {
    /// The host is on the inside.
    #[error("{host} is not an address of the public internet ({address})")]
    Forbidden {
        /// As it was given.
        host: String,
        /// What it resolves to.
        address: IpAddr,
    },
    /// The name means nothing, or nobody says what.
    #[error("the name {host} cannot be resolved: {reason}")]
    Unresolved {
        /// As it was given.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// Nobody answers there.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// As it was given.
        host: String,
        /// What the system says.
        reason: String,
    },
}

impl Guard {
    /// A guard that lets nobody inside but to what `rules` open, separated by commas: `host`, `host:port`, an address with
    /// or without port, a network (`10.1.0.0/16`).
    ///
    /// # Errors
    /// The first rule that cannot be read.
    pub fn parse(rules: &str) -> Result<Self, InvalidRule> {
        let rules = rules.split(',').map(str::trim).filter(|rule| !rule.is_empty());
        let opened = rules.map(|rule| Opened::parse(rule).ok_or_else(|| InvalidRule(rule.to_owned())));
        Ok(Self { opened: opened.collect::<Result<_, _>>()? })
    }

    /// Whether `host`, which resolved to `address`, may be connected to.
    pub fn allows(&self, host: &str, address: IpAddr, port: u16) -> bool {
        is_global(address) || self.opened.iter().any(|opened| opened.holds(host, address, port))
    }

    /// Connects to one of the addresses of `host`, which may be a name or an address; in brackets, if it is one of IPv6.
    ///
    /// # Errors
    /// [`EgressError`]. If any address of a name is on the inside, the name is refused: it was made to deceive.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, EgressError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = self.judged(host, port).await?;
        let unreachable = |reason: String| EgressError::Unreachable { host: host.to_owned(), reason };
        let mut last = unreachable("it has no address".to_owned());
        for address in addresses {
            match timeout(PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // A proxy adds no waiting of its own.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = unreachable(error.to_string()),
                Err(_) => last = unreachable(format!("no answer within {} s", PATIENCE.as_secs())),
            }
        }
        Err(last)
    }

    /// The addresses of a name or an address, all of which may be connected to.
    ///
    /// # Errors
    /// [`EgressError`]. If any of them is on the inside, none is given: the name was made to deceive.
    pub(crate) async fn judged(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, EgressError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = self.resolve(host, port).await?;
        match addresses.iter().find(|address| !self.allows(host, address.ip(), port)) {
            Some(inside) => Err(EgressError::Forbidden { host: host.to_owned(), address: inside.ip() }),
            None => Ok(addresses),
        }
    }

    /// Whether the operator has opened all of these addresses of `host`, none of which need be of the world.
    pub(crate) fn has_opened(&self, host: &str, addresses: &[SocketAddr], port: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        addresses.iter().all(|address| self.opened.iter().any(|opened| opened.holds(host, address.ip(), port)))
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, EgressError> {
        let unresolved = |reason: String| EgressError::Unresolved { host: host.to_owned(), reason };
        // The system also reads 127.1, 2130706433 and 0x7f000001 as addresses: all are judged by what they mean.
        match timeout(PATIENCE, lookup_host((host, port))).await {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(error)) => Err(unresolved(error.to_string())),
            Err(_) => Err(unresolved(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }
}

impl Opened {
    fn parse(rule: &str) -> Option<Self> {
        if let Ok(net) = rule.parse::<IpNet>() {
            return Some(Self::Net(net));
        }
        if let Ok(address) = rule.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Some(Self::Address { address, port: None });
        }
        if let Ok(socket) = rule.parse::<SocketAddr>() {
            return Some(Self::Address { address: socket.ip(), port: Some(socket.port()) });
        }
        let (host, port) = match rule.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (rule, None),
        };
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        let is_name = !host.is_empty() && host.chars().all(fine);
        is_name.then(|| Self::Name { host: host.to_ascii_lowercase(), port })
    }

    fn holds(&self, host: &str, address: IpAddr, port: u16) -> bool {
        let fits = |opened: Option<u16>| opened.is_none_or(|opened| opened == port);
        match self {
            Self::Name { host: name, port } => host.trim_end_matches('.').eq_ignore_ascii_case(name) && fits(*port),
            Self::Address { address: opened, port } => *opened == canonical(address) && fits(*port),
            Self::Net(net) => net.contains(&canonical(address)),
        }
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules", self.opened.len())
    }
}

impl From<EgressError> for io::Error {
    fn from(error: EgressError) -> Self {
        Self::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_open_what_they_name_and_nothing_else() {
        let guard = Guard::parse("media.local, nas.local:8080, 127.0.0.1:9000, 10.1.0.0/16, fd00::1").unwrap();
        let inside: IpAddr = "192.168.0.9".parse().unwrap();
        for (host, address, port, allowed) in [
            ("media.local", inside, 80, true),
            ("MEDIA.local.", inside, 443, true),
            ("media.local.evil.example", inside, 80, false),
            ("nas.local", inside, 8080, true),
            ("nas.local", inside, 80, false),
            ("127.0.0.1", "127.0.0.1".parse().unwrap(), 9000, true),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1".parse().unwrap(), 9000, true),
            ("127.0.0.1", "127.0.0.1".parse().unwrap(), 9001, false),
            ("x", "10.1.2.3".parse().unwrap(), 1, true),
            ("x", "10.2.2.3".parse().unwrap(), 1, false),
            ("x", "fd00::1".parse().unwrap(), 1, true),
            ("x", "8.8.8.8".parse().unwrap(), 1, true),
        ] {
            assert_eq!(guard.allows(host, address, port), allowed, "{host} {address} {port}");
        }
    }

    #[test]
    fn a_wrong_rule_is_named() {
        for rule in ["http://host", "host:port", "10.0.0.0/33", "a b", ":80"] {
            assert_eq!(Guard::parse(&format!("fine,{rule}")), Err(InvalidRule(rule.to_owned())));
        }
        assert_eq!(Guard::parse(" , "), Ok(Guard::default()));
    }

    #[tokio::test]
    async fn every_way_to_write_loopback_is_loopback() {
        let guard = Guard::default();
        for host in
            ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "[::1]", "::ffff:7f00:1", "0"]
        {
            let refused = guard.connect(host, 9).await;
            assert!(matches!(refused, Err(EgressError::Forbidden { .. })), "{host}: {refused:?}");
        }
    }
}
