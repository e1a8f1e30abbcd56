//! The OpenAPI 3.1 document, from the declared routes and the types they take and answer with (S23).
//!
//! The schemas are those that serde's derives stand for, made by schemars from the same types; the routes are those of
//! the router. Nothing is written down twice, so that nothing can be missing.

use std::collections::BTreeMap;

use hale_api::{Code, Problem, problem};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    access::Access,
    routes,
    surface::{Content, Route, SchemaOf, Surface},
};

/// What can be wrong with any request that a token goes with.
const ALWAYS: [Code; 3] = [Code::Unauthorized, Code::Forbidden, Code::TooManyRequests];

/// What can be wrong with a request that has an `Idempotency-Key`.
const KEYED: [Code; 4] = [Code::BadRequest, Code::NotApplicable, Code::BodyTooLarge, Code::RequestTimeout];

/// The document.
#[must_use]
pub fn openapi() -> Value {
    let mut writer = Writer::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes::all(Surface::declared()).routes {
        let operation = writer.operation(&route);
        paths.entry(route.path).or_default().insert(route.method.as_str().to_lowercase(), operation);
    }
    let problem = writer.answers.subschema_for::<Problem>();
    let problem = json!({
        "description": "What went wrong: RFC 9457 problem details with a stable code.",
        "content": {problem::MEDIA_TYPE: {"schema": problem}},
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hale",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": "The REST API of hale. Fields, paths and codes are added, never renamed or removed.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token: `hale token create`, or cli.token in the data directory of a local hale.",
            }},
            "responses": {"Problem": problem},
            "schemas": writer.answers.take_definitions(true),
        },
    })
}

struct Writer {
    /// Of what is answered; its definitions are the components.
    answers: SchemaGenerator,
    /// Of what is taken, in place.
    taken: SchemaGenerator,
}

impl Writer {
    fn new() -> Self {
        let answers = SchemaSettings::draft2020_12().for_serialize().with(|it| {
            it.definitions_path = "/components/schemas".into();
            it.meta_schema = None;
        });
        let taken = SchemaSettings::draft2020_12().for_deserialize().with(|it| {
            it.inline_subschemas = true;
            it.meta_schema = None;
        });
        Self { answers: answers.into_generator(), taken: taken.into_generator() }
    }

    fn operation(&mut self, route: &Route) -> Value {
        let mut operation = json!({
            "operationId": operation_id(route),
            "tags": [tag(route.path)],
            "summary": route.about,
            "parameters": self.parameters(route),
            "responses": self.responses(route),
        });
        if route.access == Access::Open {
            operation["security"] = json!([]);
        } else {
            operation["description"] = json!(format!("For a token of the role {}.", route.access.needs()));
        }
        if !route.bodies.is_empty() {
            let content: Map<String, Value> =
                route.bodies.iter().map(|it| (it.media.to_owned(), body(*it, &mut self.taken))).collect();
            operation["requestBody"] = json!({"content": content, "required": route.needs_body});
        }
        operation
    }

    fn parameters(&mut self, route: &Route) -> Vec<Value> {
        let mut parameters = Vec::new();
        for part in route.path.split('/') {
            let Some(name) = part.strip_prefix('{').and_then(|it| it.strip_suffix('}')) else { continue };
            let schema = match &route.words {
                Some((of, words)) if *of == name => json!({"type": "string", "enum": words}),
                _ => json!({"type": "string", "minLength": 1}),
            };
            parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
        }
        if let Some(schema) = route.query {
            parameters.extend(query(schema, &mut self.taken));
        }
        if route.method == http::Method::POST {
            parameters.push(json!({
                "name": "Idempotency-Key",
                "in": "header",
                "description": "Any text of at most 128 bytes. A request with the key of an earlier one by the same \
                    token is not done again: it gets the answer of that one.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
            }));
        }
        parameters
    }

    fn responses(&mut self, route: &Route) -> Map<String, Value> {
        let mut responses: BTreeMap<u16, Value> = BTreeMap::new();
        for (status, content) in &route.answers {
            let response =
                responses.entry(*status).or_insert_with(|| json!({"description": describe(*status)}));
            let new = body(*content, &mut self.answers);
            let content = &mut response["content"][content.media];
            // One of several, as it was asked for.
            *content = match content.take() {
                Value::Null => new,
                old => json!({"schema": {"anyOf": [old["schema"], new["schema"]]}}),
            };
        }
        if route.answers.is_empty() {
            responses.insert(204, json!({"description": describe(204)}));
        }
        let always: &[Code] = if route.access == Access::Open { &[] } else { &ALWAYS };
        let host = [Code::HostNotAllowed];
        let mut titles: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        // What an Idempotency-Key can bring.
        let keyed: &[Code] = if route.method == http::Method::POST { &KEYED } else { &[] };
        for code in always.iter().chain(&route.refuses).chain(&host).chain(keyed) {
            let title = format!("`{code}`: {}", code.title());
            let titles = titles.entry(code.status()).or_default();
            if !titles.contains(&title) {
                titles.push(title);
            }
        }
        for (status, titles) in titles {
            responses.entry(status).or_insert_with(|| {
                json!({
                    "description": titles.join("; "),
                    "content": {problem::MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                })
            });
        }
        responses.into_iter().map(|(status, it)| (status.to_string(), it)).collect()
    }
}

fn body(content: Content, generator: &mut SchemaGenerator) -> Value {
    match content.schema {
        Some(schema) => json!({"schema": schema(generator)}),
        None => json!({"schema": {"type": "string"}}),
    }
}

/// One parameter per field.
fn query(schema: SchemaOf, generator: &mut SchemaGenerator) -> Vec<Value> {
    let schema = schema(generator).to_value();
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let Some(fields) = schema["properties"].as_object() else { return Vec::new() };
    let parameter = |(name, field): (&String, &Value)| {
        let mut field = field.clone();
        let description = field.as_object_mut().and_then(|it| it.remove("description"));
        let mut parameter = json!({
            "name": name,
            "in": "query",
            "required": required.contains(&json!(name)),
            "schema": without_null(field),
        });
        if let Some(description) = description {
            parameter["description"] = description;
        }
        parameter
    };
    fields.iter().map(parameter).collect()
}

/// Left out is left out: in a query there is no `null`.
fn without_null(mut schema: Value) -> Value {
    let Some(fields) = schema.as_object_mut() else { return schema };
    if fields.get("default") == Some(&Value::Null) {
        fields.remove("default");
    }
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|it| it != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            fields.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
        choices.retain(|it| it["type"] != "null");
        if let [only] = choices.as_slice() {
            return only.clone();
        }
    }
    schema
}

/// `get_workloads_name`: the method, and the words of the path.
fn operation_id(route: &Route) -> String {
    let words = route.path.trim_start_matches("/api/v1").split(|it: char| !it.is_ascii_alphanumeric());
    let mut id = route.method.as_str().to_lowercase();
    for word in words.filter(|it| !it.is_empty()) {
        id.push('_');
        id.push_str(word);
    }
    id
}

/// The collection in a path.
fn tag(path: &str) -> &str {
    path.strip_prefix("/api/v1/").and_then(|it| it.split('/').next()).unwrap_or("hale")
}

const fn describe(status: u16) -> &'static str {
    match status {
        201 => "It was made.",
        202 => "It was asked for, and goes on.",
        204 => "It was done.",
        503 => "Not now.",
        _ => "The answer.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_the_document_under_a_name_of_its_own() {
        let document = openapi();
        let routes = routes::all(Surface::declared()).routes;
        assert!(routes.len() > 20);
        let mut ids = Vec::new();
        for route in routes {
            let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
            let responses = operation["responses"].as_object().expect(route.path);
            assert_eq!(responses.contains_key("401"), route.access != Access::Open, "{}", route.path);
            ids.push(operation["operationId"].as_str().unwrap().to_owned());
        }
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn no_reference_leads_nowhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(to)) = fields.get("$ref") {
                        found.push(to.clone());
                    }
                    fields.values().for_each(|it| references(it, found));
                }
                Value::Array(items) => items.iter().for_each(|it| references(it, found)),
                _ => {}
            }
        }
        let document = openapi();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
