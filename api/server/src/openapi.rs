//! The OpenAPI 3.1 document, made from the table of routes and the types that they read and write.

use fourmi_kinds::{Audience, Catalogue};
use salvo::http::StatusCode;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    operation::{ANY, Access, Answer, Content, Group, Operation, Parameter, Place, schema},
    problem::{Code, Document},
};

const SCHEMAS: &str = "#/components/schemas/";

const RESPONSES: &str = "#/components/responses/";

/// The names of kinds that workers register.
const REGISTERED: &str = r"^x(\.[a-z][a-z0-9_]*)+$";

/// The document of these routes.
pub(crate) fn document(groups: &[Group], kinds: &Catalogue) -> Value {
    let mut schemas = Schemas::new();
    let problem = schemas.answers.subschema_for::<Document<'static>>().to_value();
    let (mut paths, mut failures) = (Map::new(), Map::new());
    for group in groups {
        for operation in &group.operations {
            let path = paths.entry(operation.path).or_insert_with(|| json!({}));
            path[operation.method.as_str().to_lowercase()] = describe(group.tag, operation, &mut schemas);
            for (status, codes) in &operation.problems {
                failures.entry(name_of(codes)).or_insert_with(|| failure(*status, codes, &problem));
            }
        }
    }
    failures.sort_keys();
    let mut document = json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Fourmi",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0" },
            "description": "A job platform: submit a typed job, get an id at once, follow its progress, fetch its result. \
                Every error is a problem (RFC 9457) with a stable `code`. Every answer carries an `X-Request-Id`.",
        },
        "servers": [{ "url": "/" }],
        "security": [{ "key": [] }, { "cookie": [] }],
        "tags": groups.iter().map(|group| json!({ "name": group.tag, "description": group.description })).collect::<Value>(),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": { "type": "http", "scheme": "bearer", "description": "An API key, of which the first one lies in `api-key` in the data folder, or the access token of a person (`login`)." },
                "cookie": { "type": "apiKey", "in": "cookie", "name": "fourmi-access", "description": "The access token of a person who has logged in with `cookies`; over TLS its name begins with `__Host-`. Changes need the header `X-CSRF-Token`." },
                "link": { "type": "apiKey", "in": "query", "name": "signature", "description": "A link from `create_link`, used as it is." },
            },
            "responses": failures,
            "schemas": schemas.finish(kinds),
        },
    });
    name_words(&mut document);
    document
}

/// Writes a choice of words, each with its description, as a list of words with one description: clients that are generated
/// know an enumeration by that.
fn name_words(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(words) = object.get("oneOf").and_then(words) {
                let said = object.get("description").and_then(Value::as_str).unwrap_or_default();
                let lines = words.iter().map(|(word, meaning)| format!("- `{word}`: {meaning}"));
                let description = [said.to_owned()].into_iter().chain(lines).collect::<Vec<_>>().join("\n");
                let words: Vec<_> = words.into_iter().map(|(word, _)| word).collect();
                object.shift_remove("oneOf");
                object.insert("type".to_owned(), json!("string"));
                object.insert("enum".to_owned(), json!(words));
                object.insert("description".to_owned(), json!(description.trim_start()));
            }
            object.values_mut().for_each(name_words);
        }
        Value::Array(values) => values.iter_mut().for_each(name_words),
        _ => {}
    }
}

/// The words of a choice and what they mean; `None` if something else may be chosen too.
fn words(choices: &Value) -> Option<Vec<(String, String)>> {
    let word = |choice: &Value| {
        let meaning = choice.get("description").and_then(Value::as_str).unwrap_or_default();
        Some((choice.get("const")?.as_str()?.to_owned(), meaning.to_owned()))
    };
    choices.as_array()?.iter().map(word).collect()
}

/// The schemas that the document's parts refer to.
struct Schemas {
    /// Of what callers send.
    requests: SchemaGenerator,
    /// Of what callers get: there, fields with defaults are always present.
    answers: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12()
            .with(|settings| settings.definitions_path = SCHEMAS[1..].trim_end_matches('/').to_owned().into());
        Self {
            requests: settings.clone().for_deserialize().into_generator(),
            answers: settings.for_serialize().into_generator(),
        }
    }

    fn finish(mut self, kinds: &Catalogue) -> Value {
        let mut schemas = self.requests.take_definitions(true);
        schemas.extend(self.answers.take_definitions(true));
        add_submissions(&mut schemas, kinds);
        schemas.sort_keys();
        Value::Object(schemas)
    }
}

/// One schema of a submission a kind that callers may submit, told apart by `kind`; payloads and results of all kinds under
/// their names.
fn add_submissions(schemas: &mut Map<String, Value>, kinds: &Catalogue) {
    let Some(general) = schemas.remove("JobSubmission") else { return };
    let mut mapping = Map::new();
    for kind in kinds.iter() {
        hoist(schemas, &format!("{}.payload", kind.name), kind.payload_schema.as_value());
        hoist(schemas, &format!("{}.result", kind.name), kind.result_schema.as_value());
        if kind.audience == Audience::Platform {
            continue;
        }
        let mut submission = general.clone();
        submission["description"] = json!(kind.summary);
        submission["properties"]["kind"] = json!({ "const": kind.name });
        submission["properties"]["payload"] = json!({ "$ref": format!("{SCHEMAS}{}.payload", kind.name) });
        schemas.insert(format!("{}.submission", kind.name), submission);
        mapping.insert(kind.name.to_string(), json!(format!("{SCHEMAS}{}.submission", kind.name)));
    }
    // Kinds that were registered are not known here; without a word in the mapping, their schema is the one that is left.
    let mut registered = general;
    registered["description"] = json!("A job of a kind that a worker has registered.");
    registered["properties"]["kind"] = json!({ "type": "string", "pattern": REGISTERED });
    registered["properties"]["payload"] = json!({ "description": "What the kind's schema says (`get_kind`)." });
    schemas.insert("registered.submission".to_owned(), registered);
    let references = mapping.values().cloned().chain([json!(format!("{SCHEMAS}registered.submission"))]);
    let choices: Value = references.map(|reference| json!({ "$ref": reference })).collect();
    let description = "A job to be done: one schema a kind.";
    schemas.insert(
        "JobSubmission".to_owned(),
        json!({ "description": description, "oneOf": choices, "discriminator": { "propertyName": "kind", "mapping": mapping } }),
    );
}

/// Adds a schema that stands alone, with its definitions beside it.
fn hoist(schemas: &mut Map<String, Value>, name: &str, schema: &Value) {
    let mut schema = schema.clone();
    let definitions = schema.as_object_mut().and_then(|object| {
        object.remove("$schema");
        // Two kinds may share a type; generated clients would meet its name twice.
        object.remove("title");
        object.remove("$defs")
    });
    rewrite_references(&mut schema);
    schemas.insert(name.to_owned(), schema);
    if let Some(Value::Object(definitions)) = definitions {
        for (name, mut definition) in definitions {
            rewrite_references(&mut definition);
            schemas.entry(name).or_insert(definition);
        }
    }
}

fn rewrite_references(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get_mut("$ref") {
                *reference = reference.replace("#/$defs/", SCHEMAS);
            }
            object.values_mut().for_each(rewrite_references);
        }
        Value::Array(values) => values.iter_mut().for_each(rewrite_references),
        _ => {}
    }
}

fn describe(tag: &str, operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut description = json!({
        "operationId": operation.id,
        "tags": [tag],
        "summary": operation.summary,
        "responses": responses(operation, &mut schemas.answers),
    });
    if !operation.description.is_empty() {
        description["description"] = json!(operation.description);
    }
    match operation.access {
        Access::Caller | Access::Person => {}
        Access::CallerOrLink => description["security"] = json!([{ "key": [] }, { "cookie": [] }, { "link": [] }]),
        Access::Open => description["security"] = json!([]),
    }
    if !operation.parameters.is_empty() {
        description["parameters"] =
            operation.parameters.iter().map(|one| parameter(one, &mut schemas.requests)).collect();
    }
    let bodies: Map<_, _> = operation.bodies.iter().map(|body| content(body, &mut schemas.requests)).collect();
    if !bodies.is_empty() {
        description["requestBody"] = json!({ "required": operation.needs_body, "content": bodies });
    }
    description
}

fn parameter(parameter: &Parameter, schemas: &mut SchemaGenerator) -> Value {
    json!({
        "name": parameter.name,
        "in": match parameter.place {
            Place::Path => "path",
            Place::Query => "query",
            Place::Header => "header",
        },
        "required": parameter.place == Place::Path,
        "description": parameter.description,
        "schema": (parameter.schema)(schemas),
    })
}

fn content(content: &Content, schemas: &mut SchemaGenerator) -> (String, Value) {
    (content.media_type.to_owned(), json!({ "schema": (content.schema)(schemas) }))
}

fn responses(operation: &Operation, schemas: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for answer in &operation.answers {
        let status = answer.status.as_u16().to_string();
        match (
            responses.get_mut(&status).and_then(|known: &mut Value| known["content"].as_object_mut()),
            &answer.content,
        ) {
            (Some(known), Some(other)) => known.extend([content(other, schemas)]),
            _ => drop(responses.insert(status, success(answer, schemas))),
        }
    }
    for (status, codes) in &operation.problems {
        responses.insert(status.to_string(), json!({ "$ref": format!("{RESPONSES}{}", name_of(codes)) }));
    }
    Value::Object(responses)
}

fn success(answer: &Answer, schemas: &mut SchemaGenerator) -> Value {
    let mut response = json!({ "description": answer.description });
    match &answer.content {
        // Clients that are generated know bytes by this name.
        Some(any) if any.media_type == ANY => {
            let bytes = json!({ "schema": { "type": "string", "format": "binary" } });
            response["content"] = json!({ "application/octet-stream": bytes, ANY: {} });
        }
        Some(body) => response["content"] = Value::Object(Map::from_iter([content(body, schemas)])),
        None => {}
    }
    if !answer.headers.is_empty() {
        let text = schema::<String>(schemas);
        let headers = answer.headers.iter().map(|name| ((*name).to_owned(), json!({ "schema": text })));
        response["headers"] = Value::Object(headers.collect());
    }
    response
}

/// What a failure is called, which many operations share: each code has one status.
fn name_of(codes: &[Code]) -> String {
    codes.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(".")
}

fn failure(status: u16, codes: &[Code], problem: &Value) -> Value {
    let lines: Vec<_> = codes.iter().map(|code| format!("`{}`: {}.", code.as_str(), code.title())).collect();
    let mut response = json!({
        "description": lines.join("\n"),
        "content": { "application/problem+json": { "schema": problem } },
    });
    let header = match StatusCode::from_u16(status).unwrap_or_default() {
        StatusCode::UNAUTHORIZED => "WWW-Authenticate",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE => {
            "Retry-After"
        }
        StatusCode::RANGE_NOT_SATISFIABLE => "Content-Range",
        _ => return response,
    };
    response["headers"] = json!({ header: { "schema": { "type": "string" } } });
    response
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use fourmi_kinds::catalogue;

    use super::*;
    use crate::routes::{
        audit, auth, devices, docs, files, health, insight, jobs, keys, kinds, metrics, providers, queues, schedules,
        sms, stats, suppressions, tenants, users, webhooks, work, workers,
    };

    fn all() -> Vec<Group> {
        vec![
            jobs::table(),
            files::table(),
            schedules::table(),
            stats::table(),
            providers::table(),
            sms::table(),
            webhooks::table(),
            devices::table(),
            suppressions::table(),
            kinds::table(),
            insight::table(),
            work::table(),
            queues::table(),
            workers::table(),
            auth::table(),
            users::table(),
            tenants::table(),
            keys::table(),
            audit::table(),
            health::table(),
            metrics::table(),
            docs::table(),
        ]
    }

    /// A change to what callers rely on must be seen: run with `UPDATE_SNAPSHOTS=1` to accept it.
    #[test]
    fn the_document_is_the_one_that_was_agreed_on() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let now = serde_json::to_string_pretty(&document(&all(), catalogue())).unwrap() + "\n";
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let agreed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(now == agreed, "openapi.json differs: see it with UPDATE_SNAPSHOTS=1 and git diff");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str));
                    fields.values().for_each(|value| references(value, found));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document(&all(), catalogue());
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }

    #[test]
    fn operations_have_ids_of_their_own() {
        let groups = all();
        let mut ids: Vec<_> = groups.iter().flat_map(|group| &group.operations).map(|operation| operation.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    /// One type must not mean two things because callers send it in one place and get it in another.
    #[test]
    fn a_schema_has_one_meaning() {
        let mut schemas = Schemas::new();
        document_into(&all(), &mut schemas);
        let sent = schemas.requests.take_definitions(true);
        let got = schemas.answers.take_definitions(true);
        for (name, schema) in sent {
            assert!(got.get(&name).is_none_or(|other| *other == schema), "{name}");
        }
    }

    fn document_into(groups: &[Group], schemas: &mut Schemas) {
        for operation in groups.iter().flat_map(|group| &group.operations) {
            describe("", operation, schemas);
        }
    }
}
