//! Schemas of strangers: what JSON Schema may say here, so that checking a payload takes a bounded time.
//!
//! A schema stands alone (nothing is fetched) and does not lead back to itself, and its references, written out, make a
//! bounded number of parts. So a payload of 64 KiB is checked in so many steps at most as it has values, times that number.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

/// The longest schema, in bytes of JSON.
const MAX_SCHEMA_BYTES: usize = 64 * 1024;

/// The most parts (schemas within schemas) when every reference is written out.
const MAX_PARTS: usize = 1_000;

/// How deep parts may lie in one another, references written out.
const MAX_DEPTH: usize = 32;

/// The most regular expressions, and the most bytes that one may take once it is compiled.
const MAX_PATTERNS: usize = 50;
const PATTERN_BYTES: usize = 256 * 1024;

/// The dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Keywords that name, move or fetch schemas, or whose cost is not bounded by their number.
const REFUSED: [&str; 9] = [
    "$id",
    "$anchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
    "$vocabulary",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// What a schema says that it may not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub(crate) struct SchemaError {
    /// Where, such as `properties.size`; empty for the schema as a whole.
    pub(crate) path: String,
    /// What is wrong.
    pub(crate) message: String,
}

impl SchemaError {
    fn at(pointer: &str, message: impl Into<String>) -> Self {
        Self { path: dotted(pointer), message: message.into() }
    }
}

/// What checks payloads by a schema.
///
/// # Errors
/// If it is none of the dialect, or says what it may not.
pub(crate) fn compile(schema: &Value) -> Result<Validator, SchemaError> {
    check_size(schema)?;
    let mut survey = Survey { root: schema, parts: 0, patterns: 0, within: Vec::new() };
    survey.part(schema, "", 0)?;
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
    let options = jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(patterns).offline();
    options.build(schema).map_err(|error| {
        let message: String = error.masked().to_string().chars().take(300).collect();
        SchemaError::at(error.instance_path().as_str(), message)
    })
}

/// Checks a schema that nothing is checked by: it is only shown.
///
/// # Errors
/// If it is too large, or no schema.
pub(crate) fn check_result_schema(schema: &Value) -> Result<(), SchemaError> {
    if !schema.is_object() && !schema.is_boolean() {
        return Err(SchemaError::at("", "must be an object, or true"));
    }
    check_size(schema)
}

fn check_size(schema: &Value) -> Result<(), SchemaError> {
    if schema.to_string().len() <= MAX_SCHEMA_BYTES {
        return Ok(());
    }
    Err(SchemaError::at("", format!("may have {MAX_SCHEMA_BYTES} bytes at most")))
}

/// A walk through a schema along its references.
struct Survey<'a> {
    root: &'a Value,
    parts: usize,
    patterns: usize,
    /// The references that are followed at the moment.
    within: Vec<&'a str>,
}

impl<'a> Survey<'a> {
    fn part(&mut self, part: &'a Value, at: &str, depth: usize) -> Result<(), SchemaError> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(SchemaError::at("", format!("may have {MAX_PARTS} parts at most, references written out")));
        }
        if depth > MAX_DEPTH {
            return Err(SchemaError::at(at, format!("lies more than {MAX_DEPTH} parts deep")));
        }
        match part {
            Value::Object(part) => self.keywords(part, at, depth),
            Value::Bool(_) => Ok(()),
            _ => Err(SchemaError::at(at, "must be a schema: an object, or true or false")),
        }
    }

    fn keywords(&mut self, part: &'a Map<String, Value>, at: &str, depth: usize) -> Result<(), SchemaError> {
        for (keyword, value) in part {
            let here = format!("{at}/{keyword}");
            match (keyword.as_str(), value) {
                (refused, _) if REFUSED.contains(&refused) => return Err(SchemaError::at(&here, "is not known here")),
                ("$schema", Value::String(dialect)) if dialect.trim_end_matches('#') == DIALECT => {}
                ("$schema", _) => return Err(SchemaError::at(&here, format!("must be {DIALECT}"))),
                ("$ref", Value::String(reference)) => self.reference(reference, &here, depth)?,
                ("enum" | "const" | "default" | "examples", _) => {}
                (
                    "$defs" | "definitions" | "properties" | "patternProperties" | "dependentSchemas",
                    Value::Object(named),
                ) => {
                    if keyword == "patternProperties" {
                        self.count_patterns(named.len(), &here)?;
                    }
                    for (name, part) in named {
                        self.part(part, &format!("{here}/{name}"), depth + 1)?;
                    }
                }
                ("pattern", _) => self.count_patterns(1, &here)?,
                (_, Value::Object(_)) => self.part(value, &here, depth + 1)?,
                (_, Value::Array(parts)) => {
                    for (place, part) in parts.iter().enumerate().filter(|(_, part)| part.is_object()) {
                        self.part(part, &format!("{here}/{place}"), depth + 1)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn count_patterns(&mut self, more: usize, at: &str) -> Result<(), SchemaError> {
        self.patterns += more;
        if self.patterns > MAX_PATTERNS {
            return Err(SchemaError::at(at, format!("makes more than {MAX_PATTERNS} regular expressions")));
        }
        Ok(())
    }

    fn reference(&mut self, reference: &'a str, at: &str, depth: usize) -> Result<(), SchemaError> {
        let pointer = reference.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let Some(pointer) = pointer.filter(|pointer| !pointer.contains('%')) else {
            return Err(SchemaError::at(
                at,
                "must lead to a part of this schema, such as #/$defs/size: nothing is fetched",
            ));
        };
        let Some(target) = self.root.pointer(pointer) else {
            return Err(SchemaError::at(at, "leads nowhere"));
        };
        // The root, and what is being written out, hold this reference themselves.
        if pointer.is_empty() || self.within.contains(&reference) {
            return Err(SchemaError::at(at, "leads back to itself"));
        }
        self.within.push(reference);
        self.part(target, at, depth + 1)?;
        self.within.pop();
        Ok(())
    }
}

/// A JSON pointer in the writing of all other paths: `/a/0/b` is `a[0].b`.
pub(super) fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for word in pointer.split('/').skip(1) {
        let word = word.replace("~1", "/").replace("~0", "~");
        match word.parse::<usize>() {
            Ok(place) => path.push_str(&format!("[{place}]")),
            Err(_) if path.is_empty() => path.push_str(&word),
            Err(_) => path.push_str(&format!(".{word}")),
        }
    }
    path.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(schema: &Value) -> String {
        compile(schema).err().unwrap_or_else(|| panic!("{schema} should be refused")).to_string()
    }

    #[test]
    fn an_ordinary_schema_checks_payloads() {
        let schema = json!({
            "$schema": DIALECT,
            "type": "object",
            "required": ["url", "sizes"],
            "additionalProperties": false,
            "properties": {
                "url": {"type": "string", "pattern": "^https://"},
                "sizes": {"type": "array", "items": {"$ref": "#/$defs/size"}, "maxItems": 3},
                // A field may have any name.
                "$ref": {"const": {"$ref": "http://example.org/"}},
            },
            "$defs": {"size": {"type": "integer", "minimum": 1}},
        });
        let validator = compile(&schema).unwrap();
        assert!(validator.is_valid(&json!({"url": "https://example.org/", "sizes": [1, 2]})));
        let wrong = json!({"url": "https://example.org/", "sizes": [1, 0]});
        let error = validator.validate(&wrong).unwrap_err();
        assert_eq!(dotted(error.instance_path().as_str()), "sizes[1]");
        assert!(!validator.is_valid(&json!({"url": "ftp://example.org/", "sizes": []})));
    }

    #[test]
    fn nothing_is_fetched() {
        for reference in ["http://127.0.0.1:1/a.json", "file:///etc/passwd", "a.json", "#a", "#/%24defs/a", "//x"] {
            let text = refusal(&json!({"properties": {"a": {"$ref": reference}}}));
            assert!(text.starts_with("properties.a.$ref: must lead to a part of this schema"), "{text}");
        }
        assert!(refusal(&json!({"$ref": "#/$defs/none"})).contains("leads nowhere"));
        assert!(refusal(&json!({"$id": "http://example.org/"})).contains("not known here"));
        assert!(refusal(&json!({"$schema": "http://json-schema.org/draft-07/schema#"})).contains("must be https"));
    }

    #[test]
    fn what_would_grow_without_end_is_refused() {
        assert!(refusal(&json!({"$ref": "#"})).contains("leads back"));
        let tree = json!({"$ref": "#/$defs/t", "$defs": {"t": {"items": {"$ref": "#/$defs/t"}}}});
        assert!(refusal(&tree).contains("leads back"));
        // Each doubles the one before.
        let mut definitions = Map::new();
        for n in 0..12 {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            definitions.insert(format!("d{n}"), json!({"allOf": [next, next]}));
        }
        definitions.insert("d12".to_owned(), json!({}));
        assert!(refusal(&json!({"$defs": definitions})).contains("parts at most"));
        let deep = (0..100).fold(json!({}), |inner, _| json!({"not": inner}));
        assert!(refusal(&deep).contains("deep"));
        let long = json!({"enum": ["x".repeat(MAX_SCHEMA_BYTES)]});
        assert!(refusal(&long).contains("bytes at most"));
        let patterns: Map<_, _> = (0..=MAX_PATTERNS).map(|n| (format!("a{n}"), json!({}))).collect();
        assert!(refusal(&json!({"patternProperties": patterns})).contains("regular expressions"));
        assert!(compile(&json!({"pattern": "(((((a{1,50}){1,50}){1,50}){1,50}){1,50})"})).is_err());
        assert!(refusal(&json!({"unevaluatedProperties": false})).contains("not known here"));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for wrong in [
            json!(7),
            json!([]),
            json!(null),
            json!({"type": "sting"}),
            json!({"minimum": "x"}),
            json!({"pattern": "("}),
        ] {
            refusal(&wrong);
        }
        assert!(compile(&json!(true)).is_ok());
    }
}
