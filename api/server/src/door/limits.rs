//! How often a caller may ask what: `429` for whoever asks more often, and headers that tell how much is left
//! (draft-ietf-httpapi-ratelimit-headers-10).

use std::{
    fmt::{Display, Write},
    sync::Arc,
};

use fourmi_model::Scope;
use fourmi_queue::Queues;
use fourmi_settings::{Per, RateLimit, RateLimits, RouteClass};
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, Writer, async_trait,
    http::{HeaderName, HeaderValue},
};

use crate::{
    LimitHits,
    caller::Caller,
    door::{
        Doorkeeper,
        address::Origin,
        limiter::{Limiter, Standing},
    },
    operation::{Access, EVENT_STREAM, Operation},
    problem::{Code, Problem},
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What anybody may ask with a key that everybody can see, from one address, unless the key says otherwise.
const PUBLIC: RateLimit = RateLimit::of(100, 60);

/// What a device may ask, unless its key says otherwise, and a person without a special role.
const DEVICE: RateLimit = RateLimit::of(600, 60);

/// Counts what callers ask.
pub(crate) struct Limits {
    limiter: Limiter,
    rates: RateLimits,
    hits: LimitHits,
}

/// One limit that a request counts against.
struct Counted {
    name: &'static str,
    bucket: String,
    limit: RateLimit,
}

impl Limits {
    pub(crate) fn new(queues: Queues, rates: RateLimits, hits: LimitHits) -> Self {
        Self { limiter: Limiter::new(queues), rates, hits }
    }

    /// Counts a request of a class, by a caller or by nobody in particular.
    async fn count(&self, class: RouteClass, caller: Option<&Caller>, origin: &Origin) -> Result<Told, Problem> {
        let mut told = Told::default();
        for counted in self.of(class, caller, origin) {
            self.one(&counted, &mut told).await?;
        }
        Ok(told)
    }

    /// Counts a try with a key that is wrong.
    ///
    /// # Errors
    /// If there were too many from this address.
    pub(crate) async fn count_guess(&self, origin: &Origin) -> Result<(), Problem> {
        self.count(RouteClass::Guess, None, origin).await.map(drop)
    }

    /// Counts the submission of a job of this kind.
    ///
    /// # Errors
    /// If there were too many with this key.
    pub(crate) async fn count_kind(&self, kind: &str, caller: &Caller) -> Result<(), Problem> {
        let Some(limit) = self.rates.of_kind(kind) else { return Ok(()) };
        let counted = Counted { name: "kind", bucket: format!("kind:{kind}:{}", caller.id()), limit };
        self.one(&counted, &mut Told::default()).await
    }

    fn of(&self, class: RouteClass, caller: Option<&Caller>, origin: &Origin) -> Vec<Counted> {
        let mut all = Vec::with_capacity(2);
        let mut add = |class: RouteClass, limit: Option<RateLimit>, who: &dyn Display| {
            let name = class.as_str();
            all.extend(limit.map(|limit| Counted { name, bucket: format!("{name}:{who}"), limit }));
        };
        let near = origin.neighbourhood();
        if let Some(caller) = caller {
            let key = caller.id();
            add(class, self.rates.of(class, Per::Key), &key);
            // Everybody has the same public key, so that it is counted for each of them.
            match caller.rate_limit().or_else(|| self.rates.of(RouteClass::Any, Per::Key)) {
                limit if is_public(caller) => {
                    add(RouteClass::Any, limit.or(Some(PUBLIC)), &format_args!("{key}:{near}"))
                }
                limit if caller.own_only() => add(RouteClass::Any, limit.or(Some(DEVICE)), &key),
                limit => add(RouteClass::Any, limit, &key),
            }
        }
        add(class, self.rates.of(class, Per::Address), &near);
        add(RouteClass::Any, self.rates.of(RouteClass::Any, Per::Address), &near);
        all
    }

    async fn one(&self, counted: &Counted, told: &mut Told) -> Result<(), Problem> {
        let standing = self.limiter.count(&counted.bucket, counted.limit).await;
        told.add(counted, &standing);
        if standing.passes {
            return Ok(());
        }
        self.hits.count(counted.name);
        let RateLimit { quota, window } = counted.limit;
        let detail = format!("{quota} requests in {} seconds are allowed here.", window.as_secs());
        Err(told
            .headers()
            .fold(Problem::new(Code::RateLimited, detail).retry_after(standing.retry_in), |problem, (name, value)| {
                problem.header(name, value)
            }))
    }
}

/// Whether the key is one that anybody may see.
fn is_public(caller: &Caller) -> bool {
    caller.may(Scope::PublicRead) && !caller.may(Scope::JobsRead)
}

/// What a caller is told of the limits that bind it.
#[derive(Default)]
struct Told {
    policy: String,
    state: String,
}

impl Told {
    fn add(&mut self, counted: &Counted, standing: &Standing) {
        let comma = if self.policy.is_empty() { "" } else { ", " };
        let RateLimit { quota, window } = counted.limit;
        let name = counted.name;
        // Writing to a text cannot fail.
        let _ = write!(self.policy, "{comma}\"{name}\";q={quota};w={}", window.as_secs());
        let _ = write!(self.state, "{comma}\"{name}\";r={};t={}", standing.left, standing.full_in.as_secs_f64().ceil());
    }

    fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let header = |name, text: &str| Some((name, HeaderValue::from_str(text).ok().filter(|_| !text.is_empty())?));
        [header(RATE_LIMIT_POLICY, &self.policy), header(RATE_LIMIT, &self.state)].into_iter().flatten()
    }
}

/// What is asked by a route; `None` for what touches nothing.
pub(crate) fn class_of(operation: &Operation) -> Option<RouteClass> {
    let class = match operation.scopes {
        _ if !operation.counted => return None,
        _ if operation.path.starts_with("/api/v1/auth/") => RouteClass::Login,
        _ if operation.access == Access::Open => RouteClass::Open,
        _ if operation.media_type() == EVENT_STREAM => RouteClass::Stream,
        [Scope::JobsSubmit, ..] => RouteClass::Submit,
        [Scope::JobsControl, ..] => RouteClass::Control,
        [Scope::JobsWork, ..] => RouteClass::Work,
        [Scope::FilesWrite, ..] => RouteClass::Upload,
        [Scope::FilesRead, ..] => RouteClass::Download,
        [Scope::QueuesAdmin | Scope::KeysAdmin | Scope::UsersAdmin | Scope::TenantsAdmin, ..] => RouteClass::Admin,
        _ => RouteClass::Read,
    };
    Some(class)
}

/// Counts every request of a route, after it is known who calls.
pub(crate) struct Count {
    pub(crate) keeper: Arc<Doorkeeper>,
    pub(crate) class: RouteClass,
}

#[async_trait]
impl Handler for Count {
    async fn handle(&self, request: &mut Request, depot: &mut Depot, response: &mut Response, flow: &mut FlowCtrl) {
        let caller = Caller::of(depot).ok();
        let Ok(origin) = depot.get_typed::<Origin>().copied() else { return };
        match self.keeper.limits.count(self.class, caller.as_ref(), &origin).await {
            Ok(told) => response.headers_mut().extend(told.headers()),
            Err(problem) => {
                flow.skip_rest();
                problem.write(request, depot, response).await;
            }
        }
    }
}
