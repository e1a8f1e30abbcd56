//! The JSON Schema of workload files, as tables.

use std::fmt::Write as _;

use serde_json::Value;

/// Objects of the schema that people write, in the order of the chapter, each with its heading.
const SECTIONS: [(&str, &str); 38] = [
    ("Workload", "Workload"),
    ("Process", "process"),
    ("Container", "container"),
    ("Adopt", "adopt"),
    ("Volume", "volumes"),
    ("EnvFrom", "envFrom"),
    ("Port", "ports"),
    ("Resources", "resources"),
    ("Probe", "probe"),
    ("HttpGet", "httpGet"),
    ("HttpHeader", "httpHeaders"),
    ("TcpSocket", "tcpSocket"),
    ("Exec", "exec"),
    ("Grpc", "grpc"),
    ("Dns", "dns"),
    ("Tls", "tls"),
    ("Notify", "notify"),
    ("Restart", "restart"),
    ("Flapping", "flapping"),
    ("Disconnect", "disconnect"),
    ("Rollout", "rollout"),
    ("Placement", "placement"),
    ("Service", "service"),
    ("Target", "Target"),
    ("TargetsFrom", "targetsFrom"),
    ("FailureWindow", "failureWindow"),
    ("Maintenance", "maintenance"),
    ("Responder", "Responder"),
    ("Source", "sources"),
    ("SseFields", "fields"),
    ("Rule", "rules"),
    ("Match", "match"),
    ("Program", "run"),
    ("SuccessWhen", "successWhen"),
    ("Artifact", "artifact"),
    ("Step", "escalate"),
    ("Remote", "webhook"),
    ("Limits", "limits"),
];

/// The whole chapter.
pub(super) fn chapter(schema: &str) -> Result<String, String> {
    let schema: Value = serde_json::from_str(schema).map_err(|error| format!("not a schema: {error}"))?;
    let parts = &schema["$defs"];
    let mut text = String::from(
        "# Every field\n\nA document is a `Workload`, a `Target` or a `Responder`. Fields in **bold** must be there. A *duration* has a \
         unit (`500ms`, `10s`, `5m`, `1h`), *seconds* are a number, a *size* is a number of bytes or has a suffix \
         (`64Mi`).\n",
    );
    for (name, heading) in SECTIONS {
        let part = &parts[name];
        if part.is_null() {
            return Err(format!("the schema has no {name}: change SECTIONS in xtask/src/docs/fields.rs"));
        }
        // Writing to a string can't fail.
        let _ = write!(text, "\n## {heading}\n\n{}\n", part["description"].as_str().unwrap_or_default());
        let Some(fields) = part["properties"].as_object() else { continue };
        text.push_str("\n| field | value | |\n| --- | --- | --- |\n");
        let required: Vec<&str> =
            part["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (field, value) in fields {
            let about = value["description"].as_str().or_else(|| described(parts, value)).unwrap_or_default();
            let mark = if required.contains(&field.as_str()) { "**" } else { "" };
            let (kind, about) = (kind(parts, value), about.replace('|', "\\|").replace('\n', " "));
            let _ = writeln!(text, "| {mark}`{field}`{mark} | {kind} | {about} |");
        }
    }
    Ok(text)
}

/// The description of what a field refers to.
fn described<'a>(parts: &'a Value, value: &Value) -> Option<&'a str> {
    resolve(parts, value)?.1["description"].as_str()
}

fn resolve<'a>(parts: &'a Value, value: &Value) -> Option<(String, &'a Value)> {
    let name = value["$ref"].as_str()?.rsplit('/').next()?;
    Some((name.to_owned(), &parts[name]))
}

/// What may be written for a value.
fn kind(parts: &Value, value: &Value) -> String {
    if let Some((name, part)) = resolve(parts, value) {
        if let Some((_, heading)) = SECTIONS.iter().find(|(it, _)| *it == name) {
            let anchor: String = heading.to_lowercase().chars().filter(|it| *it != ',').collect();
            return format!("[{heading}](#{})", anchor.replace(' ', "-"));
        }
        return kind(parts, part);
    }
    let choices = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|it| kind(parts, it)).collect()
    };
    if let Some(words) = value["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`"));
        return words.collect::<Vec<_>>().join(", ");
    }
    if let Some(word) = value["const"].as_str() {
        return format!("`{word}`");
    }
    for either in ["anyOf", "oneOf"] {
        if value[either].is_array() {
            return choices(&value[either]).join(" or ");
        }
    }
    match value["pattern"].as_str() {
        Some(pattern) if pattern.contains("(ms|s|m|h") => return "duration".into(),
        Some(pattern) if pattern.contains("Ki") => return "size".into(),
        _ => {}
    }
    match &value["type"] {
        Value::Array(_) if value["maximum"] == 65535 => "number or name".into(),
        Value::Array(_) => "text".into(),
        Value::String(kind) => match kind.as_str() {
            "array" => format!("list of {}", self::kind(parts, &value["items"])),
            "object" => "mapping".into(),
            "integer" => "whole number".into(),
            "boolean" => "`true`, `false`".into(),
            "string" => "text".into(),
            other => other.to_owned(),
        },
        _ => "any".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_named_as_people_write_them() {
        let parts = serde_json::json!({
            "Port": {"type": "object"},
            "RawMode": {"enum": ["act", "observe"]},
        });
        for (value, expected) in [
            (
                serde_json::json!({"type": "array", "items": {"$ref": "#/$defs/Port"}}),
                "list of [ports](#ports)",
            ),
            (serde_json::json!({"$ref": "#/$defs/RawMode"}), "`act`, `observe`"),
            (serde_json::json!({"type": "string", "pattern": "^(0|([0-9]+(ms|s|m|h|d))+)$"}), "duration"),
            (serde_json::json!({"type": ["string", "number", "boolean"]}), "text"),
            (serde_json::json!({"type": ["string", "integer"], "maximum": 65535}), "number or name"),
        ] {
            assert_eq!(kind(&parts, &value), expected);
        }
    }
}
