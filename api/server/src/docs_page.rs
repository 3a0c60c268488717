//! The OpenAPI document as a page for a person.

use std::fmt::Write;

use serde_json::Value;

const SCHEMAS: &str = "#/components/schemas/";

/// Example that the page begins with.
const EXAMPLE: &str = r#"key=$(cat data/api-key)
file=$(curl -sS -H "Authorization: Bearer $key" --data-binary @film.mp4 'http://127.0.0.1:8700/api/v1/files?name=film.mp4' | sed 's/.*"id":"\([^"]*\)".*/\1/')
curl -sS -H "Authorization: Bearer $key" -H 'Prefer: wait=60' --json '{"kind":"audio.extract","payload":{"source":{"upload":"'$file'"}}}' http://127.0.0.1:8700/api/v1/jobs"#;

/// The page.
pub(crate) fn render(document: &Value) -> String {
    let mut page = String::new();
    let info = &document["info"];
    let tags = document["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    let links: String =
        tags.iter().map(|tag| format!("<a href=\"#{0}\">{0}</a>", escape(text(&tag["name"])))).collect();
    page.push_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    page.push_str("<title>Fourmi API</title><link rel=\"stylesheet\" href=\"/docs/style.css\"></head><body>");
    add(&mut page, format_args!("<h1>Fourmi API <small>{}</small></h1>", escape(text(&info["version"]))));
    add(&mut page, format_args!("<p>{}</p>", prose(text(&info["description"]))));
    add(&mut page, format_args!("<nav>{links}<a href=\"#schemas\">schemas</a>"));
    page.push_str("<a href=\"/api/v1/openapi.json\">openapi.json</a></nav>");
    add(&mut page, format_args!("<h2>A job in three lines</h2><pre>{}</pre>", escape(EXAMPLE)));
    for tag in tags {
        add_tag(&mut page, tag, document);
    }
    add_schemas(&mut page, document);
    page.push_str("</body></html>\n");
    page
}

/// Writing to a String does not fail.
fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(text);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text with `code` between back-ticks.
fn prose(text: &str) -> String {
    let parts = escape(text).split('`').map(str::to_owned).collect::<Vec<_>>();
    let parts = parts.iter().enumerate();
    let marked =
        parts.map(|(n, part)| if n % 2 == 1 { format!("<code>{part}</code>") } else { part.replace('\n', "<br>") });
    marked.collect()
}

fn add_tag(page: &mut String, tag: &Value, document: &Value) {
    let name = text(&tag["name"]);
    add(page, format_args!("<h2 id=\"{0}\">{0}</h2><p>{1}</p>", escape(name), prose(text(&tag["description"]))));
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            if operation["tags"][0] == tag["name"] {
                add_operation(page, method, path, operation, document);
            }
        }
    }
}

fn add_operation(page: &mut String, method: &str, path: &str, operation: &Value, document: &Value) {
    let id = escape(text(&operation["operationId"]));
    add(
        page,
        format_args!("<details id=\"{id}\"><summary><code><span class=\"method\">{}</span>", method.to_uppercase()),
    );
    add(page, format_args!("{}</code> {}", escape(path), prose(text(&operation["summary"]))));
    page.push_str(if operation["security"].as_array().is_some_and(Vec::is_empty) {
        " <span class=\"open\">no key</span></summary>"
    } else {
        "</summary>"
    });
    add(page, format_args!("<p>{}</p>", prose(text(&operation["description"]))));
    if let Some(parameters) = operation["parameters"].as_array() {
        page.push_str("<h3>Parameters</h3><table>");
        for parameter in parameters {
            let (name, place) = (escape(text(&parameter["name"])), escape(text(&parameter["in"])));
            let about = prose(text(&parameter["description"]));
            add(
                page,
                format_args!("<tr><td><code>{name}</code> ({place})<td>{}<td>{about}", kind(&parameter["schema"])),
            );
        }
        page.push_str("</table>");
    }
    add_content(page, "<h3>Body</h3><p>", &operation["requestBody"]["content"]);
    page.push_str("<h3>Answers</h3><table>");
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        let shared = answer["$ref"].as_str().and_then(|reference| document.pointer(&reference[1..]));
        let answer = shared.unwrap_or(answer);
        add(page, format_args!("<tr><td><code>{status}</code><td>{}<td>", prose(text(&answer["description"]))));
        add_content(page, "", &answer["content"]);
    }
    page.push_str("</table></details>");
}

fn add_content(page: &mut String, before: &str, content: &Value) {
    for (media_type, body) in content.as_object().into_iter().flatten() {
        add(page, format_args!("{before}<code>{}</code> {}", escape(media_type), kind(&body["schema"])));
    }
}

fn add_schemas(page: &mut String, document: &Value) {
    page.push_str("<h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let name = escape(name);
        add(page, format_args!("<details id=\"schema-{name}\"><summary><code>{name}</code> "));
        add(page, format_args!("{}</summary>", prose(text(&schema["description"]))));
        match schema["properties"].as_object() {
            Some(_) => add_fields(page, schema),
            None => add(page, format_args!("<p>{}</p>", kind(schema))),
        }
        page.push_str("</details>");
    }
}

fn add_fields(page: &mut String, schema: &Value) {
    page.push_str("<table>");
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|other| other == name));
        let optional = if required { "" } else { " (optional)" };
        let about = prose(text(&field["description"]));
        add(page, format_args!("<tr><td><code>{}</code>{optional}<td>{}<td>{about}", escape(name), kind(field)));
    }
    page.push_str("</table>");
}

/// A schema in a few words, with a link to where it is told in full.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(SCHEMAS)) {
        return format!("<a href=\"#schema-{0}\">{0}</a>", escape(name));
    }
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if schema["type"] == "array" {
        return format!("list of {}", kind(&schema["items"]));
    }
    if let Some(only) = schema.get("const") {
        return format!("<code>{}</code>", escape(&only.to_string()));
    }
    if schema["properties"].is_object() {
        let fields = schema["properties"].as_object().into_iter().flatten();
        let fields: Vec<_> =
            fields.map(|(name, field)| format!("<code>{}</code>: {}", escape(name), kind(field))).collect();
        return format!("{{ {} }}", fields.join(", "));
    }
    let mut words = match &schema["type"] {
        Value::String(kind) => escape(kind),
        Value::Array(kinds) => kinds.iter().map(|kind| escape(text(kind))).collect::<Vec<_>>().join(" or "),
        _ => "anything".to_owned(),
    };
    for (keyword, before) in [("format", " "), ("minimum", " ≥ "), ("maximum", " ≤ "), ("default", ", by default ")]
    {
        if let Some(value) = schema.get(keyword) {
            words += &format!("{before}{}", escape(value.as_str().unwrap_or(&value.to_string())));
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        words =
            values.iter().map(|value| format!("<code>{}</code>", escape(text(value)))).collect::<Vec<_>>().join(", ");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_becomes_markup_by_accident() {
        assert_eq!(prose("a < b & `c < d`"), "a &lt; b &amp; <code>c &lt; d</code>");
        assert_eq!(kind(&serde_json::json!({ "$ref": "#/components/schemas/a.b" })), "<a href=\"#schema-a.b\">a.b</a>");
    }
}
