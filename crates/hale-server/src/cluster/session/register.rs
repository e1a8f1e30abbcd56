//! Letting agents in (N8, S3).
//!
//! Registrations are written together: all that wait go into one commit, so that after a restart of a server its
//! thousands of nodes are back within seconds. A session begins when its record is durable, and not before: two
//! servers can't have the same node, because only one of them gets its record in.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use hale_api::proto;
use hale_model::cluster::{
    ClusterRecord, NodeCondition, NodeFacts, NodeRecord, Scheduling, SessionRecord, SessionState,
};
use hale_store::cluster::{Change, Guard, Key, Kind, Record, Write, WriteError};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::cluster::{Shared, snapshot::Snapshot};

/// The most registrations in one commit.
const TOGETHER: usize = 256;

/// Registrations that wait; an agent beyond that is told to come again.
pub(crate) const WAITING: usize = 16_384;

/// How often a registration is tried when others write at the same time.
const TRIES: u32 = 8;

/// How long a registration waits for the feed to bring what it was in conflict with.
const CATCH_UP: Duration = Duration::from_secs(2);

/// The most labels of a node, and the longest text of any of its facts.
const MOST: (usize, usize) = (256, 1024);

/// An agent that wants in.
pub(crate) struct Wanting {
    pub(crate) register: proto::Register,
    pub(crate) answer: oneshot::Sender<Result<Granted, Status>>,
}

/// What it is granted.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(crate) record: SessionRecord,
    pub(crate) revision: u64,
    pub(crate) cluster: String,
    pub(crate) epoch: u64,
    /// Whether the database was restored since the node last had a session: by the server's own record, whatever an
    /// agent says (S5).
    pub(crate) restored: bool,
}

/// Writes registrations until nobody can ask any more.
pub(crate) async fn run(shared: Arc<Shared>, mut wanting: mpsc::Receiver<Wanting>) {
    let mut batch = Vec::new();
    loop {
        let gathered = tokio::select! {
            gathered = wanting.recv_many(&mut batch, TOGETHER) => gathered,
            () = shared.end.cancelled() => return,
        };
        if gathered == 0 {
            return;
        }
        let mut waiting = std::mem::take(&mut batch);
        for left in (0..TRIES).rev() {
            waiting = grant(&shared, waiting).await;
            if waiting.is_empty() {
                break;
            }
            if left == 0 {
                let busy = || Status::unavailable("others write at the same time; come again");
                waiting.drain(..).for_each(|it| drop(it.answer.send(Err(busy()))));
            }
        }
    }
}

/// Grants what can be granted in one commit; those that are to be tried again come back.
async fn grant(shared: &Shared, waiting: Vec<Wanting>) -> Vec<Wanting> {
    // Whoever held a session may have fallen silent a moment ago: asked of the database, not remembered.
    let alive = match shared.store.leases().await {
        Ok(leases) => leases.into_iter().map(|it| it.name).collect::<HashSet<_>>(),
        Err(error) => return refuse(waiting, &error.to_string()),
    };
    let snapshot = shared.feed.current();
    let Some(cluster) = &snapshot.cluster else { return refuse(waiting, "the cluster is not set up yet") };
    let mut write = Write::default();
    let mut record = (*cluster.record).clone();
    let (mut granted, mut again) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for it in waiting {
        if !seen.insert(it.register.node.clone()) {
            again.push(it);
            continue;
        }
        match session(shared, &snapshot, &alive, &it.register, &record) {
            Ok(session) => {
                record.last_session += 1;
                add(&snapshot, &mut write, &it.register, &session);
                let old = snapshot.sessions.get(session.node.as_str());
                let restored = record.adoptable_below > 0 && old.is_none_or(|it| it.epoch < record.epoch);
                granted.push((it, session, restored));
            }
            Err(status) => drop(it.answer.send(Err(status))),
        }
    }
    if granted.is_empty() {
        return again;
    }
    write
        .guards
        .push(Guard::Unchanged { key: Key::new(Kind::Cluster, "cluster"), revision: cluster.revision });
    write.changes.push(Change::Put(Record::Cluster(record.clone())));
    match shared.store.write(write).await {
        Ok(committed) => {
            // The next batch begins from here.
            shared.feed.at_least(committed.revision, CATCH_UP).await;
            for (it, session, restored) in granted {
                let (cluster, epoch, revision) = (record.id.clone(), record.epoch, committed.revision);
                let granted = Granted { record: session, revision, cluster, epoch, restored };
                drop(it.answer.send(Ok(granted)));
            }
            again
        }
        Err(WriteError::Conflict { .. }) => {
            shared.feed.at_least(shared.store.revision(), CATCH_UP).await;
            again.extend(granted.into_iter().map(|it| it.0));
            again
        }
        Err(error) => {
            let left = refuse(granted.into_iter().map(|it| it.0).collect(), &error.to_string());
            again.extend(left);
            again
        }
    }
}

fn refuse(waiting: Vec<Wanting>, why: &str) -> Vec<Wanting> {
    for it in waiting {
        drop(it.answer.send(Err(Status::unavailable(format!("the node can't be registered now: {why}")))));
    }
    Vec::new()
}

/// The session that a registration may have, or why not.
fn session(
    shared: &Shared,
    snapshot: &Snapshot,
    alive: &HashSet<String>,
    register: &proto::Register,
    cluster: &ClusterRecord,
) -> Result<SessionRecord, Status> {
    let old = snapshot.sessions.get(register.node.as_str());
    if let Some(old) = old
        && old.instance != register.instance
        && old.state == SessionState::Connected
        && alive.contains(&old.server)
        && (old.server != shared.name || shared.sessions.beats(&register.node, shared.options.heartbeat * 3))
    {
        return Err(Status::already_exists(format!(
            "node_in_use: another agent is connected as {} since {}; give each node a name of its own",
            register.node, old.since
        )));
    }
    let events_durable = old.filter(|it| it.spool == register.spool).map_or(0, |it| it.events_durable);
    Ok(SessionRecord {
        node: register.node.clone(),
        session: cluster.last_session + 1,
        server: shared.name.clone(),
        instance: register.instance.clone(),
        boot_id: register.boot_id.clone(),
        state: SessionState::Connected,
        since: Timestamp::now(),
        spool: register.spool.clone(),
        events_durable,
        epoch: cluster.epoch,
    })
}

/// Adds the records of a registration to a write.
fn add(snapshot: &Snapshot, write: &mut Write, register: &proto::Register, session: &SessionRecord) {
    let guard = |kind, name: &str| {
        let key = Key::new(kind, name);
        match snapshot.revision_of(&key) {
            Some(revision) => Guard::Unchanged { key, revision },
            None => Guard::Absent(key),
        }
    };
    write.guards.push(guard(Kind::Session, &session.node));
    write.changes.push(Change::Put(Record::Session(session.clone())));
    let facts = facts(register);
    let old = snapshot.nodes.get(session.node.as_str());
    if old.is_some_and(|it| it.facts == facts) {
        return;
    }
    let now = Timestamp::now();
    let node = match old {
        Some(old) => NodeRecord { facts, ..(*old.record).clone() },
        None => NodeRecord {
            name: session.node.clone(),
            facts,
            scheduling: Scheduling::Open,
            scheduling_by: None,
            condition: NodeCondition::Ready,
            condition_since: now,
            joined_at: now,
            failures: BTreeMap::new(),
        },
    };
    write.guards.push(guard(Kind::Node, &session.node));
    write.changes.push(Change::Put(Record::Node(Box::new(node))));
}

fn facts(register: &proto::Register) -> NodeFacts {
    let capacity = register.capacity.unwrap_or_default();
    NodeFacts {
        version: register.version.clone(),
        labels: register.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        region: register.region.clone(),
        zone: register.zone.clone(),
        cpu: if capacity.cpu.is_finite() { capacity.cpu.max(0.0) } else { 0.0 },
        memory: capacity.memory,
        disk: capacity.disk,
        runtimes: register.runtimes.iter().cloned().collect(),
        features: register.features.iter().cloned().collect(),
        address: register.address.parse::<IpAddr>().ok(),
    }
}

/// Whether a registration makes sense, before anything of it is kept.
///
/// # Errors
/// What is wrong with it, as the status that ends the stream.
pub(crate) fn check(register: &proto::Register) -> Result<(), Status> {
    let wrong = |what: String| Err(Status::invalid_argument(format!("not_allowed: {what}")));
    let name = &register.node;
    if !hale_model::file::is_node_name(name) {
        return wrong(format!(
            "{:?} is no name for a node: a DNS name in lower case is",
            crate::cluster::short(name)
        ));
    }
    let (labels, text) = MOST;
    let texts = [
        &register.version,
        &register.region,
        &register.zone,
        &register.address,
        &register.instance,
        &register.boot_id,
        &register.spool,
    ];
    let long = |it: &&String| it.len() > text;
    if register.labels.len() > labels
        || register.labels.iter().any(|(key, value)| key.len() > text || value.len() > text)
        || texts.iter().any(long)
        || register.runtimes.len() > labels
        || register.features.len() > 4 * labels
        || register.runtimes.iter().chain(&register.features).any(|it| it.len() > text)
    {
        return wrong(format!("more than {labels} labels, or a text of more than {text} bytes"));
    }
    if register.instance.is_empty() || register.spool.is_empty() {
        return wrong("an agent names its run and its spool".to_owned());
    }
    if !register.address.is_empty() && register.address.parse::<IpAddr>().is_err() {
        return wrong(format!("{:?} is no address", register.address));
    }
    Ok(())
}
