//! What people want: declaring, scaling, stopping, pausing, and the scheduling of nodes (C4, C10).
//!
//! Every change is read from the newest snapshot, checked together with everything there is, and written guarded by
//! the revisions it was read at: of two people who change the same at once, the second one's change is made again on
//! top of the first's. It is durable when it returns, with its audit record and event in the same commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hale_model::{
    cluster::{NodeRecord, Owner, Scheduling, SessionState, TargetRecord, WorkloadRecord},
    document::{self, Document},
    event::{EventData, NewEvent, WorkloadApplied},
    file::FileError,
};
use hale_store::cluster::{Change, Guard, Key, Kind, Record, Write, WriteError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use super::person::Person;
use super::{Cluster, following, snapshot::Snapshot};

/// How often a change is made anew because others changed the same meanwhile.
const TRIES: u32 = 10;

/// How long to wait for the feed to bring what others wrote, or what was written here.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// `Workload` or `Target`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What that changed.
    pub change: AppliedChange,
}

/// What applying a document changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppliedChange {
    /// There was none of its name.
    Created,
    /// It was another.
    Updated,
    /// It was the same already.
    Unchanged,
    /// It is no longer declared (`hale up` without it in its files).
    Deleted,
}

impl AppliedChange {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// Why something wanted was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// The declarations are wrong, by themselves or together with what is there.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<FileError>),
    /// There is no such thing.
    #[error("there is no {kind} {name:?}")]
    NotFound {
        /// `workload`, `target`, `node`.
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// It makes no sense now; the text says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// The database takes nothing now.
    #[error("{0}")]
    Unavailable(String),
}

/// The guard of a record that is about to be changed.
pub(crate) fn guard(snapshot: &Snapshot, kind: Kind, name: &str) -> Guard {
    let key = Key::new(kind, name);
    match snapshot.revision_of(&key) {
        Some(revision) => Guard::Unchanged { key, revision },
        None => Guard::Absent(key),
    }
}

impl Cluster {
    /// Makes a write from the newest snapshot and commits it; makes it anew when others were first. With nothing to
    /// change nothing is written. When this returns, the snapshot has what was written.
    ///
    /// # Errors
    /// Those of `make`; [`DesiredError::Unavailable`] when the database takes nothing or others always come first.
    pub(crate) async fn commit<T>(
        &self,
        mut make: impl FnMut(&Snapshot) -> Result<(Write, T), DesiredError>,
    ) -> Result<T, DesiredError> {
        let mut snapshot = self.shared.feed.at_least(self.shared.store.revision(), CATCH_UP).await;
        for _ in 0..TRIES {
            let (write, made) = make(&snapshot)?;
            if write.changes.is_empty() {
                return Ok(made);
            }
            match self.shared.store.write(write).await {
                Ok(committed) => {
                    self.shared.feed.at_least(committed.revision, CATCH_UP).await;
                    return Ok(made);
                }
                Err(WriteError::Conflict { what }) => {
                    tracing::debug!(what, "a change is made anew");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    snapshot = self.shared.feed.at_least(self.shared.store.revision(), CATCH_UP).await;
                }
                Err(error) => return Err(DesiredError::Unavailable(error.to_string())),
            }
        }
        Err(DesiredError::Unavailable("others change the same at the same time; try again".to_owned()))
    }

    /// Declares documents, all or none of them. They are checked together with everything there is; one that is as it
    /// was is not touched. With `owner` [`Owner::Up`] what `hale up` had declared and is not among them goes (N19).
    /// With `dry_run` nothing is written.
    ///
    /// # Errors
    /// See [`DesiredError`].
    pub async fn apply(
        &self,
        documents: &[Document],
        owner: Owner,
        by: &Person,
        dry_run: bool,
    ) -> Result<Vec<Applied>, DesiredError> {
        self.commit(|snapshot| {
            let (write, applied) = plan(snapshot, documents, owner, by)?;
            Ok((if dry_run { Write::default() } else { write }, applied))
        })
        .await
    }

    /// Deletes a workload or target (`kind` in any case, singular or plural). What runs of it is drained and stopped.
    ///
    /// # Errors
    /// See [`DesiredError`]; refused while others depend on it.
    pub async fn delete(&self, kind: &str, name: &str, by: &Person) -> Result<(), DesiredError> {
        let kind = match kind.to_ascii_lowercase().trim_end_matches('s') {
            "workload" => Kind::Workload,
            "target" => Kind::Target,
            _ => {
                return Err(DesiredError::Refused(format!(
                    "{kind:?} can't be deleted: workload and target can"
                )));
            }
        };
        self.commit(|snapshot| {
            let mut write = Write::default();
            remove(snapshot, kind, name, &mut write)?;
            let gone = BTreeSet::from([(kind, name)]);
            together(snapshot, &[], &gone)?;
            let plural = if kind == Kind::Workload { "workloads" } else { "targets" };
            by.audit(&mut write, "delete", format!("{plural}/{name}"), String::new());
            Ok((write, ()))
        })
        .await
    }

    /// Opens, cordons or drains a node.
    ///
    /// # Errors
    /// See [`DesiredError`].
    pub async fn schedule(
        &self,
        node: &str,
        scheduling: Scheduling,
        by: &Person,
    ) -> Result<(), DesiredError> {
        self.commit(|snapshot| {
            let record = node_of(snapshot, node)?;
            let mut write = Write::default();
            if record.scheduling != scheduling {
                let scheduling_by = Some(by.intent());
                let record = NodeRecord { scheduling, scheduling_by, ..record.clone() };
                write.guards.push(guard(snapshot, Kind::Node, node));
                write.changes.push(Change::Put(Record::Node(Box::new(record))));
                let action = match scheduling {
                    Scheduling::Open => "uncordon",
                    Scheduling::Cordoned => "cordon",
                    Scheduling::Draining => "drain",
                };
                by.audit(&mut write, action, format!("nodes/{node}"), String::new());
            }
            Ok((write, ()))
        })
        .await
    }

    /// Forgets a node that will not come back, with what was placed on it: that is placed anew at once.
    ///
    /// # Errors
    /// See [`DesiredError`]; refused while its agent is connected.
    pub async fn delete_node(&self, node: &str, by: &Person) -> Result<(), DesiredError> {
        self.commit(|snapshot| {
            node_of(snapshot, node)?;
            if let Some(session) = snapshot.sessions.get(node)
                && session.state == SessionState::Connected
            {
                return Err(DesiredError::Refused(format!(
                    "the agent of {node} is connected: drain the node, stop its agent, then delete it"
                )));
            }
            let mut write = Write::default();
            for kind in [Kind::Node, Kind::Session] {
                write.guards.push(guard(snapshot, kind, node));
                write.changes.push(Change::Delete(Key::new(kind, node)));
            }
            for it in snapshot.placed_on(node) {
                let name = it.generation.to_string();
                write.changes.push(Change::Delete(Key::new(Kind::Placement, name.clone())));
                write.changes.push(Change::Delete(Key::new(Kind::Observed, name)));
            }
            by.audit(&mut write, "delete", format!("nodes/{node}"), String::new());
            Ok((write, ()))
        })
        .await
    }

    /// Changes the record of a workload. `action` is what goes on record as done; `None`: it is on record already.
    pub(crate) async fn edit_workload(
        &self,
        name: &str,
        action: Option<&str>,
        by: &Person,
        mut edit: impl FnMut(&mut WorkloadRecord) -> Result<(), DesiredError>,
    ) -> Result<(), DesiredError> {
        self.commit(|snapshot| {
            let old = snapshot
                .workloads
                .get(name)
                .ok_or_else(|| DesiredError::NotFound { kind: "workload", name: name.to_owned() })?;
            let mut record = (*old.record).clone();
            edit(&mut record)?;
            let mut write = Write::default();
            if record != *old.record {
                write.guards.push(guard(snapshot, Kind::Workload, name));
                write.changes.push(Change::Put(Record::Workload(Box::new(record))));
                if let Some(action) = action {
                    by.audit(&mut write, action, format!("workloads/{name}"), String::new());
                }
            }
            Ok((write, ()))
        })
        .await
    }

    /// Changes the record of a target.
    pub(crate) async fn edit_target(
        &self,
        name: &str,
        action: &str,
        by: &Person,
        mut edit: impl FnMut(&mut TargetRecord),
    ) -> Result<(), DesiredError> {
        self.commit(|snapshot| {
            let old = snapshot
                .targets
                .get(name)
                .ok_or_else(|| DesiredError::NotFound { kind: "target", name: name.to_owned() })?;
            let mut record = (*old.record).clone();
            edit(&mut record);
            let mut write = Write::default();
            if record != *old.record {
                write.guards.push(guard(snapshot, Kind::Target, name));
                write.changes.push(Change::Put(Record::Target(Box::new(record))));
                by.audit(&mut write, action, format!("targets/{name}"), String::new());
            }
            Ok((write, ()))
        })
        .await
    }
}

fn node_of<'a>(snapshot: &'a Snapshot, node: &str) -> Result<&'a NodeRecord, DesiredError> {
    let found = snapshot.nodes.get(node).map(|it| &*it.record);
    found.ok_or_else(|| DesiredError::NotFound { kind: "node", name: node.to_owned() })
}

/// The write that declares documents.
fn plan(
    snapshot: &Snapshot,
    documents: &[Document],
    owner: Owner,
    by: &Person,
) -> Result<(Write, Vec<Applied>), DesiredError> {
    let named: BTreeSet<(Kind, &str)> = documents.iter().map(|it| (kind(it), it.name.as_str())).collect();
    let mut gone: BTreeSet<(Kind, &str)> = BTreeSet::new();
    if owner == Owner::Up {
        let workloads = snapshot.workloads.values().filter(|it| it.owner == Owner::Up);
        gone.extend(workloads.map(|it| (Kind::Workload, it.name.as_str())));
        let targets = snapshot.targets.values().filter(|it| it.owner == Owner::Up);
        gone.extend(targets.map(|it| (Kind::Target, it.name.as_str())));
        gone.retain(|it| !named.contains(it));
    }
    together(snapshot, documents, &gone)?;
    let (mut write, mut applied) = (Write::default(), Vec::new());
    for document in documents {
        let (document, found) = following::with_number(snapshot, document)?;
        let change = put(snapshot, &document, (owner, found), by, &mut write);
        applied.push(Applied { kind: document.kind.clone(), name: document.name.clone(), change });
    }
    for (kind, name) in gone {
        remove(snapshot, kind, name, &mut write)?;
        let word = if kind == Kind::Workload { "Workload" } else { "Target" };
        let (kind, name) = (word.to_owned(), name.to_owned());
        applied.push(Applied { kind, name, change: AppliedChange::Deleted });
    }
    Ok((write, applied))
}

fn kind(document: &Document) -> Kind {
    if document.kind == "Target" { Kind::Target } else { Kind::Workload }
}

/// Checks documents with everything that stays.
pub(super) fn together(
    snapshot: &Snapshot,
    documents: &[Document],
    gone: &BTreeSet<(Kind, &str)>,
) -> Result<(), DesiredError> {
    let mut all: BTreeMap<(Kind, &str), &Document> = BTreeMap::new();
    for it in snapshot.workloads.values() {
        all.insert((Kind::Workload, &it.name), &it.document);
    }
    for it in snapshot.targets.values() {
        all.insert((Kind::Target, &it.name), &it.document);
    }
    all.retain(|key, _| !gone.contains(key));
    all.extend(documents.iter().map(|it| ((kind(it), it.name.as_str()), it)));
    document::together(all.into_values()).map(drop).map_err(DesiredError::Invalid)
}

/// Adds what declaring one document changes.
/// `found`: as many replicas as there are containers to adopt.
pub(super) fn put(
    snapshot: &Snapshot,
    document: &Document,
    (owner, found): (Owner, bool),
    by: &Person,
    write: &mut Write,
) -> AppliedChange {
    let (now, name) = (Timestamp::now(), document.name.as_str());
    let kind = kind(document);
    let (old, record) = match kind {
        Kind::Target => {
            let old = snapshot.targets.get(name).map(|it| &*it.record);
            let record = TargetRecord {
                name: name.to_owned(),
                document: document.clone(),
                owner,
                node: old.and_then(|it| it.node.clone()),
                pauses: old.map(|it| it.pauses.clone()).unwrap_or_default(),
                applied_at: now,
                applied_by: by.by.clone(),
            };
            (old.map(|it| (&it.document.digest, it.owner == owner)), Record::Target(Box::new(record)))
        }
        _ => {
            let old = snapshot.workloads.get(name).map(|it| &*it.record);
            let record = WorkloadRecord { adopts_all: found, ..workload(old, document, owner, by, now) };
            let same = |it: &WorkloadRecord| it.owner == owner && it.adopts_all == found;
            (old.map(|it| (&it.document.digest, same(it))), Record::Workload(Box::new(record)))
        }
    };
    let change = match old {
        Some((digest, true)) if *digest == document.digest => {
            return AppliedChange::Unchanged;
        }
        Some((digest, _)) if *digest == document.digest => AppliedChange::Unchanged,
        Some(_) => AppliedChange::Updated,
        None => AppliedChange::Created,
    };
    write.guards.push(guard(snapshot, kind, name));
    write.changes.push(Change::Put(record));
    if change != AppliedChange::Unchanged {
        if kind == Kind::Workload {
            let replicas = document.workload().map_or(0, |it| it.replicas);
            write.changes.push(applied_event(name, change, replicas));
        }
        let plural = if kind == Kind::Workload { "workloads" } else { "targets" };
        by.audit(
            write,
            "apply",
            format!("{plural}/{name}"),
            format!("{} {}", change.as_str(), document.digest),
        );
    }
    change
}

fn workload(
    old: Option<&WorkloadRecord>,
    document: &Document,
    owner: Owner,
    by: &Person,
    now: Timestamp,
) -> WorkloadRecord {
    let same = old.filter(|it| it.document.digest == document.digest);
    let previous = match (same, old) {
        (Some(same), _) => same.previous.clone(),
        // What never came up is nothing to go back to: the one before it stays that.
        (None, Some(old)) => old.previous.clone().or_else(|| Some(old.document.clone())),
        (None, None) => None,
    };
    WorkloadRecord {
        name: document.name.clone(),
        document: document.clone(),
        owner,
        previous,
        rolled_back: same.and_then(|it| it.rolled_back.clone()),
        stopped: old.and_then(|it| it.stopped.clone()),
        stopped_replicas: old.map(|it| it.stopped_replicas.clone()).unwrap_or_default(),
        pauses: old.map(|it| it.pauses.clone()).unwrap_or_default(),
        applied_at: now,
        applied_by: by.by.clone(),
        adopts_all: false,
    }
}

/// Adds what taking one away changes.
pub(super) fn remove(
    snapshot: &Snapshot,
    kind: Kind,
    name: &str,
    write: &mut Write,
) -> Result<(), DesiredError> {
    if snapshot.revision_of(&Key::new(kind, name)).is_none() {
        let kind = if kind == Kind::Workload { "workload" } else { "target" };
        return Err(DesiredError::NotFound { kind, name: name.to_owned() });
    }
    write.guards.push(guard(snapshot, kind, name));
    write.changes.push(Change::Delete(Key::new(kind, name)));
    if kind == Kind::Workload {
        write.changes.push(applied_event(name, AppliedChange::Deleted, 0));
    }
    Ok(())
}

fn applied_event(name: &str, change: AppliedChange, replicas: u32) -> Change {
    Change::Event(Box::new(NewEvent {
        time: Timestamp::now(),
        source: "/server".to_owned(),
        subject: name.to_owned(),
        data: EventData::WorkloadApplied(WorkloadApplied { change: change.as_str().to_owned(), replicas }),
    }))
}
