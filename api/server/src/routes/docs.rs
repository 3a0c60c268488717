//! The documentation: the OpenAPI document, and the same as a page that needs no network and no script.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use salvo::{
    Depot, Response, handler,
    http::{
        HeaderValue, Method, ResBody, StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
};
use serde_json::Value;

use crate::{
    docs_page,
    operation::{Group, JSON, Operation, schema, state_of},
    problem::Problem,
};

const HTML: &str = "text/html";

/// The documentation, which is written once all routes are known, its own among them.
#[derive(Clone, Default)]
pub(crate) struct Page(Arc<OnceLock<Written>>);

struct Written {
    document: Bytes,
    page: Bytes,
}

impl Page {
    /// Writes the documentation.
    pub(crate) fn fill(&self, document: &Value) {
        self.0.get_or_init(|| Written {
            document: serde_json::to_vec_pretty(document).unwrap_or_default().into(),
            page: docs_page::render(document).into(),
        });
    }

    fn written(depot: &Depot) -> Result<Self, Problem> {
        state_of(depot)
    }
}

/// The routes.
pub(crate) fn group(page: Page) -> Group {
    table().sharing(page)
}

pub(crate) fn table() -> Group {
    Group::new(
        "documentation",
        "What you read. For everyone.",
        vec![
            Operation::new("get_openapi", Method::GET, "/api/v1/openapi.json", get_openapi)
                .open()
                .says("Describes the API (OpenAPI 3.1)", "")
                .answers(StatusCode::OK, JSON, schema::<serde_json::Map<String, Value>>, "The description."),
            Operation::new("get_docs", Method::GET, "/docs", get_docs)
                .open()
                .says("Describes the API to a person", "")
                .answers(StatusCode::OK, HTML, schema::<String>, "The page."),
        ],
    )
}

#[handler]
async fn get_openapi(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let page = Page::written(depot)?;
    let document = page.0.get().map(|written| written.document.clone()).unwrap_or_default();
    send(response, JSON, document);
    Ok(())
}

#[handler]
async fn get_docs(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let page = Page::written(depot)?;
    send(response, "text/html; charset=utf-8", page.0.get().map(|written| written.page.clone()).unwrap_or_default());
    let policy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    Ok(())
}

/// How the page looks.
#[handler]
pub(crate) async fn style(response: &mut Response) {
    send(response, "text/css; charset=utf-8", Bytes::from_static(include_bytes!("../docs_page.css")));
}

fn send(response: &mut Response, media_type: &'static str, content: Bytes) {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.replace_body(ResBody::Once(content));
}
