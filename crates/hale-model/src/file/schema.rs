//! The JSON Schema of workload files, for editors (N2).

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{
    raw::{RawTarget, RawWorkload},
    raw_responder::RawResponder,
};

/// The JSON Schema (draft 2020-12) of one document of a workload file.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let kinds = [
        generator.subschema_for::<RawWorkload>(),
        generator.subschema_for::<RawTarget>(),
        generator.subschema_for::<RawResponder>(),
    ];
    whole(generator, json!(kinds), &["Workload", "Target", "Responder"])
}

/// As [`schema`], of what can be declared to a server.
pub(crate) fn schema_of_documents() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let kinds = [generator.subschema_for::<RawWorkload>(), generator.subschema_for::<RawTarget>()];
    whole(generator, json!(kinds), &["Workload", "Target"])
}

fn whole(mut generator: SchemaGenerator, kinds: Value, words: &[&str]) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A document of a hale workload file",
        "type": "object",
        "required": ["kind", "name"],
        "properties": { "kind": { "enum": words } },
        "oneOf": kinds,
        "$defs": generator.take_definitions(true),
    })
}
