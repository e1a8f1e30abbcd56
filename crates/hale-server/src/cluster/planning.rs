//! What the planner decided, as changes of records; and what it is told of them.

use hale_model::cluster::PlacementCause;
use hale_placement::{Action, Key as Gone, Noun, Options, Planner};
use hale_store::cluster::{Change, Guard, Key, Kind, Record, Versioned, Write};
use jiff::Timestamp;

use super::{Shared, clock, snapshot::Snapshot, status};

/// The lease is another's, or nothing is written any more.
pub(super) struct Lost;

/// The guard of a record that was decided on when all was known up to a revision: it is no newer.
pub(super) fn guard_at((snapshot, told): (&Snapshot, u64), kind: Kind, name: &str) -> Guard {
    let key = Key::new(kind, name);
    match snapshot.revision_of(&key) {
        Some(_) => Guard::Unchanged { key, revision: told },
        None => Guard::Absent(key),
    }
}

/// Adds one action to a transaction, decided when all was known up to a revision.
pub(super) fn add(write: &mut Write, known: (&Snapshot, u64), action: &Action) {
    let snapshot = known.0;
    let delete = |kind, generation: &u64| Change::Delete(Key::new(kind, generation.to_string()));
    match action {
        Action::Place(it) => {
            // A node that is back by now keeps what it runs.
            let replaced = it.replaces.and_then(|it| snapshot.placements.get(it));
            if let Some(old) = replaced.filter(|_| it.cause == PlacementCause::NodeLost) {
                write.guards.push(guard_at(known, Kind::Session, &old.node));
            }
            write.changes.push(Change::Put(Record::Placement(it.clone())));
        }
        // Its node has said meanwhile that it is gone: there is nothing to withdraw.
        Action::Withdraw(it) if snapshot.placements.get(it.generation).is_none() => {}
        Action::Withdraw(it) => {
            write.guards.push(guard_at(known, Kind::Placement, &it.generation.to_string()));
            write.changes.push(Change::Put(Record::Placement(it.clone())));
        }
        Action::Regrant(it) => {
            for from in &it.from {
                write.changes.extend([delete(Kind::Placement, from), delete(Kind::Observed, from)]);
            }
            write.changes.push(Change::Put(Record::Placement(it.placement.clone())));
            if let Some(observed) = &it.observed {
                write.changes.push(Change::Put(Record::Observed(observed.clone())));
            }
        }
        Action::Forget(generation) => {
            write.changes.extend([delete(Kind::Placement, generation), delete(Kind::Observed, generation)]);
        }
        Action::Node(edit) => {
            let Some(node) = snapshot.nodes.get(edit.name.as_str()) else { return };
            let mut record = (*node.record).clone();
            edit.apply(&mut record);
            write.guards.push(guard_at(known, Kind::Node, &edit.name));
            write.changes.push(Change::Put(Record::Node(Box::new(record))));
        }
        Action::Workload(edit) => {
            let Some(workload) = snapshot.workloads.get(edit.name()) else { return };
            let mut record = (*workload.record).clone();
            if edit.apply(&mut record) {
                write.guards.push(guard_at(known, Kind::Workload, edit.name()));
                write.changes.push(Change::Put(Record::Workload(Box::new(record))));
            }
        }
        Action::Target(edit) => {
            let Some(target) = snapshot.targets.get(edit.name.as_str()) else { return };
            let mut record = (*target.record).clone();
            edit.apply(&mut record);
            write.guards.push(guard_at(known, Kind::Target, &edit.name));
            write.changes.push(Change::Put(Record::Target(Box::new(record))));
        }
        Action::Event(event) => write.changes.push(Change::Event(event.clone())),
    }
}

/// A planner that knows a snapshot, and nobody's beats.
pub(super) fn planner(shared: &Shared, snapshot: &Snapshot) -> Planner {
    let (now, wall) = (clock::now(), Timestamp::now());
    let options =
        Options { server: shared.name.clone(), heartbeat: shared.options.heartbeat, ..Options::default() };
    let mut planner = Planner::new(now, options);
    let servers = shared.alive.borrow().names().map(str::to_owned).collect();
    planner.servers(now, &servers);
    let mut put = |noun| planner.put(now, wall, noun);
    if let Some(cluster) = &snapshot.cluster {
        put(Noun::Cluster((*cluster.record).clone()));
    }
    snapshot.nodes.values().for_each(|it| put(Noun::Node(Box::new((*it.record).clone()))));
    snapshot.sessions.values().for_each(|it| put(Noun::Session((*it.record).clone())));
    snapshot.workloads.values().for_each(|it| put(Noun::Workload(Box::new((*it.record).clone()))));
    snapshot.targets.values().for_each(|it| put(Noun::Target(Box::new((*it.record).clone()))));
    snapshot.placements.iter().for_each(|it| put(Noun::Placement((*it.record).clone())));
    let placed = snapshot.observed.iter().filter(|it| snapshot.placements.get(it.generation).is_some());
    placed.for_each(|it| put(Noun::Observed(Box::new((*it.record).clone()))));
    for (name, target) in &*snapshot.targets {
        planner.target_status(name, status::target(shared, target).status);
    }
    planner
}

/// Tells a planner of a change.
pub(super) fn put(planner: &mut Planner, change: Versioned) {
    let (now, wall) = (clock::now(), Timestamp::now());
    let noun = match change.record {
        Some(Record::Cluster(it)) => Noun::Cluster(it),
        Some(Record::Workload(it)) => Noun::Workload(it),
        Some(Record::Target(it)) => Noun::Target(it),
        Some(Record::Node(it)) => Noun::Node(it),
        Some(Record::Session(it)) => Noun::Session(it),
        Some(Record::Placement(it)) => Noun::Placement(it),
        Some(Record::Observed(it)) => Noun::Observed(it),
        // Nothing is decided from the others.
        Some(_) => return,
        None => {
            let name = change.key.name.as_str();
            let generation = || name.parse().unwrap_or(0);
            let gone = match change.key.kind {
                Kind::Workload => Gone::Workload(name),
                Kind::Target => Gone::Target(name),
                Kind::Node => Gone::Node(name),
                Kind::Session => Gone::Session(name),
                Kind::Placement => Gone::Placement(generation()),
                Kind::Observed => Gone::Observed(generation()),
                _ => return,
            };
            return planner.delete(now, gone);
        }
    };
    planner.put(now, wall, noun);
}
