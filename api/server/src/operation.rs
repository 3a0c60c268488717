//! The table of routes: the router and the OpenAPI document are both made from it, so that they cannot disagree.

use std::collections::BTreeMap;

use fourmi_model::Scope;
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, async_trait,
    handler::ArcHandler,
    http::{Method, StatusCode},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::problem::{Code, Problem};

/// Gives a type's schema to a document.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The schema of `T`.
pub(crate) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const NDJSON: &str = "application/x-ndjson";
pub(crate) const EVENT_STREAM: &str = "text/event-stream";
pub(crate) const ANY: &str = "*/*";

/// Routes of one subject, and what their handlers share.
pub struct Group {
    pub(crate) tag: &'static str,
    pub(crate) description: &'static str,
    pub(crate) operations: Vec<Operation>,
    pub(crate) state: Option<ArcHandler>,
}

impl Group {
    /// Routes whose handlers share nothing.
    pub(crate) fn new(tag: &'static str, description: &'static str, operations: Vec<Operation>) -> Self {
        Self { tag, description, operations, state: None }
    }

    /// The same routes, whose handlers get `state` (see [`state_of`]).
    pub(crate) fn sharing<S: Clone + Send + Sync + 'static>(self, state: S) -> Self {
        Self { state: Some(Provide(state).arc()), ..self }
    }
}

/// Hands what the routes of a group share to their handlers.
struct Provide<S>(S);

#[async_trait]
impl<S: Clone + Send + Sync + 'static> Handler for Provide<S> {
    async fn handle(&self, _: &mut Request, depot: &mut Depot, _: &mut Response, _: &mut FlowCtrl) {
        depot.insert_typed(self.0.clone());
    }
}

/// What the routes of this group share.
///
/// # Errors
/// If the route is in another group: a mistake of the programmer.
pub(crate) fn state_of<S: Clone + Send + Sync + 'static>(depot: &Depot) -> Result<S, Problem> {
    depot.get_typed::<S>().cloned().map_err(|_| Problem::internal("the route lacks what its handler needs"))
}

/// One route: what the router does and what the document says of it.
pub(crate) struct Operation {
    pub(crate) id: &'static str,
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) description: &'static str,
    pub(crate) access: Access,
    pub(crate) scopes: &'static [Scope],
    pub(crate) counted: bool,
    pub(crate) parameters: Vec<Parameter>,
    /// The body, in each form that it may have.
    pub(crate) bodies: Vec<Content>,
    /// Whether there must be one.
    pub(crate) needs_body: bool,
    pub(crate) answers: Vec<Answer>,
    pub(crate) problems: BTreeMap<u16, Vec<Code>>,
    pub(crate) handler: ArcHandler,
}

/// Who may call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Whoever shows a key or a token.
    Caller,
    /// Whoever shows a key, a token or a link.
    CallerOrLink,
    /// People, who show a token.
    Person,
    /// Everyone.
    Open,
}

/// A part of the address or a header.
pub(crate) struct Parameter {
    pub(crate) place: Place,
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) schema: SchemaOf,
}

/// Where a parameter stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    Header,
}

/// A body, by its media type.
pub(crate) struct Content {
    pub(crate) media_type: &'static str,
    pub(crate) schema: SchemaOf,
}

/// A way to succeed.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) description: &'static str,
    pub(crate) content: Option<Content>,
    pub(crate) headers: &'static [&'static str],
}

impl Operation {
    /// A route for whoever shows a key or a token.
    pub(crate) fn new(id: &'static str, method: Method, path: &'static str, handler: impl Handler) -> Self {
        let operation = Self {
            id,
            method,
            path,
            summary: "",
            description: "",
            access: Access::Caller,
            scopes: &[],
            counted: true,
            parameters: Vec::new(),
            bodies: Vec::new(),
            needs_body: true,
            answers: Vec::new(),
            problems: BTreeMap::new(),
            handler: handler.arc(),
        };
        operation.fails(&[
            Code::UnknownHost,
            Code::Unauthorized,
            Code::TokenExpired,
            Code::CsrfFailed,
            Code::TenantSuspended,
            Code::NotAcceptable,
            Code::RateLimited,
            Code::Internal,
        ])
    }

    /// What it does, in one line, and the rest.
    pub(crate) fn says(mut self, summary: &'static str, description: &'static str) -> Self {
        self.summary = summary;
        self.description = description;
        self
    }

    /// For callers with one of these scopes; without any, for every caller.
    pub(crate) fn needs(mut self, scopes: &'static [Scope]) -> Self {
        self.scopes = scopes;
        self.fails(&[Code::ScopeMissing])
    }

    /// For everyone, known or not.
    pub(crate) fn open(mut self) -> Self {
        self.access = Access::Open;
        self.problems.remove(&401);
        self.problems.remove(&403);
        self
    }

    /// For people who are logged in: a key has no account.
    pub(crate) fn for_people(mut self) -> Self {
        self.access = Access::Person;
        self.fails(&[Code::PeopleOnly])
    }

    /// Whoever asks is not counted: it costs nothing to answer.
    pub(crate) fn uncounted(mut self) -> Self {
        self.counted = false;
        self.problems.remove(&429);
        self
    }

    /// Also for whoever has a link to the file that the address names as `id`.
    pub(crate) fn by_link(mut self) -> Self {
        self.access = Access::CallerOrLink;
        self.fails(&[Code::LinkInvalid, Code::LinkExpired])
    }

    /// With a parameter.
    pub(crate) fn takes(
        mut self,
        place: Place,
        name: &'static str,
        schema: SchemaOf,
        description: &'static str,
    ) -> Self {
        self.parameters.push(Parameter { place, name, description, schema });
        self
    }

    /// With a body; with several of these, in one of their forms.
    pub(crate) fn reads(mut self, media_type: &'static str, schema: SchemaOf) -> Self {
        self.bodies.push(Content { media_type, schema });
        if self.bodies.len() > 1 {
            return self;
        }
        self.fails(&[Code::RequestTimeout, Code::UnsupportedMediaType])
    }

    /// With a body or without.
    pub(crate) fn may_read(mut self, media_type: &'static str, schema: SchemaOf) -> Self {
        self.needs_body = false;
        self.reads(media_type, schema)
    }

    /// With an answer that has a body; with several of these of one status, in one of their forms.
    pub(crate) fn answers(
        mut self,
        status: StatusCode,
        media_type: &'static str,
        schema: SchemaOf,
        description: &'static str,
    ) -> Self {
        let content = Some(Content { media_type, schema });
        self.answers.push(Answer { status, description, content, headers: &[] });
        self
    }

    /// With an answer that has none.
    pub(crate) fn answers_empty(mut self, status: StatusCode, description: &'static str) -> Self {
        self.answers.push(Answer { status, description, content: None, headers: &[] });
        self
    }

    /// The answer named last has these headers.
    pub(crate) fn with_headers(mut self, headers: &'static [&'static str]) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers = headers;
        }
        self
    }

    /// It may fail so.
    pub(crate) fn fails(mut self, codes: &[Code]) -> Self {
        for code in codes {
            let known = self.problems.entry(code.status().as_u16()).or_default();
            if !known.contains(code) {
                known.push(*code);
            }
        }
        self
    }

    /// The media type of its answers; [`ANY`] if they have several or none.
    pub(crate) fn media_type(&self) -> &'static str {
        let mut types = self.answers.iter().filter_map(|answer| Some(answer.content.as_ref()?.media_type));
        types.next().filter(|first| types.all(|other| other == *first)).unwrap_or(ANY)
    }
}
