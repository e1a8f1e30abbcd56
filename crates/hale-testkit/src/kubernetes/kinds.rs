//! The kinds that are served.

use serde_json::{Value, json};

/// API version, kind, plural, whether in namespaces.
pub(super) type Served = (&'static str, &'static str, &'static str, bool);

/// What is in two versions or groups is the same objects in both, as in a cluster.
pub(super) const SERVED: [Served; 26] = [
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
    ("batch/v1beta1", "CronJob", "cronjobs", true),
    ("networking.k8s.io/v1", "Ingress", "ingresses", true),
    ("extensions/v1beta1", "Ingress", "ingresses", true),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true),
    ("example.test/v1", "Widget", "widgets", true),
    // Only in a version that is not the preferred one.
    ("example.test/v1alpha1", "Gizmo", "gizmos", true),
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
    // The first version of a group is the one that is preferred.
    let told = |version: &str| json!({"groupVersion": version, "version": version.split_once('/').map_or("", |it| it.1)});
    let mut groups: Vec<Value> = Vec::new();
    for version in versions {
        let group = version.split_once('/').map_or("", |it| it.0);
        match groups.iter_mut().find(|it| it["name"] == group) {
            Some(known) => known["versions"].as_array_mut().expect("a list").push(told(version)),
            None => groups
                .push(json!({"name": group, "versions": [told(version)], "preferredVersion": told(version)})),
        }
    }
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
