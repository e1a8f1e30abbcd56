//! Alerts in the form that most senders use, our own among them: an object with `severity`, `faultType` and `resource`.

use std::collections::BTreeMap;

use hale_api::runs::Resource;
use jiff::Timestamp;
use serde_json::Value;

use super::What;
use crate::alert::RawAlert;

/// The most of a message that is quoted where it can't be read.
const QUOTE: usize = 200;

/// Reads an alert, or that all is well again (`resolved: true`, or `status: resolved`):
///
/// ```json
/// {"faultId": "…", "faultType": "CrashLoop", "severity": "warning", "timestamp": "…", "message": "…",
///  "resource": {"apiVersion": "v1", "kind": "Pod", "name": "web-0", "namespace": "shop", "uid": "…"},
///  "labels": {}, "context": {}}
/// ```
pub(crate) fn read(value: &Value) -> What {
    let Some(found) = value.get("resource").and_then(resource) else {
        return What::Unreadable(format!("no resource with a name in {}", quote(&value.to_string())));
    };
    if is_resolved(value) {
        return What::Recovered(found);
    }
    let fault_type = text(value, &["faultType", "fault_type", "type"]).unwrap_or("alert").to_owned();
    What::Alert(Box::new(RawAlert {
        source_id: text(value, &["sourceId", "faultId", "source_id", "id"]).map(str::to_owned),
        severity: text(value, &["severity"]).map(severity),
        message: message(value, &fault_type, &found),
        fault_type,
        resource: found,
        labels: value.get("labels").map(labels).unwrap_or_default(),
        context: value.clone(),
        timestamp: text(value, &["timestamp", "time"]).and_then(timestamp),
    }))
}

fn message(value: &Value, fault_type: &str, resource: &Resource) -> String {
    let within = value.get("context").map_or(&Value::Null, |it| it);
    let told = text(value, &["message", "summary"])
        .or_else(|| text(within, &["message", "reason"]))
        .or(within.as_str());
    told.map_or_else(|| format!("{fault_type}: {}", name(resource)), |it| quote_to(it, 2000))
}

/// What a resource is called in a sentence.
pub(crate) fn name(resource: &Resource) -> String {
    let namespace = resource.namespace.as_deref().map(|it| format!("{it}/")).unwrap_or_default();
    format!("{} {namespace}{}", resource.kind, resource.name).trim().to_owned()
}

/// A resource as Kubernetes writes references; it has a name at least.
pub(crate) fn resource(value: &Value) -> Option<Resource> {
    let owned = |name: &str| text(value, &[name]).map(str::to_owned);
    Some(Resource {
        name: owned("name")?,
        kind: owned("kind").unwrap_or_else(|| "Resource".to_owned()),
        api_version: owned("apiVersion"),
        namespace: owned("namespace"),
        uid: owned("uid"),
    })
}

fn is_resolved(value: &Value) -> bool {
    value.get("resolved").is_some_and(resolved) || value.get("status").is_some_and(resolved)
}

/// Whether a value says that all is well again.
pub(crate) fn resolved(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str().is_some_and(|it| it.eq_ignore_ascii_case("resolved"))
}

/// The first of the fields that is a text with something in it.
pub(crate) fn text<'a>(value: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| value.get(name)?.as_str().filter(|it| !it.is_empty()))
}

/// An object's texts, numbers and truths as labels.
pub(crate) fn labels(value: &Value) -> BTreeMap<String, String> {
    let fields = value.as_object().into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), scalar(value)?))).collect()
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Our word for a severity; what no sender we know of says stays as it is, and is refused where alerts are judged (R4).
pub(crate) fn severity(word: &str) -> String {
    let word = word.trim().to_ascii_lowercase();
    match word.as_str() {
        "trace" => "debug".to_owned(),
        "none" | "notice" | "normal" | "information" | "informational" => "info".to_owned(),
        "warn" => "warning".to_owned(),
        "err" => "error".to_owned(),
        "crit" | "alert" | "emergency" | "fatal" | "page" => "critical".to_owned(),
        _ => word,
    }
}

/// A time in RFC 3339.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// The beginning of what a stranger sent, fit for a log line.
pub(crate) fn quote(text: &str) -> String {
    quote_to(text, QUOTE)
}

fn quote_to(text: &str, most: usize) -> String {
    let mut short: String =
        text.chars().take(most).map(|it| if it.is_control() { ' ' } else { it }).collect();
    if text.chars().nth(most).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_alert_of_our_own_form_is_read_whole() {
        let value = json!({
            "faultId": "f1", "faultType": "CrashLoop", "severity": "Warn", "timestamp": "2026-01-02T03:04:05Z",
            "resource": {"apiVersion": "v1", "kind": "Pod", "name": "web-0", "namespace": "shop", "uid": "u"},
            "labels": {"team": "a", "n": 1}, "context": {"message": "back-off 5m0s"},
        });
        let expected = RawAlert {
            source_id: Some("f1".into()),
            severity: Some("warning".into()),
            fault_type: "CrashLoop".into(),
            resource: Resource {
                api_version: Some("v1".into()),
                kind: "Pod".into(),
                name: "web-0".into(),
                namespace: Some("shop".into()),
                uid: Some("u".into()),
            },
            message: "back-off 5m0s".into(),
            labels: [("team".into(), "a".into()), ("n".into(), "1".into())].into(),
            context: value.clone(),
            timestamp: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        };
        assert_eq!(read(&value), What::Alert(Box::new(expected)));
    }

    #[test]
    fn what_is_resolved_is_a_recovery_and_what_names_nothing_is_unreadable() {
        let resource = json!({"kind": "Pod", "name": "web-0"});
        for value in [
            json!({"resource": resource, "resolved": true}),
            json!({"resource": resource, "status": "Resolved"}),
        ] {
            assert!(matches!(read(&value), What::Recovered(it) if it.name == "web-0"), "{value}");
        }
        for value in
            [json!({}), json!([1]), json!("x"), json!({"resource": {"name": ""}}), json!({"resource": 7})]
        {
            assert!(matches!(read(&value), What::Unreadable(_)), "{value}");
        }
    }

    #[test]
    fn what_is_quoted_is_short_and_one_line() {
        let quoted = quote(&format!("a\nb\x1b{}", "x".repeat(10_000)));
        assert!(quoted.starts_with("a b ") && quoted.chars().count() == QUOTE + 1, "{quoted}");
    }
}
