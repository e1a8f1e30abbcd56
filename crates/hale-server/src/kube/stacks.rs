//! Stacks and their deployment objects (K1): made, changed, superseded, taken away with all that hangs on them (K8).

use std::collections::BTreeMap;

use hale_api::{
    Code,
    kube::{DeploymentObject, DeploymentObjectRequest, Stack, StackPatch, StackRequest},
};
use hale_model::{
    cluster::{DeploymentObjectRecord, ObjectHealthRecord, StackRecord},
    file::is_label,
};
use hale_store::cluster::{Change, Guard, Key, Kind, Record, Write};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    Kube, forget_object, manifests, new_id, queue,
    status::{About, unheard},
    unchanged, view,
};
use crate::{
    asker::Asker,
    cluster::snapshot::{Kept, KubeRecords},
    problems::{Answer, Refusal},
};

/// The most stacks.
const MOST_STACKS: usize = 10_000;

/// Deployment objects that are kept of a stack: the current one and those before it.
const KEPT: usize = 10;

/// The most labels of a thing, and the longest key or value.
const MOST_LABELS: usize = 64;
const LONGEST_LABEL: usize = 253;

/// Why a request for diagnostics of an object fails that was superseded.
const SUPERSEDED: &str = "superseded: its stack has a newer deployment object";

pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Answer<()> {
    let wrong = |text: &String| text.len() > LONGEST_LABEL || text.chars().any(char::is_control);
    if labels.len() > MOST_LABELS
        || labels.iter().any(|(key, value)| key.is_empty() || wrong(key) || wrong(value))
    {
        let detail = format!(
            "labels are at most {MOST_LABELS}, of at most {LONGEST_LABEL} bytes, with keys not empty"
        );
        return Err(Refusal::new(Code::BadRequest, detail));
    }
    Ok(())
}

/// The stack of an id or name.
pub(crate) fn find<'a>(kube: &'a KubeRecords, stack: &str) -> Answer<&'a Kept<StackRecord>> {
    kube.stack(stack).ok_or_else(|| Refusal::not_found("stack", stack))
}

/// The deployment object of an id, and its stack.
pub(crate) fn find_object<'a>(
    kube: &'a KubeRecords,
    object: &str,
) -> Answer<(&'a Kept<DeploymentObjectRecord>, &'a Kept<StackRecord>)> {
    let found = kube.objects.get(object).and_then(|it| Some((it, kube.stack(&it.stack_id)?)));
    found.ok_or_else(|| Refusal::not_found("deployment object", object))
}

impl Kube {
    /// All stacks, by name.
    pub(crate) fn stacks(&self) -> Vec<Stack> {
        let snapshot = self.snapshot();
        snapshot.kube.stacks.values().map(|it| view::stack(&snapshot.kube, it)).collect()
    }

    /// Makes a stack, or finds the one that is just so; whether it was made.
    ///
    /// # Errors
    /// When something in it is wrong, one of its name is otherwise, or the database takes nothing.
    pub(crate) async fn create_stack(&self, request: &StackRequest, asker: &Asker) -> Answer<(Stack, bool)> {
        if !is_label(&request.name) {
            let detail = "the name of a stack is a DNS label: a-z, 0-9 and -, at most 63";
            return Err(Refusal::new(Code::BadRequest, detail));
        }
        check_labels(&request.labels)?;
        let (id, now) = (new_id()?, Timestamp::now());
        let (snapshot, made) = self
            .attempt(|kube| {
                if let Some(old) = kube.stacks.get(request.name.as_str()) {
                    if old.labels == request.labels {
                        return Ok((Write::default(), false));
                    }
                    let detail = format!(
                        "there is a stack {:?} with other labels; `hale stack label` changes them",
                        request.name
                    );
                    return Err(Refusal::new(Code::Conflict, detail));
                }
                if kube.stacks.len() >= MOST_STACKS {
                    let detail = format!("there are {MOST_STACKS} stacks already: no more are taken");
                    return Err(Refusal::new(Code::NotApplicable, detail));
                }
                let record = StackRecord {
                    id: id.clone(),
                    name: request.name.clone(),
                    labels: request.labels.clone(),
                    created_at: now,
                    created_by: asker.name().to_owned(),
                    last_sequence: 0,
                    objects: Vec::new(),
                };
                let audit =
                    asker.audit(asker.name(), "stack.create", format!("stacks/{}", record.name), Vec::new());
                let guards = vec![Guard::Absent(Key::new(Kind::Stack, &record.name))];
                let changes = vec![Change::Put(Record::Stack(record)), Change::Audit(Box::new(audit))];
                Ok((Write { changes, guards }, true))
            })
            .await?;
        Ok((view::stack(&snapshot.kube, find(&snapshot.kube, &request.name)?), made))
    }

    /// Gives a stack other labels.
    ///
    /// # Errors
    /// When there is none, something in it is wrong, or the database takes nothing.
    pub(crate) async fn change_stack(&self, stack: &str, patch: &StackPatch, asker: &Asker) -> Answer<Stack> {
        check_labels(&patch.labels)?;
        let (snapshot, name) = self
            .attempt(|kube| {
                let old = find(kube, stack)?;
                let record = StackRecord { labels: patch.labels.clone(), ..(*old.record).clone() };
                let detail = serde_json::to_string(&patch.labels).unwrap_or_default();
                let audit =
                    asker.audit(asker.name(), "stack.change", format!("stacks/{}", old.name), vec![detail]);
                let guards = vec![unchanged(old, Key::new(Kind::Stack, &old.name))];
                let changes = vec![Change::Put(Record::Stack(record)), Change::Audit(Box::new(audit))];
                Ok((Write { changes, guards }, old.name.clone()))
            })
            .await?;
        Ok(view::stack(&snapshot.kube, find(&snapshot.kube, &name)?))
    }

    /// Takes a stack away, with its deployment objects, what was told of them and asked about them.
    ///
    /// # Errors
    /// When there is none, or the database takes nothing.
    pub(crate) async fn delete_stack(&self, stack: &str, asker: &Asker) -> Answer<()> {
        let deleted = self.attempt(|kube| {
            let old = find(kube, stack)?;
            let key = Key::new(Kind::Stack, &old.name);
            let mut changes = vec![Change::Delete(key.clone())];
            for id in &old.objects {
                changes.push(Change::Delete(Key::new(Kind::DeploymentObject, id)));
                forget_object(kube, id, &mut changes);
            }
            let audit = asker.audit(asker.name(), "stack.delete", format!("stacks/{}", old.name), Vec::new());
            changes.push(Change::Audit(Box::new(audit)));
            Ok((Write { changes, guards: vec![unchanged(old, key)] }, ()))
        });
        deleted.await.map(drop)
    }

    /// The deployment objects of a stack that are kept, newest first.
    ///
    /// # Errors
    /// When there is no such stack.
    pub(crate) fn objects_of(&self, stack: &str) -> Answer<Vec<DeploymentObject>> {
        let snapshot = self.snapshot();
        let stack = find(&snapshot.kube, stack)?;
        let objects = stack.objects.iter().rev().filter_map(|id| snapshot.kube.objects.get(id.as_str()));
        Ok(objects.map(|it| view::object(it, stack, None)).collect())
    }

    /// A deployment object with its manifests.
    ///
    /// # Errors
    /// When there is none, or the database can't be read.
    pub(crate) async fn object(&self, id: &str) -> Answer<DeploymentObject> {
        let snapshot = self.snapshot();
        let (object, stack) = find_object(&snapshot.kube, id)?;
        let mut texts = self.store.texts(Kind::DeploymentObject, std::slice::from_ref(&object.id)).await?;
        Ok(view::object(object, stack, texts.remove(&object.id)))
    }

    /// Gives a stack new manifests; the same as the current ones are found rather than made. Whether they were made.
    ///
    /// # Errors
    /// When there is no such stack, the manifests are none, or the database takes nothing.
    pub(crate) async fn create_object(
        &self,
        stack: &str,
        request: &DeploymentObjectRequest,
        asker: &Asker,
    ) -> Answer<(DeploymentObject, bool)> {
        find(&self.snapshot().kube, stack)?;
        if !(request.deletion_marker && request.yaml.trim().is_empty()) {
            manifests::check(&request.yaml).map_err(|errors| {
                let count = errors.len();
                let detail =
                    format!("{count} mistake{} found in the manifests", if count == 1 { "" } else { "s" });
                let mut refusal = Refusal::new(Code::InvalidDocument, detail);
                refusal.problem.errors = errors;
                refusal
            })?;
        }
        let checksum: String =
            Sha256::digest(request.yaml.as_bytes()).iter().map(|it| format!("{it:02x}")).collect();
        let made = Made { id: new_id()?, checksum, now: Timestamp::now(), request, asker };
        let (snapshot, (id, is_new)) = self.attempt(|kube| made.decide(kube, find(kube, stack)?)).await?;
        let (object, stack) = find_object(&snapshot.kube, &id)?;
        Ok((view::object(object, stack, Some(request.yaml.clone())), is_new))
    }

    /// Takes a deployment object away; the one before it is current then.
    ///
    /// # Errors
    /// When there is none, or the database takes nothing.
    pub(crate) async fn delete_object(&self, id: &str, asker: &Asker) -> Answer<()> {
        let deleted = self.attempt(|kube| {
            let (object, stack) = find_object(kube, id)?;
            let mut record = (*stack.record).clone();
            record.objects.retain(|it| *it != object.id);
            let guards = vec![unchanged(stack, Key::new(Kind::Stack, &stack.name))];
            let mut changes = vec![
                Change::Put(Record::Stack(record)),
                Change::Delete(Key::new(Kind::DeploymentObject, &object.id)),
            ];
            forget_object(kube, &object.id, &mut changes);
            let subject = format!("stacks/{}/deployment-objects/{}", stack.name, object.id);
            let audit = asker.audit(asker.name(), "deployment.delete", subject, Vec::new());
            changes.push(Change::Audit(Box::new(audit)));
            Ok((Write { changes, guards }, ()))
        });
        deleted.await.map(drop)
    }
}

/// A deployment object that is to be made.
struct Made<'a> {
    id: String,
    checksum: String,
    now: Timestamp,
    request: &'a DeploymentObjectRequest,
    asker: &'a Asker,
}

impl Made<'_> {
    fn decide(&self, kube: &KubeRecords, stack: &Kept<StackRecord>) -> Answer<(Write, (String, bool))> {
        let current = stack.current().and_then(|id| kube.objects.get(id));
        let same = current
            .filter(|it| it.checksum == self.checksum && it.deletion_marker == self.request.deletion_marker);
        if let Some(same) = same {
            return Ok((Write::default(), (same.id.clone(), false)));
        }
        let mut next = (*stack.record).clone();
        next.last_sequence += 1;
        next.objects.push(self.id.clone());
        let object = DeploymentObjectRecord {
            id: self.id.clone(),
            stack_id: stack.id.clone(),
            sequence: next.last_sequence,
            checksum: self.checksum.clone(),
            size: self.request.yaml.len() as u64,
            deletion_marker: self.request.deletion_marker,
            created_at: self.now,
            created_by: self.asker.name().to_owned(),
        };
        let mut changes = Vec::new();
        let mut guards = vec![unchanged(stack, Key::new(Kind::Stack, &stack.name))];
        if let Some(old) = current {
            self.supersede(kube, stack, (&**old, &object), &mut changes, &mut guards);
        }
        let over = next.objects.len().saturating_sub(KEPT);
        for gone in next.objects.drain(..over) {
            changes.push(Change::Delete(Key::new(Kind::DeploymentObject, &gone)));
            forget_object(kube, &gone, &mut changes);
        }
        let key = Key::new(Kind::DeploymentObject, &object.id);
        changes.push(Change::Text(key, self.request.yaml.clone()));
        let mut detail = vec![format!("checksum {}", &object.checksum[..12])];
        detail.extend(object.deletion_marker.then(|| "deletion marker".to_owned()));
        let subject = format!("stacks/{}/deployment-objects/{}", stack.name, object.id);
        let audit = self.asker.audit(self.asker.name(), "deployment.create", subject, detail);
        changes.push(Change::Put(Record::Stack(next)));
        changes.push(Change::Put(Record::DeploymentObject(object)));
        changes.push(Change::Audit(Box::new(audit)));
        Ok((Write { changes, guards }, (self.id.clone(), true)))
    }

    /// What was told of the object before is forgotten (K8), but for the spell of trouble that was told in an event: its
    /// end is told with the new one. Who still waits for diagnostics of it waits no more.
    fn supersede(
        &self,
        kube: &KubeRecords,
        stack: &StackRecord,
        (old, new): (&DeploymentObjectRecord, &DeploymentObjectRecord),
        changes: &mut Vec<Change>,
        guards: &mut Vec<Guard>,
    ) {
        for health in kube.health_of(&old.id) {
            changes.push(Change::Delete(Record::ObjectHealth(Box::new((*health.record).clone())).key()));
            let Some(agent) = kube.agent(&health.agent_id).filter(|_| health.told.is_some()) else {
                continue;
            };
            let about = About { agent, stack, object: new };
            let carried = ObjectHealthRecord { told: health.told, ..unheard(about, self.now) };
            changes.push(Change::Put(Record::ObjectHealth(Box::new(carried))));
        }
        let waiting = kube.diagnostics.values().filter(|it| it.object_id.as_deref() == Some(&old.id));
        for kept in waiting {
            let Some(failed) = queue::fail(kept, SUPERSEDED, self.now) else { continue };
            guards.push(unchanged(kept, Key::new(Kind::Diagnostics, &kept.id)));
            changes.push(Change::Put(Record::Diagnostics(Box::new(failed))));
        }
    }
}
