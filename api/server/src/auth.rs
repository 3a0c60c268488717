//! Who may call.

use std::sync::Arc;

use fourmi_model::Scope;
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, Writer, async_trait,
    http::{HeaderMap, Method, header::AUTHORIZATION},
};

use crate::{
    caller::Caller,
    door::{Doorkeeper, Origin},
    keys::Keys,
    links::Links,
    people::{Credentials, People, TokenError, tenant_suspended},
    problem::{Code, Problem},
    routes::files::file_id,
};

/// What tells who calls.
#[derive(Clone)]
pub struct Admission {
    /// The API keys.
    pub keys: Arc<Keys>,
    /// The people, who show tokens.
    pub people: Option<Arc<People>>,
    /// The links to files.
    pub links: Arc<Links>,
    /// Who counts the callers; without one nobody is counted.
    pub keeper: Option<Arc<Doorkeeper>>,
}

/// Lets a request pass if whoever sends it is known and has a scope that the route needs; its handlers are told who calls
/// ([`Caller::of`]).
pub(crate) struct RequireCaller {
    pub(crate) admission: Admission,
    pub(crate) scopes: &'static [Scope],
    /// Whether it must be a person who is logged in.
    pub(crate) is_for_people: bool,
}

impl RequireCaller {
    async fn check(&self, request: &Request, depot: &Depot) -> Result<Caller, Problem> {
        let origin = depot.get_typed::<Origin>().ok();
        let Some(caller) = self.who(request, origin)? else {
            if let (Some(keeper), Some(origin)) = (&self.admission.keeper, origin) {
                keeper.limits().count_guess(origin).await?;
            }
            return Err(Problem::unauthorized());
        };
        let people = self.admission.people.as_ref();
        if people.zip(caller.tenant()).is_some_and(|(people, tenant)| people.is_suspended(tenant)) {
            return Err(tenant_suspended());
        }
        if self.is_for_people && caller.login().is_none() {
            return Err(Problem::new(Code::PeopleOnly, "Log in, and show the access token instead of an API key."));
        }
        if self.scopes.is_empty() || self.scopes.iter().any(|scope| caller.may(*scope)) {
            return Ok(caller);
        }
        let names: Vec<_> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        Err(Problem::new(Code::ScopeMissing, format!("This needs the scope {}.", names.join(" or "))))
    }

    /// Who shows a key, or a token in the header or in a cookie; nobody who is known, if there is none.
    ///
    /// # Errors
    /// If a token is over, or a cookie does not prove that its page has asked for this.
    fn who(&self, request: &Request, origin: Option<&Origin>) -> Result<Option<Caller>, Problem> {
        let headers = request.headers();
        if headers.contains_key(AUTHORIZATION) {
            let Some(shown) = bearer(headers) else { return Ok(None) };
            return match self.admission.keys.who(shown) {
                Some(caller) => Ok(Some(caller)),
                None => std::str::from_utf8(shown).map_or(Ok(None), |token| self.person(token)),
            };
        }
        let credentials = Credentials::of(headers, origin);
        let Some((people, token)) = self.admission.people.as_ref().zip(credentials.access()) else { return Ok(None) };
        let caller = self.person(token)?;
        let changes_something = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if changes_something && let Some(login) = caller.as_ref().and_then(Caller::login) {
            credentials.check_csrf(people, &login.session)?;
        }
        Ok(caller)
    }

    fn person(&self, token: &str) -> Result<Option<Caller>, Problem> {
        let Some(people) = &self.admission.people else { return Ok(None) };
        match people.who(token) {
            Ok(caller) => Ok(Some(caller)),
            Err(TokenError::Expired) => Err(Problem::token_expired()),
            Err(TokenError::Malformed | TokenError::Foreign) => Ok(None),
        }
    }
}

#[async_trait]
impl Handler for RequireCaller {
    async fn handle(&self, request: &mut Request, depot: &mut Depot, response: &mut Response, flow: &mut FlowCtrl) {
        match self.check(request, depot).await {
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

/// Lets a request pass if its caller is known, or it comes by a link to the file that it names. A link is judged even
/// if there is a key, so that what it allows does not depend on who tries it.
pub(crate) struct RequireCallerOrLink(pub(crate) RequireCaller);

#[async_trait]
impl Handler for RequireCallerOrLink {
    async fn handle(&self, request: &mut Request, depot: &mut Depot, response: &mut Response, flow: &mut FlowCtrl) {
        if !Links::is_used(request) {
            return self.0.handle(request, depot, response, flow).await;
        }
        match file_id(request).and_then(|file| self.0.admission.links.check(&file, request)) {
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

/// The key or token of `Authorization: Bearer <key>`; a second such header makes it nobody's.
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
