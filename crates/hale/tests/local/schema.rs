//! `hale schema`: what editors check files by says the same as hale itself.

use serde_json::{Value, json};

use crate::{examples, hale, run};

fn schema() -> Value {
    let done = run(hale().arg("schema"));
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    serde_json::from_str(&done.out).expect("a schema is JSON")
}

#[test]
fn every_example_is_valid_by_the_schema() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for file in examples() {
        let text = std::fs::read_to_string(&file).expect("it is readable");
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("it is YAML");
        for document in documents {
            if let Err(why) = valid(&document, &schema, &schema) {
                panic!("{}: {why}", file.display());
            }
        }
    }
}

#[test]
fn what_hale_refuses_the_schema_refuses() {
    let schema = schema();
    let base = json!({"kind": "Workload", "name": "web", "process": {"command": ["a"]}});
    assert_eq!(valid(&base, &schema, &schema), Ok(()));
    for (pointer, value) in [
        ("kind", json!("Deployment")),
        ("replicas", json!("two")),
        ("replicas", json!(-1)),
        ("livenessProb", json!({})),
        ("livenessProbe", json!({"periodSeconds": 1})),
        ("livenessProbe", json!({"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}})),
        ("livenessProbe", json!({"tcpSocket": {"port": 70000}})),
        ("livenessProbe", json!({"tcpSocket": {"port": 1}, "failureThreshold": 0})),
        ("restart", json!({"policy": "sometimes"})),
        ("restart", json!({"restartWindow": "ten minutes"})),
        ("process", json!({"command": "a"})),
        ("resources", json!({"memory": "lots"})),
    ] {
        let mut wrong = base.clone();
        wrong[pointer] = value.clone();
        assert!(valid(&wrong, &schema, &schema).is_err(), "{pointer}: {value}");
    }
}

/// As much of a JSON Schema validator as this schema needs. A keyword it does not know fails the test.
fn valid(value: &Value, schema: &Value, root: &Value) -> Result<(), String> {
    let Value::Object(rules) = schema else { return Ok(()) };
    let fails = |it: &Value| valid(value, it, root).err();
    for (keyword, rule) in rules {
        let fault = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "format" => None,
            "$ref" => {
                let pointer = rule.as_str().unwrap_or("").trim_start_matches('#');
                fails(root.pointer(pointer).ok_or(format!("{rule} leads nowhere"))?)
            }
            "type" => type_fault(value, rule),
            "enum" => {
                (!rule.as_array().is_some_and(|all| all.contains(value))).then(|| format!("{value}: {rule}"))
            }
            "const" => (value != rule).then(|| format!("{value} is not {rule}")),
            "anyOf" => list(rule).map(fails).reduce(|a, b| a.and(b)).flatten(),
            "oneOf" => {
                let faults: Vec<Option<String>> = list(rule).map(fails).collect();
                let good = faults.iter().filter(|it| it.is_none()).count();
                (good != 1)
                    .then(|| format!("{good} of oneOf: {:?}", faults.iter().flatten().collect::<Vec<_>>()))
            }
            "minimum" => value
                .as_f64()
                .filter(|it| *it < rule.as_f64().unwrap_or(0.0))
                .map(|it| format!("{it} < {rule}")),
            "maximum" => value
                .as_f64()
                .filter(|it| *it > rule.as_f64().unwrap_or(0.0))
                .map(|it| format!("{it} > {rule}")),
            "pattern" => pattern_fault(value, rule),
            "items" => list(value).find_map(|it| valid(it, rule, root).err()),
            "required" | "properties" | "additionalProperties" => members_fault(keyword, value, schema, root),
            other => Some(format!("the test does not know the keyword {other}")),
        };
        if let Some(fault) = fault {
            return Err(fault);
        }
    }
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn type_fault(value: &Value, rule: &Value) -> Option<String> {
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => value.is_null(),
    };
    let fits = match rule {
        Value::String(name) => is(name),
        names => list(names).filter_map(Value::as_str).any(is),
    };
    (!fits).then(|| format!("{value} is not {rule}"))
}

/// The two patterns of the schema, by hale's own reading of what they stand for.
fn pattern_fault(value: &Value, rule: &Value) -> Option<String> {
    let (text, pattern) = (value.as_str()?, rule.as_str()?);
    let fits = if pattern.contains("ms|s|m|h") {
        hale_model::file::parse_duration(text).is_some()
    } else {
        assert!(pattern.contains("Ki|M|Mi"), "the test does not know the pattern {pattern}");
        text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(' ')
    };
    (!fits).then(|| format!("{text} does not match {pattern}"))
}

fn members_fault(keyword: &str, value: &Value, schema: &Value, root: &Value) -> Option<String> {
    let members = value.as_object()?;
    let properties = schema.get("properties").and_then(Value::as_object);
    let known = |name: &str| properties.and_then(|all| all.get(name));
    match keyword {
        "required" => list(&schema["required"])
            .filter_map(Value::as_str)
            .find(|name| !members.contains_key(*name))
            .map(|name| format!("{name} is missing")),
        "properties" => members
            .iter()
            .find_map(|(name, value)| Some(format!("{name}: {}", valid(value, known(name)?, root).err()?))),
        _ => {
            members.iter().filter(|(name, _)| known(name).is_none()).find_map(|(name, value)| {
                match &schema["additionalProperties"] {
                    Value::Bool(false) => Some(format!("{name} is not a field here")),
                    rule => valid(value, rule, root).err(),
                }
            })
        }
    }
}
