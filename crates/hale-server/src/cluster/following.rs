//! How many replicas: as a person says, or as many as there are containers to adopt (N5).
//!
//! A declaration that adopts containers and gives no number is kept with the number that was found last in it, so that all
//! who read it have one. Whoever can count (a node with an engine, in `hale up`) says how many there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use hale_model::{
    cluster::WorkloadRecord,
    document::{self, Document},
    spec::ContainerFrom,
};
use hale_store::cluster::Write;

use super::{
    Cluster,
    desired::{Applied, DesiredError, Person, put, together},
    scaling::with_replicas,
    snapshot::Snapshot,
};

/// The most containers that one workload adopts without a number.
pub const MOST_ADOPTED: u32 = 100;

/// A label: name, and value where one is asked for.
pub type Label = (String, Option<String>);

impl Cluster {
    /// Changes how many replicas a workload has: its declaration, with another number in it. One that went by what is
    /// found goes by this number from now on, until it is declared anew.
    ///
    /// # Errors
    /// See [`DesiredError`].
    pub async fn scale(&self, name: &str, replicas: u32, by: &Person) -> Result<Applied, DesiredError> {
        self.commit(|snapshot| renumbered(snapshot, record(snapshot, name)?, (replicas, false), by)).await
    }

    /// The workloads that have as many replicas as there are containers with a label: by name, with that and how many
    /// they have now.
    #[must_use]
    pub fn following(&self) -> BTreeMap<String, (Label, u32)> {
        let snapshot = self.snapshot();
        let all = snapshot.workloads.values().filter(|it| it.adopts_all);
        let label = |it: &WorkloadRecord| {
            let spec = snapshot.specs.get(it.name.as_str())?;
            match &spec.run.as_container()?.from {
                ContainerFrom::Adopted { label } => Some((label.clone(), spec.replicas)),
                ContainerFrom::Image { .. } => None,
            }
        };
        all.filter_map(|it| Some((it.name.clone(), label(it)?))).collect()
    }

    /// So many containers were found for a workload, of which it takes [`MOST_ADOPTED`] at most. Changes nothing where a
    /// person has given a number meanwhile.
    ///
    /// # Errors
    /// See [`DesiredError`].
    pub async fn found(&self, name: &str, count: u32, by: &Person) -> Result<(), DesiredError> {
        let count = count.min(MOST_ADOPTED);
        self.commit(|snapshot| {
            let record = record(snapshot, name)?;
            let known = snapshot.specs.get(name).map(|it| it.replicas);
            if !record.adopts_all || known == Some(count) {
                return Ok((Write::default(), ()));
            }
            renumbered(snapshot, record, (count, true), by).map(|(write, _)| (write, ()))
        })
        .await
    }
}

fn record<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a WorkloadRecord, DesiredError> {
    let found = snapshot.workloads.get(name).map(|it| &*it.record);
    found.ok_or_else(|| DesiredError::NotFound { kind: "workload", name: name.to_owned() })
}

fn renumbered(
    snapshot: &Snapshot,
    record: &WorkloadRecord,
    (replicas, found): (u32, bool),
    by: &Person,
) -> Result<(Write, Applied), DesiredError> {
    let document = with(&record.document, replicas)?;
    together(snapshot, std::slice::from_ref(&document), &BTreeSet::new())?;
    let mut write = Write::default();
    // Whose it is it stays: what `hale up` declared goes when its files no longer have it (N19).
    let change = put(snapshot, &document, (record.owner, found), by, &mut write);
    let (kind, name) = (document.kind, document.name);
    Ok((write, Applied { kind, name, change }))
}

/// A declaration with another number in it.
fn with(old: &Document, replicas: u32) -> Result<Document, DesiredError> {
    let name = &old.name;
    let refused = || DesiredError::Refused(format!("the declaration of {name} can't be changed"));
    let text = with_replicas(&old.json, replicas).ok_or_else(refused)?;
    let documents = document::read_str(&format!("workload {name}"), Path::new(&old.dir), &text)
        .map_err(DesiredError::Invalid)?;
    documents.into_iter().next().ok_or_else(refused)
}

/// A declaration as it is kept: with the number that was found last where it gives none; and whether it is so.
pub(super) fn with_number(
    snapshot: &Snapshot,
    document: &Document,
) -> Result<(Document, bool), DesiredError> {
    if !adopts_all(document) {
        return Ok((document.clone(), false));
    }
    let name = document.name.as_str();
    let found = snapshot.workloads.get(name).is_some_and(|it| it.adopts_all);
    let known = snapshot.specs.get(name).filter(|_| found).map(|it| it.replicas);
    // Nobody has counted yet: the first looks for one.
    Ok((with(document, known.unwrap_or(1))?, true))
}

/// Whether it adopts containers and gives no number.
fn adopts_all(document: &Document) -> bool {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&document.json) else { return false };
    value.get("replicas").is_none_or(serde_json::Value::is_null) && value["container"]["adopt"].is_object()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        document::read_str("app.yaml", Path::new("/"), text).unwrap().remove(0)
    }

    #[test]
    fn only_what_adopts_and_gives_no_number_goes_by_what_is_found() {
        let all = document("kind: Workload\nname: heal\ncontainer: {adopt: {label: heal}}\n");
        assert!(adopts_all(&all));
        let three = with(&all, 3).unwrap();
        assert!(!adopts_all(&three));
        assert_eq!(three.workload().unwrap().replicas, 3);
        assert_eq!(with(&three, 0).unwrap().workload().unwrap().replicas, 0);
        let process = document("kind: Workload\nname: web\nprocess: {command: [sleep, \"9\"]}\n");
        assert!(!adopts_all(&process));
    }
}
