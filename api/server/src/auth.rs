//! Who may call.

use std::sync::Arc;

use fourmi_model::Scope;
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, Writer, async_trait,
    http::{HeaderMap, header::AUTHORIZATION},
};

use crate::{
    caller::Caller,
    door::{Doorkeeper, Origin},
    keys::Keys,
    links::Links,
    problem::{Code, Problem},
    routes::files::file_id,
};

/// Lets a request pass if it shows a key that is known and has a scope that the route needs; its handlers are told who
/// calls ([`Caller::of`]).
pub(crate) struct RequireKey {
    pub(crate) keys: Arc<Keys>,
    pub(crate) scopes: &'static [Scope],
    pub(crate) keeper: Option<Arc<Doorkeeper>>,
}

impl RequireKey {
    async fn check(&self, headers: &HeaderMap, depot: &Depot) -> Result<Caller, Problem> {
        let Some(caller) = bearer(headers).and_then(|key| self.keys.who(key)) else {
            if let (Some(keeper), Ok(origin)) = (&self.keeper, depot.get_typed::<Origin>()) {
                keeper.limits().count_guess(origin).await?;
            }
            return Err(Problem::unauthorized());
        };
        if self.scopes.is_empty() || self.scopes.iter().any(|scope| caller.may(*scope)) {
            return Ok(caller);
        }
        let names: Vec<_> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        Err(Problem::new(Code::ScopeMissing, format!("This needs a key with the scope {}.", names.join(" or "))))
    }
}

#[async_trait]
impl Handler for RequireKey {
    async fn handle(&self, request: &mut Request, depot: &mut Depot, response: &mut Response, flow: &mut FlowCtrl) {
        match self.check(request.headers(), depot).await {
            Ok(caller) => {
                depot.insert_typed(caller);
            }
            Err(problem) => {
                flow.skip_rest();
                problem.write(request, depot, response).await;
            }
        }
    }
}

/// Lets a request pass if it shows a key that is known, or comes by a link to the file that it names. A link is judged even
/// if there is a key, so that what it allows does not depend on who tries it.
pub(crate) struct RequireKeyOrLink(pub(crate) RequireKey, pub(crate) Arc<Links>);

#[async_trait]
impl Handler for RequireKeyOrLink {
    async fn handle(&self, request: &mut Request, depot: &mut Depot, response: &mut Response, flow: &mut FlowCtrl) {
        if !Links::is_used(request) {
            return self.0.handle(request, depot, response, flow).await;
        }
        match file_id(request).and_then(|file| self.1.check(&file, request)) {
            Ok(grant) => {
                depot.insert_typed(grant);
            }
            Err(problem) => {
                flow.skip_rest();
                problem.write(request, depot, response).await;
            }
        }
    }
}

/// The key of `Authorization: Bearer <key>`; a second such header makes it nobody's.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?.as_bytes(), values.next()) else { return None };
    let (scheme, key) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use salvo::http::HeaderValue;

    use super::*;

    #[test]
    fn one_bearer_header_shows_a_key() {
        let read = |values: &[&'static str]| {
            let headers = values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
            bearer(&headers.fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            }))
            .map(<[u8]>::to_vec)
        };
        assert_eq!(read(&["Bearer abc"]), Some(b"abc".to_vec()));
        assert_eq!(read(&["bearer  abc"]), Some(b"abc".to_vec()));
        for others in [&["Basic abc"][..], &["Bearer"], &["abc"], &[], &["Bearer abc", "Bearer abc"]] {
            assert_eq!(read(others), None, "{others:?}");
        }
    }
}
