//! What a server's notifications mean (R2).

use serde_json::{Value, json};

use hale_api::runs::Resource;

use super::super::{What, plain};
use crate::alert::RawAlert;

/// What a notification means.
#[derive(Debug, PartialEq)]
pub(super) enum Meaning {
    /// Something for the driver.
    Heard(What),
    /// A subscription does not tell any more.
    SubscriptionLost {
        /// Which; absent: whichever there is.
        id: Option<String>,
        /// Why.
        why: String,
    },
    /// A line of the server's own log.
    Chatter,
}

/// Reads one. `any`: every notification is an alert, of a server that has no subscriptions.
pub(super) fn read(level: &str, logger: Option<&str>, data: Value, server: &str, any: bool) -> Meaning {
    let data = unpack(data);
    match logger {
        Some("kubernetes/faults") => Meaning::Heard(plain::read(&data)),
        Some("kubernetes/events") => Meaning::Heard(event(&data)),
        Some("kubernetes/subscription_error") => Meaning::SubscriptionLost {
            id: plain::text(&data, &["subscriptionId"]).map(str::to_owned),
            why: plain::text(&data, &["error", "message", "reason"])
                .map_or_else(|| plain::quote(&data.to_string()), plain::quote),
        },
        _ if !any => Meaning::Chatter,
        _ => Meaning::Heard(line(level, logger, data, server)),
    }
}

/// Some servers put JSON into a text.
fn unpack(data: Value) -> Value {
    match data.as_str().map(serde_json::from_str) {
        Some(Ok(inner @ Value::Object(_))) => inner,
        _ => data,
    }
}

/// An event of Kubernetes (mode `events`): `Normal` is info, `Warning` is warning, the reason is the kind of fault.
fn event(data: &Value) -> What {
    let event = data.get("event").filter(|it| it.is_object()).unwrap_or(data);
    let about = ["involvedObject", "regarding", "resource", "object"];
    let about = about.iter().find_map(|it| event.get(it).or_else(|| data.get(it))).and_then(plain::resource);
    let Some(mut resource) = about else {
        return What::Unreadable(format!("an event about nothing: {}", plain::quote(&data.to_string())));
    };
    let text = |names: &[&str]| plain::text(event, names).or_else(|| plain::text(data, names));
    if resource.namespace.is_none() {
        resource.namespace = text(&["namespace"]).map(str::to_owned);
    }
    let severity = text(&["severity", "type"]).map(plain::severity);
    let reason = text(&["reason"]).unwrap_or("Event").to_owned();
    What::Alert(Box::new(RawAlert {
        source_id: text(&["eventId", "uid", "id"]).map(str::to_owned),
        severity,
        message: text(&["message", "note"])
            .map_or_else(|| format!("{reason}: {}", plain::name(&resource)), str::to_owned),
        fault_type: reason,
        resource,
        labels: [].into(),
        timestamp: text(&["timestamp", "lastTimestamp", "eventTime"]).and_then(plain::timestamp),
        context: data.clone(),
    }))
}

/// Any notification: an alert in our own form, or a line of a log, which is about its logger.
fn line(level: &str, logger: Option<&str>, data: Value, server: &str) -> What {
    if data.get("resource").is_some_and(|it| plain::resource(it).is_some()) {
        return plain::read(&data);
    }
    let message = data.as_str().or_else(|| plain::text(&data, &["message", "msg"]));
    What::Alert(Box::new(RawAlert {
        source_id: None,
        severity: Some(plain::severity(level)),
        fault_type: "log".to_owned(),
        message: plain::quote(message.unwrap_or(&data.to_string())),
        resource: Resource {
            kind: "McpServer".to_owned(),
            name: logger.filter(|it| !it.is_empty()).unwrap_or(server).to_owned(),
            ..Resource::default()
        },
        labels: [].into(),
        timestamp: None,
        context: json!({"level": level, "logger": logger, "server": server, "data": data}),
    }))
}

/// The ids of subscriptions in a tool's answer, wherever they stand in it.
pub(super) fn subscription_ids(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value.as_str() {
                Some(id) if matches!(name.as_str(), "subscriptionId" | "subscription_id" | "id") => {
                    vec![id.to_owned()]
                }
                _ => subscription_ids(value),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(subscription_ids).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> Value {
        json!({
            "subscriptionId": "sub-1", "cluster": "prod", "faultId": "f-1", "faultType": "CrashLoop",
            "severity": "critical", "context": {"message": "back-off"}, "timestamp": "2026-01-01T00:00:00Z",
            "resource": {"apiVersion": "v1", "kind": "Pod", "name": "web-0", "namespace": "shop", "uid": "u-1"},
        })
    }

    #[test]
    fn a_fault_is_an_alert() {
        for data in [fault(), Value::String(fault().to_string())] {
            let meaning = read("warning", Some("kubernetes/faults"), data, "k8s", false);
            let Meaning::Heard(What::Alert(alert)) = meaning else { panic!("{meaning:?}") };
            assert_eq!(
                (alert.fault_type.as_str(), alert.severity.as_deref()),
                ("CrashLoop", Some("critical"))
            );
            assert_eq!((alert.source_id.as_deref(), alert.message.as_str()), (Some("f-1"), "back-off"));
            assert_eq!(alert.resource.uid.as_deref(), Some("u-1"));
            assert_eq!(alert.context, fault());
        }
    }

    #[test]
    fn an_event_is_an_alert_about_what_it_involves() {
        let data = json!({
            "subscriptionId": "sub-1", "cluster": "prod",
            "event": {
                "namespace": "shop", "type": "Warning", "reason": "FailedScheduling", "message": "0/3 nodes",
                "timestamp": "2026-01-01T00:00:00Z", "involvedObject": {"kind": "Pod", "name": "web-0"},
            },
        });
        let meaning = read("warning", Some("kubernetes/events"), data, "k8s", false);
        let Meaning::Heard(What::Alert(alert)) = meaning else { panic!("{meaning:?}") };
        assert_eq!(
            (alert.fault_type.as_str(), alert.severity.as_deref()),
            ("FailedScheduling", Some("warning"))
        );
        assert_eq!(
            (plain::name(&alert.resource).as_str(), alert.message.as_str()),
            ("Pod shop/web-0", "0/3 nodes")
        );
        let nothing = read("info", Some("kubernetes/events"), json!({"type": "Normal"}), "k8s", false);
        assert!(matches!(nothing, Meaning::Heard(What::Unreadable(_))));
    }

    #[test]
    fn a_lost_subscription_is_told_and_a_servers_own_log_is_not() {
        let data = json!({"subscriptionId": "sub-1", "error": "watch expired"});
        let expected = Meaning::SubscriptionLost { id: Some("sub-1".into()), why: "watch expired".into() };
        assert_eq!(read("error", Some("kubernetes/subscription_error"), data, "k8s", false), expected);
        assert_eq!(read("error", Some("x"), json!("noise"), "k8s", false), Meaning::Chatter);
        assert_eq!(read("error", None, json!("noise"), "k8s", false), Meaning::Chatter);
    }

    #[test]
    fn every_notification_is_an_alert_where_there_are_no_subscriptions() {
        let meaning = read("notice", None, json!("disk is slow"), "srv", true);
        let Meaning::Heard(What::Alert(alert)) = meaning else { panic!("{meaning:?}") };
        assert_eq!(plain::name(&alert.resource), "McpServer srv");
        assert_eq!((alert.severity.as_deref(), alert.message.as_str()), (Some("info"), "disk is slow"));
        let meaning = read("info", Some("mine"), fault(), "srv", true);
        assert!(matches!(meaning, Meaning::Heard(What::Alert(it)) if it.fault_type == "CrashLoop"));
    }

    #[test]
    fn ids_of_subscriptions_are_found_wherever_they_stand() {
        let value =
            json!({"subscriptions": [{"id": "a", "mode": "faults"}, {"subscriptionId": "b"}], "count": 2});
        assert_eq!(subscription_ids(&value), ["a", "b"]);
        assert!(subscription_ids(&json!({"subscriptions": []})).is_empty());
    }
}
