//! The kinds that are served.

use serde_json::{Value, json};

/// API version, kind, plural, whether in namespaces.
pub(super) type Served = (&'static str, &'static str, &'static str, bool);

pub(super) const SERVED: [Served; 22] = [
    ("v1", "Namespace", "namespaces", false),
    ("v1", "Node", "nodes", false),
    ("v1", "Pod", "pods", true),
    ("v1", "Service", "services", true),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Secret", "secrets", true),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    ("v1", "Event", "events", true),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("v1", "ReplicationController", "replicationcontrollers", true),
    ("v1", "Endpoints", "endpoints", true),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("apps/v1", "ReplicaSet", "replicasets", true),
    ("batch/v1", "Job", "jobs", true),
    ("batch/v1", "CronJob", "cronjobs", true),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true),
    ("example.test/v1", "Widget", "widgets", true),
];

/// What an object is.
pub(super) fn of(object: &Value) -> Option<Served> {
    let version = object["apiVersion"].as_str()?;
    let kind = object["kind"].as_str()?;
    // Recorded events are of both APIs; they are the same ones.
    SERVED.into_iter().find(|it| it.0 == version && it.1 == kind)
}

/// By kind alone.
pub(super) fn by_kind(kind: &str) -> Option<Served> {
    SERVED.into_iter().find(|it| it.1 == kind)
}

/// By the words of a path.
pub(super) fn by_plural(version: &str, plural: &str) -> Option<Served> {
    SERVED.into_iter().find(|it| it.0 == version && it.2 == plural)
}

/// The answer to `/apis`.
pub(super) fn groups() -> Value {
    let mut versions: Vec<&str> = SERVED.iter().map(|it| it.0).filter(|it| it.contains('/')).collect();
    versions.dedup();
    let groups: Vec<Value> = versions
        .iter()
        .map(|version| {
            let group = version.split_once('/').map_or("", |it| it.0);
            let told = json!({"groupVersion": version, "version": "v1"});
            json!({"name": group, "versions": [told], "preferredVersion": told})
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// The answer to `/apis/GROUP/VERSION`.
pub(super) fn resources(version: &str) -> Option<Value> {
    let resources: Vec<Value> = SERVED
        .iter()
        .filter(|it| it.0 == version)
        .map(|(_, kind, plural, namespaced)| {
            json!({"name": plural, "kind": kind, "namespaced": namespaced,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]})
        })
        .collect();
    let list = json!({"kind": "APIResourceList", "groupVersion": version, "resources": resources});
    (!resources.is_empty()).then_some(list)
}
