//! The kinds of jobs.

use fourmi_kinds::{Catalogue, KindInfo, catalogue};
use fourmi_model::{Isolation, KindName, Priority, QueueName};
use salvo::{
    Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::{JsonSchema, Schema};
use serde::Serialize;

use crate::{
    body,
    operation::{Group, JSON, Operation, Place, schema},
    problem::{Code, Problem},
};

/// A kind of job.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Kind")]
struct KindDocument {
    /// The name.
    name: KindName,
    /// The queue that its jobs wait in.
    queue: QueueName,
    /// The version of the payload's schema.
    schema_version: u32,
    /// What it does, in one line.
    summary: &'static str,
    /// Runs that may fail before a job is given up; `null` for an endless kind.
    attempts: Option<u32>,
    /// The longest that one run may take, in milliseconds.
    timeout_ms: u64,
    /// The priority when the caller names none.
    priority: Priority,
    /// Whether it runs in a process of its own.
    isolated: bool,
    /// JSON Schema (2020-12) of the payload.
    payload_schema: Schema,
    /// JSON Schema (2020-12) of the result.
    result_schema: Schema,
}

impl From<&KindInfo> for KindDocument {
    fn from(kind: &KindInfo) -> Self {
        Self {
            name: kind.name.clone(),
            queue: kind.queue.clone(),
            schema_version: kind.schema_version,
            summary: kind.summary,
            attempts: kind.policy.attempts,
            timeout_ms: u64::try_from(kind.policy.timeout.as_millis()).unwrap_or(u64::MAX),
            priority: kind.policy.priority,
            isolated: kind.policy.isolation != Isolation::InProcess,
            payload_schema: kind.payload_schema.clone(),
            result_schema: kind.result_schema.clone(),
        }
    }
}

/// All kinds of jobs.
#[derive(Serialize, JsonSchema)]
struct KindList {
    /// The kinds, by name.
    kinds: Vec<KindDocument>,
}

/// The routes.
pub fn group() -> Group {
    Group::new(
        "kinds",
        "What can be done: each kind with the schema of its payload and its result.",
        vec![
            Operation::new("list_kinds", Method::GET, "/api/v1/kinds", list_kinds)
                .says("Lists the kinds of jobs", "")
                .answers(StatusCode::OK, JSON, schema::<KindList>, "All kinds."),
            Operation::new("get_kind", Method::GET, "/api/v1/kinds/{name}", get_kind)
                .says("Describes a kind of job", "")
                .takes(Place::Path, "name", schema::<KindName>, "The kind.")
                .answers(StatusCode::OK, JSON, schema::<KindDocument>, "The kind.")
                .fails(&[Code::KindNotFound]),
        ],
    )
}

#[handler]
async fn list_kinds(response: &mut Response) -> Result<(), Problem> {
    let kinds = catalogue().iter().map(KindDocument::from).collect();
    body::write(response, StatusCode::OK, &KindList { kinds })
}

#[handler]
async fn get_kind(request: &mut Request, response: &mut Response) -> Result<(), Problem> {
    let name = request.param::<String>("name").unwrap_or_default();
    let kind = catalogue().get(&name).ok_or_else(|| Problem::new(Code::KindNotFound, known(catalogue())))?;
    body::write(response, StatusCode::OK, &KindDocument::from(kind))
}

/// The kinds that there are, in words.
pub(crate) fn known(catalogue: &Catalogue) -> String {
    let names: Vec<_> = catalogue.iter().map(|kind| kind.name.as_str()).collect();
    format!("The kinds are {}.", names.join(", "))
}
