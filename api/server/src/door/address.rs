//! Where a request comes from.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use salvo::http::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where a request comes from, as far as our own proxies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The caller's address.
    pub(crate) address: IpAddr,
    /// Whether the caller speaks TLS.
    pub(crate) is_secure: bool,
}

impl Origin {
    /// That of a request which came from `peer`. Only what a trusted proxy has added is believed: the last address that
    /// is none of a trusted proxy.
    pub(crate) fn of(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> Self {
        let trusts = |address: IpAddr| proxies.iter().any(|proxy| proxy.contains(&address));
        let peer = peer.to_canonical();
        if !trusts(peer) {
            return Self { address: peer, is_secure: false };
        }
        let values: Vec<_> = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        let hops = values.iter().flat_map(|value| value.split(','));
        let mut address = peer;
        for hop in hops.rev().map(read) {
            // What stands before a word that is no address was not written by a proxy that we know.
            let Some(hop) = hop else { break };
            address = hop;
            if !trusts(hop) {
                break;
            }
        }
        let proto = headers.get_all(FORWARDED_PROTO).iter().next_back().and_then(|value| value.to_str().ok());
        let is_secure = proto.and_then(|proto| proto.rsplit(',').next()).is_some_and(|proto| proto.trim() == "https");
        Self { address, is_secure }
    }

    /// Who is counted as one caller: an IPv6 address stands for its network of 64 bits, all of which one household has.
    pub(crate) fn neighbourhood(&self) -> IpAddr {
        match self.address {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
            address => address,
        }
    }
}

/// An address, perhaps in brackets and with a port.
fn read(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let parsed = hop.parse().ok().or_else(|| hop.parse().ok().map(|with_port: std::net::SocketAddr| with_port.ip()));
    parsed
        .or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        for (peer, forwarded, expected) in [
            ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
            ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "1.2.3.4, 203.0.113.9, 10.1.1.1", "203.0.113.9"),
            ("10.0.0.1", "1.2.3.4, nonsense, 10.1.1.1", "10.1.1.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("::1", "[2001:db8::5]:443", "2001:db8::5"),
            ("::ffff:10.0.0.1", "203.0.113.9:1234", "203.0.113.9"),
        ] {
            let headers = HeaderMap::from_iter([(FORWARDED_FOR, forwarded.parse().unwrap())]);
            let origin = Origin::of(peer.parse().unwrap(), &headers, &proxies);
            assert_eq!(origin.address, expected.parse::<IpAddr>().unwrap(), "{peer} {forwarded}");
        }
    }

    #[test]
    fn a_scheme_is_the_proxys_word() {
        let headers = HeaderMap::from_iter([(FORWARDED_PROTO, "https".parse().unwrap())]);
        let secure = |proxies: &[IpNet]| Origin::of("10.0.0.1".parse().unwrap(), &headers, proxies).is_secure;
        assert!(secure(&["10.0.0.1/32".parse().unwrap()]));
        assert!(!secure(&[]));
    }

    #[test]
    fn a_network_of_version_six_is_one_caller() {
        let origin = |address: &str| Origin { address: address.parse().unwrap(), is_secure: false };
        assert_eq!(origin("2001:db8:1:2:3::4").neighbourhood(), origin("2001:db8:1:2::9").neighbourhood());
        assert_ne!(origin("192.0.2.1").neighbourhood(), origin("192.0.2.2").neighbourhood());
    }
}
