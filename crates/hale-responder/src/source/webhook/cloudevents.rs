//! CloudEvents 1.0 over HTTP: structured, in batches, and binary (attributes in headers).

use hale_api::runs::Resource;
use http::HeaderMap;
use serde_json::{Map, Value};

use super::super::{What, hale, plain};
use crate::alert::RawAlert;

/// Whether the attributes of an event are in the headers.
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// The same event in its structured form.
pub(super) fn from_headers(headers: &HeaderMap, data: Value) -> Value {
    let attributes = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("ce-")?;
        Some((name.to_owned(), Value::String(decode(value.to_str().ok()?))))
    });
    let mut event: Map<String, Value> = attributes.collect();
    event.insert("data".to_owned(), data);
    Value::Object(event)
}

/// What is percent-encoded in a header.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let coded = if *first == b'%' { tail.get(..2) } else { None };
        let coded = coded.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 16).ok());
        bytes.push(coded.unwrap_or(*first));
        rest = if coded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads an event. hale's own are understood as those of a `hale` source are; of others the data is an alert in our own
/// form, or the subject is what it is about.
pub(super) fn read(event: &Value) -> What {
    let unreadable = |why: &str| What::Unreadable(format!("{why}: {}", plain::quote(&event.to_string())));
    if plain::text(event, &["specversion"]) != Some("1.0") {
        return unreadable("no CloudEvent of version 1.0");
    }
    let (Some(kind), Some(id)) = (plain::text(event, &["type"]), plain::text(event, &["id"])) else {
        return unreadable("a CloudEvent without type or id");
    };
    if kind.starts_with("dev.hale.") {
        return hale::from_json(event);
    }
    let data = event.get("data").map_or(&Value::Null, |it| it);
    let named = data.get("resource").and_then(plain::resource);
    let subject = plain::text(event, &["subject"]).map(|subject| Resource {
        kind: "Resource".to_owned(),
        name: subject.to_owned(),
        ..Resource::default()
    });
    let Some(resource) = named.or(subject) else {
        return unreadable("a CloudEvent about nothing: no subject");
    };
    let status = [event.get("status"), data.get("status"), data.get("resolved")];
    if status.into_iter().flatten().any(plain::resolved) {
        return What::Recovered(resource);
    }
    let severity = plain::text(data, &["severity"]).or_else(|| plain::text(event, &["severity"]));
    let message = plain::text(data, &["message", "summary"]);
    What::Alert(Box::new(RawAlert {
        source_id: Some(id.to_owned()),
        severity: severity.map(plain::severity),
        fault_type: plain::text(data, &["faultType"]).unwrap_or(kind).to_owned(),
        message: message.map_or_else(|| format!("{kind}: {}", plain::name(&resource)), str::to_owned),
        resource,
        labels: data.get("labels").map(plain::labels).unwrap_or_default(),
        timestamp: plain::text(event, &["time"]).and_then(plain::timestamp),
        context: event.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_the_same_alert_in_each_of_its_forms() {
        let data = json!({"severity": "error", "message": "disk full"});
        let structured = json!({
            "specversion": "1.0", "type": "com.example.disk", "source": "/s", "id": "7", "subject": "vol ä",
            "time": "2026-01-01T00:00:00Z", "data": data,
        });
        let headers: HeaderMap = [
            ("ce-specversion", "1.0"),
            ("ce-type", "com.example.disk"),
            ("ce-source", "/s"),
            ("ce-id", "7"),
            ("ce-subject", "vol%20%C3%A4"),
            ("ce-time", "2026-01-01T00:00:00Z"),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
        assert!(is_binary(&headers));
        let (What::Alert(one), What::Alert(other)) = (read(&structured), read(&from_headers(&headers, data)))
        else {
            panic!("no alerts")
        };
        assert_eq!(
            (&one.fault_type, &one.resource, &one.message),
            (&other.fault_type, &other.resource, &other.message)
        );
        assert_eq!(one.resource.name, "vol ä");
        assert_eq!((one.severity.as_deref(), one.message.as_str()), (Some("error"), "disk full"));
        assert_eq!(one.timestamp, other.timestamp);
    }

    #[test]
    fn events_of_hale_are_understood_as_those_of_a_hale_source_are() {
        let event = json!({
            "specversion": "1.0", "type": "dev.hale.target.probe_recovered", "source": "/s", "id": "7", "subject": "db",
            "severity": "info", "data": {},
        });
        assert!(matches!(read(&event), What::Recovered(it) if it.kind == "Target" && it.name == "db"));
    }

    #[test]
    fn what_is_no_event_or_about_nothing_is_unreadable() {
        for event in [
            json!({}),
            json!({"specversion": "0.3", "type": "a", "id": "1", "subject": "x"}),
            json!({"specversion": "1.0", "type": "a", "subject": "x"}),
            json!({"specversion": "1.0", "type": "a", "id": "1", "data": {}}),
        ] {
            assert!(matches!(read(&event), What::Unreadable(_)), "{event}");
        }
    }

    #[test]
    fn a_percent_sign_that_codes_nothing_stays() {
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%41"), "%zzA");
    }
}
