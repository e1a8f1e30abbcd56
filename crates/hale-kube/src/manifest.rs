//! The manifests of a deployment object (K1): reading them, marking them as belonging to it (K2), and their order.

use serde_json::{Map, Value, json};

use crate::{
    dump,
    judge::{Kind, OBJECT_LABEL, Part},
};

/// The label that names the stack on everything that was applied for it: what bears it and is not in the manifests any
/// more is pruned.
pub const STACK_LABEL: &str = "hale.dev/stack-id";

/// The most manifests in one object.
const MOST: usize = 2_000;

/// One object to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// `apps/v1`
    pub api_version: String,
    /// `Deployment`
    pub kind: String,
    /// Where, if it says so.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// All of it.
    pub object: Value,
}

/// What is wrong with manifests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ManifestError(pub String);

/// Reads the manifests in a text, YAML or JSON, lists included, in the order they are written.
///
/// # Errors
/// It can't be read, or one of them has no `apiVersion`, `kind` or `metadata.name`.
pub fn read(text: &str) -> Result<Vec<Manifest>, ManifestError> {
    let documents = dump::documents(text).map_err(|error| {
        let line = error.line.map(|it| format!("line {it}: ")).unwrap_or_default();
        ManifestError(format!("the manifests can't be read: {line}{error}"))
    })?;
    let mut manifests = Vec::new();
    for document in documents {
        unfold(document, &mut manifests)?;
    }
    if manifests.len() > MOST {
        return Err(ManifestError(format!("{} manifests are more than {MOST}", manifests.len())));
    }
    Ok(manifests)
}

fn unfold(document: Value, into: &mut Vec<Manifest>) -> Result<(), ManifestError> {
    if document.is_null() {
        return Ok(());
    }
    let kind = document["kind"].as_str().unwrap_or_default().to_owned();
    if kind.ends_with("List") && document["items"].is_array() {
        let mut document = document;
        if let Value::Array(items) = document["items"].take() {
            for item in items {
                unfold(item, into)?;
            }
        }
        return Ok(());
    }
    let number = into.len() + 1;
    let word = |value: &Value, what: &str| {
        let found = value.as_str().filter(|it| !it.is_empty()).map(str::to_owned);
        found.ok_or_else(|| ManifestError(format!("manifest {number} has no {what}")))
    };
    into.push(Manifest {
        api_version: word(&document["apiVersion"], "apiVersion")?,
        kind: word(&document["kind"], "kind")?,
        namespace: document["metadata"]["namespace"].as_str().filter(|it| !it.is_empty()).map(str::to_owned),
        name: word(&document["metadata"]["name"], "metadata.name")?,
        object: document,
    });
    Ok(())
}

impl Manifest {
    /// The same object as the judgement names it, if it is of a kind that is watched. `default` is the namespace of what
    /// says none.
    #[must_use]
    pub fn part(&self, default: &str) -> Option<Part> {
        let kind = Kind::of(Some(&self.api_version), &self.kind)?;
        if matches!(kind, Kind::Event | Kind::Node) {
            return None;
        }
        let namespace = self.namespace.clone().unwrap_or_else(|| default.to_owned());
        Some(Part { namespace, kind, name: self.name.clone() })
    }

    /// The API group; empty for the core.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// What has to be there before others: the lowest first.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self.kind.as_str() {
            "Namespace" => 0,
            "CustomResourceDefinition" => 1,
            "PriorityClass" | "StorageClass" | "ResourceQuota" | "LimitRange" => 2,
            "ServiceAccount" | "ConfigMap" | "Secret" => 3,
            "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding" => 4,
            "PersistentVolume" | "PersistentVolumeClaim" => 5,
            "Service" => 6,
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Pod" | "Job" | "CronJob" => 8,
            _ => 7,
        }
    }

    /// The object as it is sent: with both labels, the deployment object's on its pod templates, too, and without what
    /// only a cluster writes.
    #[must_use]
    pub fn stamped(&self, stack: &str, object: &str, namespace: Option<&str>) -> Value {
        let mut sent = self.object.clone();
        if let Value::Object(fields) = &mut sent {
            fields.remove("status");
        }
        let metadata = map(&mut sent, "metadata");
        for key in ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"]
        {
            metadata.remove(key);
        }
        match namespace {
            Some(namespace) => metadata.insert("namespace".to_owned(), Value::from(namespace)),
            None => metadata.remove("namespace"),
        };
        label(&mut sent, STACK_LABEL, stack);
        label(&mut sent, OBJECT_LABEL, object);
        stamp_templates(&mut sent, object);
        self.with_protocols(&mut sent);
        sent
    }

    /// Ports are told apart by number and protocol, and a server before 1.21 does not take one that leaves the protocol
    /// to it (`associative list with keys has an element that omits key field`).
    fn with_protocols(&self, sent: &mut Value) {
        let pod = ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec", "/spec"];
        let pod = pod.into_iter().filter(|_| Kind::of(Some(&self.api_version), &self.kind).is_some());
        let mut places: Vec<String> = pod.map(|it| format!("{it}/containers")).collect();
        places.extend(places.clone().iter().map(|it| it.replace("/containers", "/initContainers")));
        for place in places {
            for container in sent.pointer_mut(&place).and_then(Value::as_array_mut).into_iter().flatten() {
                tcp_unless_said(container.get_mut("ports"));
            }
        }
        if (self.api_version.as_str(), self.kind.as_str()) == ("v1", "Service") {
            tcp_unless_said(sent.pointer_mut("/spec/ports"));
        }
    }
}

/// Marks the pod templates in an object. What has a template that makes pods is known by its containers, whoever's kind
/// it is.
pub(crate) fn stamp_templates(sent: &mut Value, object: &str) {
    if sent.pointer("/spec/template/spec/containers").is_some_and(Value::is_array) {
        label(&mut sent["spec"]["template"], OBJECT_LABEL, object);
    }
    if sent.pointer("/spec/jobTemplate/spec/template/spec").is_some_and(Value::is_object) {
        label(&mut sent["spec"]["jobTemplate"], OBJECT_LABEL, object);
        label(&mut sent["spec"]["jobTemplate"]["spec"]["template"], OBJECT_LABEL, object);
    }
}

fn tcp_unless_said(ports: Option<&mut Value>) {
    for port in ports.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
        port.entry("protocol").or_insert_with(|| Value::from("TCP"));
    }
}

fn label(value: &mut Value, key: &str, to: &str) {
    let metadata = map(value, "metadata");
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    labels[key] = Value::from(to);
}

/// The map under a key, made if it is not there.
fn map<'v>(value: &'v mut Value, key: &str) -> &'v mut Map<String, Value> {
    if !value[key].is_object() {
        value[key] = json!({});
    }
    match &mut value[key] {
        Value::Object(map) => map,
        // It was just made one.
        _ => unreachable!("an object was put there"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, resourceVersion: '7'}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web}]}
status: {replicas: 1}
---
# nothing
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: shop}}
";

    #[test]
    fn documents_and_lists_are_read_in_order() {
        let read = read(DEPLOYMENT).unwrap();
        let names: Vec<_> = read.iter().map(|it| (it.kind.as_str(), it.name.as_str())).collect();
        assert_eq!(names, [("Deployment", "web"), ("ConfigMap", "a")]);
        assert_eq!(read[1].namespace.as_deref(), Some("shop"));
    }

    #[rstest]
    #[case("kind: Pod\nmetadata: {name: a}", "no apiVersion")]
    #[case("apiVersion: v1\nmetadata: {name: a}", "no kind")]
    #[case("apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}", "no metadata.name")]
    #[case("a: [", "can't be read")]
    fn what_is_no_manifest_is_refused(#[case] text: &str, #[case] says: &str) {
        let error = read(text).unwrap_err();
        assert!(error.0.contains(says), "{error}");
    }

    #[test]
    fn both_labels_are_on_the_object_and_the_objects_own_on_its_pods() {
        let sent = read(DEPLOYMENT).unwrap()[0].stamped("s1", "o1", Some("shop"));
        assert_eq!(sent["metadata"]["labels"], json!({STACK_LABEL: "s1", OBJECT_LABEL: "o1"}));
        assert_eq!(sent["metadata"]["namespace"], "shop");
        assert_eq!(sent["spec"]["template"]["metadata"]["labels"], json!({"app": "web", OBJECT_LABEL: "o1"}));
        assert!(sent.get("status").is_none() && sent["metadata"].get("resourceVersion").is_none());
    }

    #[test]
    fn the_pods_of_a_cron_job_bear_the_label_too() {
        let text = r#"{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"c"},
            "spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[]}}}}}}"#;
        let sent = read(text).unwrap()[0].stamped("s1", "o1", None);
        assert_eq!(sent["spec"]["jobTemplate"]["metadata"]["labels"][OBJECT_LABEL], "o1");
        assert_eq!(sent["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"][OBJECT_LABEL], "o1");
    }

    #[test]
    fn namespaces_come_first_and_workloads_last() {
        let rank = |kind: &str| {
            let text = format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}");
            read(&text).unwrap()[0].rank()
        };
        let order = ["Namespace", "CustomResourceDefinition", "ConfigMap", "Service", "Widget", "Deployment"];
        assert!(order.map(rank).is_sorted());
    }

    #[test]
    fn a_port_without_a_protocol_is_one_of_tcp_as_older_servers_want_it_said() {
        let all = read(
            "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}, {port: 53, protocol: UDP}]}
---
apiVersion: batch/v1beta1
kind: CronJob
metadata: {name: nightly}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}}}}}
---
apiVersion: example.test/v1
kind: Gate
metadata: {name: g}
spec: {ports: [{port: 80}], containers: [{ports: [{port: 1}]}]}
",
        )
        .unwrap();
        let sent: Vec<Value> = all.iter().map(|it| it.stamped("s", "o", None)).collect();
        assert_eq!(
            sent[0]["spec"]["ports"],
            json!([{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}])
        );
        let container = sent[1].pointer("/spec/jobTemplate/spec/template/spec/containers/0").unwrap();
        assert_eq!(container["ports"], json!([{"containerPort": 80, "protocol": "TCP"}]));
        // Of other people's kinds nothing is known.
        assert_eq!(sent[2]["spec"], all[2].object["spec"]);
    }
}
