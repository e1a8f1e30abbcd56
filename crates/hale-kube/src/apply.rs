//! Making a cluster be as a deployment object says (K1): applied on the server's side by hale's own field manager, what
//! has gone from the manifests pruned by label, all of it deleted by a deletion marker.
//!
//! Each object's failure is its own: the others are applied, and the failed ones tried again later. Nothing is pruned
//! before all is applied.

use std::collections::BTreeSet;

use http::Method;
use kube::client::Body;
use serde_json::Value;

use crate::{
    cluster::{ANSWER, Catalog, Cluster, ClusterError, FIELD_MANAGER, Resource, encode, json, request},
    judge::OBJECT_LABEL,
    manifest::{Manifest, STACK_LABEL, stamp_templates},
};

/// What is applied, and for whom.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// The stack.
    pub stack: &'a str,
    /// The deployment object.
    pub object: &'a str,
    /// Its manifests.
    pub manifests: &'a [Manifest],
    /// The namespace of what says none.
    pub namespace: &'a str,
    /// Where hale may be at work; empty for everywhere.
    pub namespaces: &'a [String],
}

/// How applying one manifest went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where, if it is in a namespace.
    pub namespace: Option<String>,
    /// Its path in the API, once that is known.
    pub path: Option<String>,
    /// Its uid, once it is applied.
    pub uid: Option<String>,
    /// Why it could not be applied.
    pub error: Option<String>,
}

/// An object that should not be there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where, if it is in a namespace.
    pub namespace: Option<String>,
    /// Why it could not be deleted.
    pub error: Option<String>,
}

/// What identifies an object.
type Name = (String, String, Option<String>, String);

/// Applies manifests: what others need first.
///
/// # Errors
/// The cluster can't be reached: nothing further was tried.
pub async fn apply(
    cluster: &Cluster,
    catalog: &mut Catalog,
    order: &Order<'_>,
) -> Result<Vec<Applied>, ClusterError> {
    let mut sorted: Vec<&Manifest> = order.manifests.iter().collect();
    // What is of one rank stays as it is written.
    sorted.sort_by_key(|it| it.rank());
    let mut done = Vec::with_capacity(sorted.len());
    for manifest in sorted {
        done.push(one(cluster, catalog, order, manifest).await?);
    }
    Ok(done)
}

async fn one(
    cluster: &Cluster,
    catalog: &mut Catalog,
    order: &Order<'_>,
    manifest: &Manifest,
) -> Result<Applied, ClusterError> {
    let mut applied = found(cluster, catalog, order, manifest).await?;
    let Some(path) = applied.path.clone().filter(|_| applied.error.is_none()) else { return Ok(applied) };
    let sent = manifest.stamped(order.stack, order.object, applied.namespace.as_deref());
    let mut result = cluster.apply(&path, &sent).await;
    if let (Err(ClusterError::Invalid(_)), "Job") = (&result, manifest.kind.as_str()) {
        result = again_with_its_template(cluster, &path, sent, result).await;
    }
    match result {
        Ok(there) => applied.uid = there["metadata"]["uid"].as_str().map(str::to_owned),
        Err(error @ (ClusterError::Unreachable(_) | ClusterError::Timeout(_))) => return Err(error),
        Err(error) => applied.error = Some(error.to_string()),
    }
    Ok(applied)
}

/// Where a manifest is found in the cluster, or why it can't be.
///
/// # Errors
/// The cluster can't be reached.
pub async fn found(
    cluster: &Cluster,
    catalog: &mut Catalog,
    order: &Order<'_>,
    manifest: &Manifest,
) -> Result<Applied, ClusterError> {
    let mut applied = Applied {
        kind: manifest.kind.clone(),
        name: manifest.name.clone(),
        namespace: manifest.namespace.clone(),
        path: None,
        uid: None,
        error: None,
    };
    match catalog.find(cluster, &manifest.api_version, &manifest.kind).await {
        Ok(resource) => {
            applied.namespace = resource
                .namespaced
                .then(|| manifest.namespace.clone().unwrap_or_else(|| order.namespace.to_owned()));
            applied.path = Some(resource.path(applied.namespace.as_deref(), Some(&manifest.name)));
            let outside = applied
                .namespace
                .as_ref()
                .filter(|it| !order.namespaces.is_empty() && !order.namespaces.contains(it));
            if let Some(outside) = outside {
                applied.error = Some(format!("namespace {outside} is none of those the agent is given"));
            }
        }
        Err(error @ (ClusterError::Unreachable(_) | ClusterError::Timeout(_))) => return Err(error),
        Err(error) => applied.error = Some(error.to_string()),
    }
    Ok(applied)
}

/// The pod template of a job can't be changed. The label of an older deployment object stays on it then, and its pods
/// are found through the job.
async fn again_with_its_template(
    cluster: &Cluster,
    path: &str,
    mut sent: Value,
    first: Result<Value, ClusterError>,
) -> Result<Value, ClusterError> {
    let Ok(there) = cluster.get(path).await else { return first };
    let old = there.pointer("/spec/template/metadata/labels").and_then(|it| it[OBJECT_LABEL].as_str());
    match old {
        Some(old) => stamp_templates(&mut sent, old),
        None => {
            if let Some(labels) =
                sent.pointer_mut("/spec/template/metadata/labels").and_then(Value::as_object_mut)
            {
                labels.remove(OBJECT_LABEL);
            }
        }
    }
    // The first refusal says more about what the person changed, if it was that.
    cluster.apply(path, &sent).await.or(first)
}

/// Deletes what was applied for a stack and is not wanted any more: neither named in the manifests nor `applied` just
/// now. With `all`, everything, namespaces and definitions of kinds too, which are otherwise left: far more than was in
/// the manifests would go with them.
///
/// One object may be found under several names: a cluster before 1.22 serves ingresses in two groups. Its uid is one.
///
/// # Errors
/// The cluster can't be reached.
pub async fn prune(
    cluster: &Cluster,
    catalog: &mut Catalog,
    order: &Order<'_>,
    applied: &[Applied],
    all: bool,
) -> Result<Vec<Leaving>, ClusterError> {
    let wanted: BTreeSet<Name> = if all { BTreeSet::new() } else { names(order) };
    let mut seen: BTreeSet<String> = BTreeSet::new();
    if !all {
        seen.extend(applied.iter().filter_map(|it| it.uid.clone()));
    }
    let kinds: Vec<Resource> = catalog.all(cluster).await?;
    let mut there = Vec::new();
    for resource in &kinds {
        let sweeping = matches!(resource.kind.as_str(), "Namespace" | "CustomResourceDefinition");
        if resource.kind == "Event" || (sweeping && !all) {
            continue;
        }
        for object in labelled(cluster, resource, order).await? {
            let name = name_of(resource, &object);
            let first = object["metadata"]["uid"].as_str().is_none_or(|it| seen.insert(it.to_owned()));
            if first && !wanted.contains(&name) && is_ours(&object) {
                there.push((resource, object));
            }
        }
    }
    // What others need goes last.
    there.sort_by_key(|(resource, _)| {
        matches!(resource.kind.as_str(), "Namespace" | "CustomResourceDefinition")
    });
    let mut leaving = Vec::new();
    for (resource, object) in there {
        leaving.push(delete(cluster, resource, &object).await?);
    }
    Ok(leaving)
}

/// Whether a kind is in namespaces is not known here: what is in none is wanted, whatever namespace is said.
fn names(order: &Order<'_>) -> BTreeSet<Name> {
    let name = |it: &Manifest| {
        let namespace = it.namespace.clone().unwrap_or_else(|| order.namespace.to_owned());
        let (group, kind, name) = (it.group().to_owned(), it.kind.clone(), it.name.clone());
        [(group.clone(), kind.clone(), Some(namespace), name.clone()), (group, kind, None, name)]
    };
    order.manifests.iter().flat_map(name).collect()
}

fn name_of(resource: &Resource, object: &Value) -> Name {
    let word = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    let group = resource.api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
    let namespace = resource.namespaced.then(|| word("namespace"));
    (group, resource.kind.clone(), namespace, word("name"))
}

/// All of a kind that bear the stack's label. What may not be listed was not applied by us either.
async fn labelled(
    cluster: &Cluster,
    resource: &Resource,
    order: &Order<'_>,
) -> Result<Vec<Value>, ClusterError> {
    let everywhere = [None];
    let given: Vec<Option<&str>> = order.namespaces.iter().map(|it| Some(it.as_str())).collect();
    let places = if resource.namespaced && !given.is_empty() { given.as_slice() } else { &everywhere };
    let selector = encode(&format!("{STACK_LABEL}={}", order.stack));
    let mut objects = Vec::new();
    for place in places {
        let all = resource.path(*place, None) + &format!("?limit=500&labelSelector={selector}");
        let mut from = String::new();
        loop {
            let path = format!("{all}{from}");
            let mut page = match cluster
                .bytes(request(Method::GET, &path, None, Body::empty())?, ANSWER)
                .await
            {
                Ok(bytes) => json(&bytes, &path)?,
                Err(error @ (ClusterError::Unreachable(_) | ClusterError::Timeout(_))) => return Err(error),
                Err(error) => {
                    tracing::debug!(kind = resource.kind, %error, "not looked through for what is to be pruned");
                    break;
                }
            };
            if let Value::Array(items) = page["items"].take() {
                objects.extend(items);
            }
            match page["metadata"]["continue"].as_str().filter(|it| !it.is_empty()) {
                Some(token) => from = format!("&continue={}", encode(token)),
                None => break,
            }
        }
    }
    Ok(objects)
}

/// Applied by hale itself, and no copy of its labels that a controller made of it (endpoint slices of a service are).
fn is_ours(object: &Value) -> bool {
    let managers = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut managers = managers.map(|it| (it["manager"].as_str(), it["operation"].as_str()));
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    managers.any(|it| it == (Some(FIELD_MANAGER), Some("Apply")))
        && !owners.into_iter().any(|it| it["controller"] == Value::Bool(true))
}

async fn delete(cluster: &Cluster, resource: &Resource, object: &Value) -> Result<Leaving, ClusterError> {
    let (_, kind, namespace, name) = name_of(resource, object);
    let mut leaving = Leaving { kind, name, namespace, error: None };
    let going = object["metadata"]["deletionTimestamp"].is_string();
    if !going {
        let path = resource.path(leaving.namespace.as_deref(), Some(&leaving.name));
        match cluster.delete(&path, object["metadata"]["uid"].as_str()).await {
            // It went by itself, or was made anew and is looked at the next time.
            Ok(()) | Err(ClusterError::NotFound(_) | ClusterError::Conflict(_)) => {}
            Err(error @ (ClusterError::Unreachable(_) | ClusterError::Timeout(_))) => return Err(error),
            Err(error) => leaving.error = Some(error.to_string()),
        }
    }
    Ok(leaving)
}
