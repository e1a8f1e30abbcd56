//! What the cluster holds.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Fault, Log,
    kinds::{self, Served},
};

/// Plural, namespace, name.
pub(super) type Place = (&'static str, String, String);

/// A change, as a watch tells of it.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) object: Value,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) revision: u64,
    pub(super) objects: BTreeMap<Place, Value>,
    pub(super) changes: Vec<Change>,
    /// Changes up to this one are forgotten.
    pub(super) oldest: u64,
    pub(super) faults: BTreeMap<String, Fault>,
    pub(super) logs: BTreeMap<String, Log>,
    pub(super) requests: BTreeMap<String, usize>,
    uids: u64,
}

/// Why an object is not taken: status and message.
pub(super) type Refused = (u16, String);

impl State {
    pub(super) fn new() -> Self {
        let mut state = Self {
            // As if it had run for a while.
            revision: 100,
            objects: BTreeMap::new(),
            changes: Vec::new(),
            oldest: 0,
            faults: BTreeMap::new(),
            logs: BTreeMap::new(),
            requests: BTreeMap::new(),
            uids: 0,
        };
        for name in ["default", "kube-system"] {
            state.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        }
        state
    }

    fn place(served: Served, object: &Value) -> Place {
        let word = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let namespace = if served.3 { word("namespace") } else { String::new() };
        (served.2, namespace, word("name"))
    }

    pub(super) fn put(&mut self, mut object: Value) -> u64 {
        let served = kinds::of(&object).unwrap_or_else(|| panic!("not served: {object}"));
        let place = Self::place(served, &object);
        assert!(!place.2.is_empty(), "no name: {object}");
        self.revision += 1;
        let old = self.objects.get(&place);
        let metadata = object["metadata"].as_object_mut().expect("an object has metadata");
        metadata.insert("resourceVersion".to_owned(), json!(self.revision.to_string()));
        if !metadata.contains_key("uid") {
            self.uids += 1;
            let uid =
                old.map_or_else(|| json!(format!("uid-{}", self.uids)), |it| it["metadata"]["uid"].clone());
            metadata.insert("uid".to_owned(), uid);
        }
        if !metadata.contains_key("creationTimestamp") {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let made = old.map_or_else(|| json!(now), |it| it["metadata"]["creationTimestamp"].clone());
            metadata.insert("creationTimestamp".to_owned(), made);
        }
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.changes.push(Change { revision: self.revision, plural: served.2, kind, object: object.clone() });
        self.objects.insert(place, object);
        self.revision
    }

    pub(super) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let served = kinds::by_kind(kind)?;
        self.objects.get(&(served.2, namespace.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn delete(&mut self, kind: &str, namespace: &str, name: &str) -> u64 {
        let served = kinds::by_kind(kind).expect("a kind that is served");
        self.take_out(&(served.2, namespace.to_owned(), name.to_owned()));
        self.revision
    }

    /// Takes an object out, and after it what it owns.
    pub(super) fn take_out(&mut self, place: &Place) -> bool {
        let Some(mut object) = self.objects.remove(place) else { return false };
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let uid = object["metadata"]["uid"].clone();
        self.changes.push(Change { revision: self.revision, plural: place.0, kind: "DELETED", object });
        let owned = |it: &Value| {
            let owners = it["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            owners.into_iter().any(|it| it["uid"] == uid)
        };
        let below: Vec<Place> =
            self.objects.iter().filter(|(_, it)| owned(it)).map(|(place, _)| place.clone()).collect();
        for place in below {
            self.take_out(&place);
        }
        true
    }

    pub(super) fn compact(&mut self) {
        self.revision += 1;
        self.oldest = self.revision;
        self.changes.clear();
    }

    /// Server-side apply, as far as one manager who owns all he sends needs it.
    pub(super) fn apply(&mut self, served: Served, mut sent: Value, manager: &str) -> Result<Value, Refused> {
        let place = Self::place(served, &sent);
        if served.3 && !self.objects.contains_key(&("namespaces", String::new(), place.1.clone())) {
            return Err((404, format!("namespaces \"{}\" not found", place.1)));
        }
        let old = self.objects.get(&place).cloned();
        let mut merged = old.clone().unwrap_or_else(|| json!({}));
        if let Some(fields) = sent["metadata"].as_object_mut() {
            fields.remove("managedFields");
        }
        merge(&mut merged, &sent);
        if let Some(old) = &old
            && served.1 == "Job"
            && old["spec"]["template"] != merged["spec"]["template"]
        {
            let message = format!("Job.batch \"{}\" is invalid: spec.template: field is immutable", place.2);
            return Err((422, message));
        }
        let changed = old.as_ref().is_none_or(|it| it["spec"] != merged["spec"]);
        if changed {
            let generation = merged["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
            merged["metadata"]["generation"] = json!(generation);
        }
        merged["metadata"]["managedFields"] = json!([{"manager": manager, "operation": "Apply"}]);
        // What changes nothing makes no revision.
        if old.as_ref() != Some(&merged) {
            self.put(merged);
        }
        Ok(self.objects[&place].clone())
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Object(Map::new())), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
