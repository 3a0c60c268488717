//! Puts routes, keys and what surrounds every request together.

use std::sync::Arc;

use fourmi_kinds::catalogue;
use fourmi_telemetry::traces::Tracer;
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, Router, Service, Writer, async_trait,
    catcher::Catcher,
    handler,
    http::{Method, header::ACCEPT},
    writing::Redirect,
};

use crate::{
    Requests,
    auth::{Admission, RequireCaller, RequireCallerOrLink},
    door::{Count, Enter, class_of},
    headers::accepts,
    openapi,
    operation::{ANY, Access, Group, Operation},
    problem::{Catch, Code, Problem},
    routes::docs,
    trace::Trace,
};

/// The service that answers on these routes, to whoever is known or, for files, has a link; and on those of the documentation,
/// which describes them. How long it takes is counted and, if there is a tracer, traced.
pub fn service(admission: &Admission, requests: &Requests, tracer: Option<Tracer>, mut groups: Vec<Group>) -> Service {
    let page = docs::Page::default();
    groups.push(docs::group(page.clone()));
    page.fill(&openapi::document(&groups, catalogue()));

    let mut root = Router::new().get(to_docs).push(Router::with_path("docs/style.css").get(docs::style));
    for group in &groups {
        for operation in &group.operations {
            root = root.push(route(group, operation, admission));
        }
    }
    let mut service =
        Service::new(root).hoop(Trace { requests: requests.clone(), tracer }).catcher(Catcher::new(Catch));
    if let Some(keeper) = admission.keeper.clone() {
        let cors = keeper.cors();
        service = service.hoop(Enter(keeper));
        if let Some(cors) = cors {
            service = service.hoop(cors);
        }
    }
    service
}

fn route(group: &Group, operation: &Operation, admission: &Admission) -> Router {
    let mut router = Router::with_path(operation.path.trim_start_matches('/'));
    let (scopes, is_for_people) = (operation.scopes, operation.access == Access::Person);
    let require_caller = RequireCaller { admission: admission.clone(), scopes, is_for_people };
    router = match operation.access {
        Access::Open => router,
        Access::Caller | Access::Person => router.hoop(require_caller),
        Access::CallerOrLink => router.hoop(RequireCallerOrLink(require_caller)),
    };
    if let (Some(keeper), Some(class)) = (&admission.keeper, class_of(operation)) {
        router = router.hoop(Count { keeper: Arc::clone(keeper), class });
    }
    router = router.hoop(Negotiate(operation.media_type()));
    if let Some(state) = &group.state {
        router = router.hoop(state.clone());
    }
    let handler = operation.handler.clone();
    match operation.method {
        Method::GET => router.get(handler),
        Method::HEAD => router.head(handler),
        Method::DELETE => router.delete(handler),
        Method::PATCH => router.patch(handler),
        Method::PUT => router.put(handler),
        Method::OPTIONS => router.options(handler),
        _ => router.post(handler),
    }
}

/// Whoever opens the bare address in a browser wants to read.
#[handler]
async fn to_docs() -> Redirect {
    Redirect::found("/docs")
}

/// Refuses callers who accept nothing that the route answers.
struct Negotiate(&'static str);

#[async_trait]
impl Handler for Negotiate {
    async fn handle(&self, request: &mut Request, depot: &mut Depot, response: &mut Response, flow: &mut FlowCtrl) {
        let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        if self.0 != ANY && !accepts(accepted, self.0) {
            flow.skip_rest();
            let problem = Problem::new(Code::NotAcceptable, format!("The answer is {}.", self.0));
            problem.write(request, depot, response).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use salvo::http::StatusCode;
    use serde_json::Value;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        keys::Keys,
        links::Links,
        operation::{JSON, schema},
        server::Server,
    };

    #[handler]
    async fn panic() {
        panic!("on purpose");
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let operation = Operation::new("panic", Method::GET, "/panic", panic).open().answers(
            StatusCode::OK,
            JSON,
            schema::<()>,
            "Never.",
        );
        let folder = tempfile::tempdir().unwrap();
        let admission = Admission {
            keys: Arc::new(Keys::only(folder.path(), "a-key-of-the-tests").await.unwrap()),
            people: None,
            links: Arc::new(Links::random()),
            keeper: None,
        };
        let service = service(&admission, &Requests::default(), None, vec![Group::new("t", "", vec![operation])]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::of(listener, service, CancellationToken::new());
        let url = format!("http://{}/panic", server.address().unwrap());
        tokio::spawn(server.run());

        let _chosen_already = rustls::crypto::ring::default_provider().install_default();
        for _ in 0..2 {
            let answer = reqwest::get(&url).await.unwrap();
            assert_eq!(answer.status(), 500);
            assert!(answer.headers().contains_key("x-request-id"));
            let problem: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            assert_eq!(problem["code"], "internal");
            assert!(!problem.to_string().contains("on purpose"), "{problem}");
        }
    }
}
