//! The JSON Schema of workload files, for editors (N2).

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::raw::{RawTarget, RawWorkload};

/// The JSON Schema (draft 2020-12) of one document of a workload file.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let workload = generator.subschema_for::<RawWorkload>();
    let target = generator.subschema_for::<RawTarget>();
    let definitions = generator.take_definitions(true);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A document of a hale workload file",
        "type": "object",
        "required": ["kind", "name"],
        "properties": { "kind": { "enum": ["Workload", "Target"] } },
        "oneOf": [workload, target],
        "$defs": definitions,
    })
}
