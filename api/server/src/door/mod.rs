//! The door: where a request comes from, by which name it asks, whose pages may ask, and how often.

mod address;
mod limiter;
mod limits;

use std::{net::IpAddr, sync::Arc};

use fourmi_queue::Queues;
use fourmi_settings::Door;
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, Writer, async_trait,
    conn::SocketAddr,
    cors::{AllowOrigin, Cors, CorsHandler},
    http::{HeaderName, HeaderValue, Method, header::STRICT_TRANSPORT_SECURITY},
};

pub(crate) use address::Origin;
pub(crate) use limits::{Count, Limits, class_of};

use crate::{
    LimitHits,
    problem::{Code, Problem},
};

/// How long browsers keep to TLS after they were answered over it: a year.
const HSTS: &str = "max-age=31536000";

/// What stands at the door: settings, and the counts of what callers ask.
pub struct Doorkeeper {
    settings: Door,
    limits: Limits,
}

impl Doorkeeper {
    /// Counts what callers ask in the Redis of these queues, and how often they are refused.
    pub fn new(settings: Door, queues: Queues, hits: LimitHits) -> Self {
        let limits = Limits::new(queues, settings.rate_limits.clone(), hits);
        Self { settings, limits }
    }

    /// Origins whose pages may call.
    pub(crate) fn cors(&self) -> Option<CorsHandler> {
        cors(&self.settings.cors_origins)
    }

    /// What callers have asked.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// Notes where each request comes from, and refuses those that ask by a name which is not ours.
pub(crate) struct Enter(pub(crate) Arc<Doorkeeper>);

#[async_trait]
impl Handler for Enter {
    async fn handle(&self, request: &mut Request, depot: &mut Depot, response: &mut Response, flow: &mut FlowCtrl) {
        let origin = Origin::of(peer(request.remote_addr()), request.headers(), &self.0.settings.trusted_proxies);
        depot.insert_typed(origin);
        if origin.is_secure {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
        }
        if !self.knows_host(request) {
            flow.skip_rest();
            let problem = Problem::new(Code::UnknownHost, "This name is not among FOURMI_TRUSTED_HOSTS.");
            problem.write(request, depot, response).await;
        }
    }
}

impl Enter {
    fn knows_host(&self, request: &Request) -> bool {
        let names = &self.0.settings.trusted_hosts;
        // Whoever probes our health asks by address.
        if names.is_empty() || request.uri().path().starts_with("/api/v1/health") {
            return true;
        }
        let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let header = || Some(request.headers().get("host")?.to_str().ok()?.to_owned());
        let Some(host) = host.or_else(header).map(|host| host.to_ascii_lowercase()) else { return false };
        let without_port = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
            _ => &host,
        };
        names.iter().any(|name| *name == host || name == without_port)
    }
}

/// A connection that has no address comes from this machine.
fn peer(address: &SocketAddr) -> IpAddr {
    match address {
        SocketAddr::IPv4(address) => IpAddr::V4(*address.ip()),
        SocketAddr::IPv6(address) => IpAddr::V6(*address.ip()),
        _ => IpAddr::from([127, 0, 0, 1]),
    }
}

/// Lets pages of these origins call; `None` if there is none. Those that are named may send cookies along, which browsers
/// do for pages of the same site only; any page must show a key.
fn cors(origins: &[String]) -> Option<CorsHandler> {
    let any = origins.iter().any(|origin| origin == "*");
    let allowed = match origins {
        [] => return None,
        _ if any => AllowOrigin::any(),
        some => AllowOrigin::list(some.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let names = |names: &[&'static str]| names.iter().map(|name| HeaderName::from_static(name)).collect::<Vec<_>>();
    let cors = Cors::new()
        .allow_origin(allowed)
        .allow_methods(vec![Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(names(READ))
        .expose_headers(names(SHOWN))
        .allow_credentials(!any)
        .max_age(600);
    Some(cors.into_handler())
}

/// Headers that pages may send.
const READ: &[&str] = &[
    "accept",
    "authorization",
    "content-disposition",
    "content-digest",
    "content-sha256",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "if-range",
    "last-event-id",
    "prefer",
    "range",
    "traceparent",
    "tus-resumable",
    "upload-length",
    "upload-metadata",
    "upload-offset",
    "x-csrf-token",
    "x-http-method-override",
    "x-request-id",
];

/// Headers that pages may read.
const SHOWN: &[&str] = &[
    "content-disposition",
    "content-range",
    "etag",
    "idempotency-replayed",
    "location",
    "preference-applied",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "tus-extension",
    "tus-max-size",
    "tus-resumable",
    "tus-version",
    "unique-conflict",
    "upload-expires",
    "upload-file",
    "upload-length",
    "upload-metadata",
    "upload-offset",
    "x-request-id",
];
