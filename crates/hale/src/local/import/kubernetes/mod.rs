//! Manifests: what runs pods becomes a workload, with the Service, ConfigMap and Secret beside it.

mod container;
mod env;
mod health;
mod pod;

use std::rc::Rc;

use hale_model::file::Node;

use self::pod::Controller;
use super::{
    draft::Draft,
    source::Source,
    values::{at, items, text_at},
};
use crate::failure::Failure;

/// One object of a manifest.
#[derive(Clone)]
struct Object<'a> {
    source: &'a Source,
    node: Rc<Node>,
    kind: String,
    name: String,
}

/// All objects of all files: they refer to each other.
struct Manifest<'a> {
    objects: Vec<Object<'a>>,
}

/// The workloads of manifests.
///
/// # Errors
/// One is not YAML, or none holds an object.
pub(super) fn import(sources: &[Source]) -> Result<Vec<Draft>, Failure> {
    let mut objects = Vec::new();
    for source in sources {
        for node in source.documents()?.into_iter().filter(|it| !it.is_null()) {
            if text_at(&node, &["kind"]).is_none() {
                return Err(source.wrong(node.start(), "kind: missing, this is no manifest"));
            }
            flatten(source, node, &mut objects);
        }
    }
    let manifest = Manifest { objects };
    let mut drafts: Vec<Draft> = Vec::new();
    for object in &manifest.objects {
        match object.kind.as_str() {
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Pod" => {
                let mut draft = Controller { manifest: &manifest, object }.draft();
                if drafts.iter().any(|it| it.name == draft.name) {
                    draft.name = format!("{}-{}", draft.name, object.kind.to_lowercase());
                    object.note(&format!("another is named so, too: it is {} in hale", draft.name));
                }
                drafts.push(draft);
            }
            "Service" | "ConfigMap" | "Secret" => {}
            other => object.note(&format!("a {other} is not carried over")),
        }
    }
    for object in manifest.objects.iter().filter(|it| it.kind == "Service") {
        if !drafts.is_empty() && !manifest.selects_any(object) {
            object.note("selects none of these workloads: not carried over");
        }
    }
    Ok(drafts)
}

/// A `List` is what `kubectl get -o yaml` prints for several.
fn flatten<'a>(source: &'a Source, node: Rc<Node>, objects: &mut Vec<Object<'a>>) {
    let kind = text_at(&node, &["kind"]).unwrap_or_default().to_owned();
    if let Some(several) = node.get("items").filter(|_| kind.ends_with("List")) {
        for item in items(several) {
            flatten(source, Rc::clone(item), objects);
        }
        return;
    }
    let name = text_at(&node, &["metadata", "name"]).or(text_at(&node, &["metadata", "generateName"]));
    let name = name.unwrap_or("unnamed").to_owned();
    objects.push(Object { source, node, kind, name });
}

impl Object<'_> {
    fn note(&self, what: &str) {
        self.note_at(&self.node, "", what);
    }

    fn note_at(&self, at: &Node, field: &str, what: &str) {
        let dot = if field.is_empty() { "" } else { "." };
        let named = format!("{}/{}{dot}{field}", self.kind.to_lowercase(), self.name);
        self.source.note(at.start(), format!("{named}: {what}"));
    }
}

impl Manifest<'_> {
    fn find(&self, kind: &str, name: &str) -> Option<&Object<'_>> {
        self.objects.iter().find(|it| it.kind == kind && it.name == name)
    }

    fn selects_any(&self, service: &Object<'_>) -> bool {
        self.objects.iter().any(|it| match template(it) {
            Some(template) => selects(service, template),
            None => false,
        })
    }

    /// The Services that take traffic to the pods of this object.
    fn services(&self, object: &Object<'_>) -> Vec<&Object<'_>> {
        let Some(template) = template(object) else { return Vec::new() };
        self.objects.iter().filter(|it| it.kind == "Service" && selects(it, template)).collect()
    }
}

/// What a pod of this object is made by.
fn template<'o>(object: &'o Object<'_>) -> Option<&'o Node> {
    match object.kind.as_str() {
        "Pod" => Some(&object.node),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => at(&object.node, &["spec", "template"]),
        _ => None,
    }
}

fn selects(service: &Object<'_>, template: &Node) -> bool {
    let Some(selector) = at(&service.node, &["spec", "selector"]) else { return false };
    let selector = super::values::pairs(selector);
    let label = |name: &str| text_at(template, &["metadata", "labels", name]);
    !selector.is_empty() && selector.iter().all(|(_, name, value)| label(name) == value.as_deref())
}
