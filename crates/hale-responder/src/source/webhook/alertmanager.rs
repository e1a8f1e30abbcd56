//! What Alertmanager's webhook sends: version 4, a group of alerts.

use std::collections::BTreeMap;

use hale_api::runs::Resource;
use serde_json::{Map, Value};

use super::{
    super::{What, plain},
    MAX_ALERTS,
};
use crate::alert::RawAlert;

/// Labels that name what an alert is about, the nearest first, with the kind they name. `job` is no Kubernetes Job: it
/// is who was scraped.
const RESOURCES: [(&str, &str); 11] = [
    ("pod", "Pod"),
    ("deployment", "Deployment"),
    ("statefulset", "StatefulSet"),
    ("daemonset", "DaemonSet"),
    ("cronjob", "CronJob"),
    ("job_name", "Job"),
    ("persistentvolumeclaim", "PersistentVolumeClaim"),
    ("service", "Service"),
    ("node", "Node"),
    ("instance", "Instance"),
    ("namespace", "Namespace"),
];

/// Whether a value is such a group.
pub(super) fn is_group(value: &Value) -> bool {
    value.get("alerts").is_some_and(Value::is_array) && plain::text(value, &["version", "groupKey"]).is_some()
}

/// Reads a group: each alert fires, or is resolved.
///
/// # Errors
/// It is of another version, or has too many alerts.
pub(super) fn read(group: &Value) -> Result<Vec<What>, String> {
    match plain::text(group, &["version"]) {
        None | Some("4") => {}
        // Grafana sends the same, under a number of its own.
        Some("1") if group.get("orgId").is_some() => {}
        Some(other) => return Err(format!("version {other} of Alertmanager's webhook; 4 is read")),
    }
    let alerts = group.get("alerts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    // Before anything is made of them.
    if alerts.len() > MAX_ALERTS {
        return Err(format!("more than {MAX_ALERTS} alerts at once"));
    }
    let of_group = of_group(group);
    Ok(alerts.iter().map(|alert| read_one(alert, &of_group)).collect())
}

/// What each alert is told of its group: short, for it is kept with each of them.
fn of_group(group: &Value) -> Map<String, Value> {
    let short = |name| plain::text(group, &[name]).map(plain::quote).into();
    ["receiver", "groupKey", "externalURL"].into_iter().map(|name| (name.to_owned(), short(name))).collect()
}

fn read_one(alert: &Value, of_group: &Map<String, Value>) -> What {
    let labels = alert.get("labels").map(plain::labels).unwrap_or_default();
    let Some(name) = labels.get("alertname").filter(|it| !it.is_empty()) else {
        return What::Unreadable(format!("an alert without alertname: {}", plain::quote(&alert.to_string())));
    };
    let resource = resource(&labels, name);
    if alert.get("status").is_some_and(plain::resolved) {
        return What::Recovered(resource);
    }
    let annotations = alert.get("annotations").map_or(&Value::Null, |it| it);
    let message = plain::text(annotations, &["summary", "description", "message"]);
    let mut context = of_group.clone();
    context.insert("alert".to_owned(), alert.clone());
    What::Alert(Box::new(RawAlert {
        source_id: plain::text(alert, &["fingerprint"]).map(str::to_owned),
        severity: labels.get("severity").map(|it| plain::severity(it)),
        fault_type: name.clone(),
        message: message.map_or_else(|| format!("{name}: {}", plain::name(&resource)), str::to_owned),
        resource,
        timestamp: plain::text(alert, &["startsAt"]).and_then(plain::timestamp),
        labels,
        context: context.into(),
    }))
}

fn resource(labels: &BTreeMap<String, String>, alertname: &str) -> Resource {
    let namespace = labels.get("namespace").filter(|it| !it.is_empty()).cloned();
    let found = RESOURCES
        .iter()
        .find_map(|(label, kind)| Some((*kind, labels.get(*label).filter(|it| !it.is_empty())?)));
    let (kind, name) = found.map_or(("Alert", alertname), |(kind, name)| (kind, name));
    let namespace = namespace.filter(|_| !matches!(kind, "Namespace" | "Node"));
    Resource { kind: kind.to_owned(), name: name.to_owned(), namespace, ..Resource::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn group(alerts: Value) -> Value {
        json!({
            "version": "4", "groupKey": "{}:{alertname=\"X\"}", "truncatedAlerts": 0, "status": "firing",
            "receiver": "hale", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
            "externalURL": "http://am:9093", "alerts": alerts,
        })
    }

    fn labelled(labels: Value) -> Resource {
        let alert = json!({"status": "resolved", "labels": labels});
        match read(&group(json!([alert]))).unwrap().pop() {
            Some(What::Recovered(resource)) => resource,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_group_is_read_alert_by_alert() {
        let firing = json!({
            "status": "firing",
            "labels": {"alertname": "KubePodCrashLooping", "severity": "page", "namespace": "shop", "pod": "web-0", "job": "ksm"},
            "annotations": {"description": "d", "summary": "crash looping"},
            "startsAt": "2026-01-01T00:00:00.5Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "abc",
        });
        let resolved =
            json!({"status": "resolved", "labels": {"alertname": "X", "namespace": "shop", "pod": "web-1"}});
        let heard = read(&group(json!([firing, resolved]))).unwrap();
        let [What::Alert(alert), What::Recovered(well)] = heard.as_slice() else { panic!("{heard:?}") };
        assert_eq!(
            (alert.fault_type.as_str(), alert.severity.as_deref()),
            ("KubePodCrashLooping", Some("critical"))
        );
        assert_eq!((alert.message.as_str(), alert.source_id.as_deref()), ("crash looping", Some("abc")));
        assert_eq!(plain::name(&alert.resource), "Pod shop/web-0");
        assert_eq!(alert.labels["job"], "ksm");
        assert_eq!(alert.timestamp, plain::timestamp("2026-01-01T00:00:00.5Z"));
        assert_eq!(alert.context["alert"], firing);
        assert_eq!(plain::name(well), "Pod shop/web-1");
    }

    #[test]
    fn many_alerts_are_refused_before_they_are_read_and_what_they_share_is_short() {
        let alert = json!({"status": "firing", "labels": {"alertname": "X"}});
        let mut large = group(json!(vec![alert.clone(); MAX_ALERTS]));
        for name in ["groupKey", "receiver", "externalURL"] {
            large[name] = json!("x".repeat(100_000));
        }
        let heard = read(&large).unwrap();
        assert_eq!(heard.len(), MAX_ALERTS);
        let Some(What::Alert(first)) = heard.first() else { panic!("{:?}", heard.first()) };
        assert!(first.context["groupKey"].as_str().is_some_and(|it| it.starts_with("xxx")));
        assert!(first.context.to_string().len() < 1000);
        assert!(read(&group(json!(vec![alert; MAX_ALERTS + 1]))).unwrap_err().contains("1000"));
    }

    #[test]
    fn what_an_alert_is_about_is_the_nearest_thing_its_labels_name() {
        for (labels, expected) in [
            (
                json!({"deployment": "web", "namespace": "shop", "instance": "10.0.0.1:80"}),
                "Deployment shop/web",
            ),
            (json!({"node": "n1", "namespace": "monitoring", "instance": "i"}), "Node n1"),
            (json!({"job_name": "backup", "namespace": "ops", "job": "ksm"}), "Job ops/backup"),
            (json!({"instance": "db:9100", "job": "node"}), "Instance db:9100"),
            (json!({"namespace": "shop"}), "Namespace shop"),
            (json!({"job": "x", "pod": ""}), "Alert Watchdog"),
        ] {
            let mut labels = labels;
            labels["alertname"] = json!("Watchdog");
            assert_eq!(plain::name(&labelled(labels.clone())), expected, "{labels}");
        }
    }

    #[test]
    fn another_version_and_an_alert_without_a_name_are_refused() {
        assert!(read(&json!({"version": "3", "alerts": []})).is_err());
        assert!(read(&json!({"version": "1", "alerts": []})).is_err());
        assert!(read(&json!({"version": "1", "orgId": 1, "alerts": []})).is_ok(), "Grafana's");
        let heard = read(&group(json!([{"status": "firing", "labels": {}}]))).unwrap();
        assert!(matches!(heard.as_slice(), [What::Unreadable(_)]));
    }
}
