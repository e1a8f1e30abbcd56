//! Agents of clusters: registering, what they are given, what people say of them (K1).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hale_api::{
    Code,
    kube::{
        Desired, DesiredObject, DesiredStack, KubeAgent, KubeAgentPatch, KubeAgentRegistered,
        KubeAgentRegistration,
    },
};
use hale_model::cluster::{KubeAgentRecord, KubeSeenRecord, StackRecord};
use hale_store::cluster::{Change, Guard, Key, Kind, Record, Write};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{Kube, new_id, stacks::check_labels, unchanged, view};
use crate::{
    asker::Asker,
    cluster::snapshot::KubeRecords,
    problems::{Answer, Refusal},
};

/// The longest that is waited for something new to be desired.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often texts are asked for again that went while they were read.
const TRIES: usize = 5;

/// What an agent may say of how often it reports, in seconds.
const INTERVALS: std::ops::RangeInclusive<u32> = 1..=3600;

/// The most stacks that an agent is given by name.
const MOST_STACKS: usize = 10_000;

/// The agent's token is good, and it has not registered, or was forgotten.
pub(crate) fn unregistered() -> Refusal {
    Refusal::new(Code::NotFound, "this agent is not registered: POST /api/v1/agents/register")
}

/// What is desired of an agent: its stacks, and a revision that changes with them and with nothing else.
pub(crate) fn desired_of<'a>(
    kube: &'a KubeRecords,
    agent: &KubeAgentRecord,
) -> (String, Vec<&'a StackRecord>) {
    let stacks: Vec<&StackRecord> =
        kube.stacks.values().map(|it| &*it.record).filter(|it| agent.is_given(it)).collect();
    let mut hash = Sha256::new();
    hash.update(agent.mode.as_str());
    for it in &stacks {
        // Lengths keep what is told apart apart; ids have no separators in them.
        let labels = serde_json::to_string(&it.labels).unwrap_or_default();
        hash.update(format!("\n{}\t{}\t{}\t{labels}", it.id, it.name, it.current().unwrap_or("-")));
    }
    let revision = hash.finalize().iter().take(12).map(|it| format!("{it:02x}")).collect();
    (revision, stacks)
}

impl Kube {
    /// Registers the agent of a name. What a person said of it stays.
    ///
    /// # Errors
    /// When something in it is wrong, or the database takes nothing.
    pub(crate) async fn register(
        &self,
        name: &str,
        it: &KubeAgentRegistration,
    ) -> Answer<KubeAgentRegistered> {
        check_registration(it)?;
        let (id, now) = (new_id()?, Timestamp::now());
        let (_, record) = self.attempt(|kube| Ok(registered(kube, name, &id, it, now))).await?;
        tracing::info!(
            agent = record.name,
            id = record.id,
            version = record.version,
            "an agent has registered"
        );
        Ok(KubeAgentRegistered {
            agent_id: record.id,
            name: record.name,
            mode: record.mode,
            stale_after_seconds: record.stale_after_seconds,
        })
    }

    /// All agents, by name.
    pub(crate) fn agents(&self) -> Vec<KubeAgent> {
        let snapshot = self.snapshot();
        snapshot.kube.agents.values().map(|it| view::agent(&snapshot.kube, it)).collect()
    }

    /// Says which stacks an agent is given, and whether it changes its cluster.
    ///
    /// # Errors
    /// When there is none, something in it is wrong, or the database takes nothing.
    pub(crate) async fn change_agent(
        &self,
        agent: &str,
        patch: &KubeAgentPatch,
        asker: &Asker,
    ) -> Answer<KubeAgent> {
        for labels in patch.labels.iter().chain(&patch.match_labels) {
            check_labels(labels)?;
        }
        if patch.stacks.as_ref().is_some_and(|it| it.len() > MOST_STACKS) {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("at most {MOST_STACKS} stacks are given by name"),
            ));
        }
        let (snapshot, name) = self
            .attempt(|kube| {
                let old = kube.agent(agent).ok_or_else(|| Refusal::not_found("agent", agent))?;
                let mut record = (*old.record).clone();
                if let Some(mode) = patch.mode {
                    record.mode = mode;
                }
                patch.stacks.clone_into_some(&mut record.stacks);
                patch.match_labels.clone_into_some(&mut record.match_labels);
                patch.labels.clone_into_some(&mut record.labels);
                record.assigned |= *patch != KubeAgentPatch::default();
                let detail = serde_json::to_string(patch).unwrap_or_default();
                let audit =
                    asker.audit(asker.name(), "agent.change", format!("agents/{}", old.name), vec![detail]);
                let guards = vec![unchanged(old, Key::new(Kind::KubeAgent, &old.name))];
                let changes =
                    vec![Change::Put(Record::KubeAgent(Box::new(record))), Change::Audit(Box::new(audit))];
                Ok((Write { changes, guards }, old.name.clone()))
            })
            .await?;
        let record =
            snapshot.kube.agents.get(name.as_str()).ok_or_else(|| Refusal::not_found("agent", agent))?;
        Ok(view::agent(&snapshot.kube, record))
    }

    /// Forgets an agent, with what it told and what was asked of it (K8).
    ///
    /// # Errors
    /// When there is none, or the database takes nothing.
    pub(crate) async fn delete_agent(&self, agent: &str, asker: &Asker) -> Answer<()> {
        let deleted = self.attempt(|kube| {
            let old = kube.agent(agent).ok_or_else(|| Refusal::not_found("agent", agent))?;
            let key = Key::new(Kind::KubeAgent, &old.name);
            let mut changes =
                vec![Change::Delete(key.clone()), Change::Delete(Key::new(Kind::KubeSeen, &old.id))];
            let told = kube.health.iter().filter(|(_, it)| it.agent_id == old.id);
            changes.extend(told.map(|(name, _)| Change::Delete(Key::new(Kind::ObjectHealth, &**name))));
            let asked = kube.diagnostics.values().filter(|it| it.agent_id == old.id);
            changes.extend(asked.map(|it| Change::Delete(Key::new(Kind::Diagnostics, &it.id))));
            let audit = asker.audit(asker.name(), "agent.delete", format!("agents/{}", old.name), Vec::new());
            changes.push(Change::Audit(Box::new(audit)));
            Ok((Write { changes, guards: vec![unchanged(old, key)] }, ()))
        });
        deleted.await.map(drop)
    }

    /// What an agent is to see to; with `after`, once that is another revision, or after `wait`.
    ///
    /// # Errors
    /// When it was forgotten, or the database can't be read.
    pub(crate) async fn desired(&self, agent: &str, after: Option<&str>, wait: Duration) -> Answer<Desired> {
        if let Some(after) = after {
            let mut follow = self.cluster.follow();
            let mut looked = u64::MAX;
            let another = follow.wait_for(|snapshot| {
                if std::mem::replace(&mut looked, snapshot.kube.revision) == snapshot.kube.revision {
                    return false;
                }
                let record = snapshot.kube.agent(agent);
                record.is_none_or(|it| desired_of(&snapshot.kube, it).0 != after)
            });
            let _as_it_is = timeout(wait.min(LONGEST_WAIT), another).await.is_err();
        }
        for _ in 0..TRIES {
            let snapshot = self.snapshot();
            let record = snapshot.kube.agent(agent).ok_or_else(unregistered)?;
            let (revision, stacks) = desired_of(&snapshot.kube, record);
            let ids: Vec<String> = stacks.iter().filter_map(|it| it.current()).map(str::to_owned).collect();
            let texts = self.store.texts(Kind::DeploymentObject, &ids).await?;
            let stacks: Option<Vec<DesiredStack>> =
                stacks.into_iter().map(|it| desired_stack(&snapshot.kube, it, &texts)).collect();
            match stacks {
                Some(stacks) => return Ok(Desired { revision, mode: record.mode, stacks }),
                // Deleted while it was read.
                None => drop(self.fresh().await),
            }
        }
        Err(Refusal::new(Code::Unavailable, "what is desired changes too fast to be read; try again"))
    }

    /// Follows what is recorded.
    pub(crate) fn follow(&self) -> tokio::sync::watch::Receiver<Arc<crate::cluster::snapshot::Snapshot>> {
        self.cluster.follow()
    }
}

/// Takes the place of a field where it is given.
trait CloneIntoSome<T> {
    fn clone_into_some(&self, field: &mut T);
}

impl<T: Clone> CloneIntoSome<T> for Option<T> {
    fn clone_into_some(&self, field: &mut T) {
        if let Some(value) = self {
            field.clone_from(value);
        }
    }
}

fn desired_stack(
    kube: &KubeRecords,
    stack: &StackRecord,
    texts: &std::collections::HashMap<String, String>,
) -> Option<DesiredStack> {
    let mut objects = Vec::new();
    if let Some(id) = stack.current() {
        let object = kube.objects.get(id)?;
        objects.push(DesiredObject {
            id: object.id.clone(),
            sequence: object.sequence,
            checksum: object.checksum.clone(),
            yaml: texts.get(id)?.clone(),
            deletion_marker: object.deletion_marker,
        });
    }
    let StackRecord { id, name, labels, .. } = stack.clone();
    Some(DesiredStack { id, name, labels, objects })
}

fn check_registration(it: &KubeAgentRegistration) -> Answer<()> {
    check_labels(&it.labels)?;
    check_labels(&it.match_labels)?;
    let intervals = [Some(it.check_interval_seconds), it.stale_after_seconds];
    if it.version.len() > 100 || it.stacks.len() > MOST_STACKS {
        return Err(Refusal::new(
            Code::BadRequest,
            "version has at most 100 bytes, and stacks are at most 10000",
        ));
    }
    if intervals.into_iter().flatten().any(|it| !INTERVALS.contains(&it)) {
        let detail = "check_interval_seconds and stale_after_seconds are 1 to 3600";
        return Err(Refusal::new(Code::BadRequest, detail));
    }
    Ok(())
}

fn registered(
    kube: &KubeRecords,
    name: &str,
    id: &str,
    it: &KubeAgentRegistration,
    now: Timestamp,
) -> (Write, KubeAgentRecord) {
    let key = Key::new(Kind::KubeAgent, name);
    let old = kube.agents.get(name);
    let mut record = old.map_or_else(
        || KubeAgentRecord {
            id: id.to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            mode: it.mode,
            stacks: Default::default(),
            match_labels: BTreeMap::new(),
            assigned: false,
            version: String::new(),
            health_enabled: true,
            diagnostics_enabled: true,
            check_interval_seconds: 60,
            stale_after_seconds: 180,
            registered_at: now,
        },
        |it| (*it.record).clone(),
    );
    if !record.assigned {
        record.labels.clone_from(&it.labels);
        record.mode = it.mode;
        record.stacks.clone_from(&it.stacks);
        record.match_labels.clone_from(&it.match_labels);
    }
    record.version.clone_from(&it.version);
    record.health_enabled = it.health_enabled;
    record.diagnostics_enabled = it.diagnostics_enabled;
    record.check_interval_seconds = it.check_interval_seconds;
    record.stale_after_seconds =
        it.stale_after_seconds.unwrap_or_else(|| it.check_interval_seconds.saturating_mul(3));
    let guards = vec![super::unchanged_or_absent(old, key)];
    let mut seen = kube.seen.get(record.id.as_str()).map_or_else(
        || KubeSeenRecord {
            agent_id: record.id.clone(),
            last_seen: now,
            checked: BTreeMap::new(),
            silent: false,
        },
        |it| (*it.record).clone(),
    );
    (seen.last_seen, seen.silent) = (now, false);
    let seen_key = Key::new(Kind::KubeSeen, &record.id);
    let seen_guard = super::unchanged_or_absent(kube.seen.get(record.id.as_str()), seen_key);
    let guards: Vec<Guard> = guards.into_iter().chain([seen_guard]).collect();
    let changes =
        vec![Change::Put(Record::KubeAgent(Box::new(record.clone()))), Change::Put(Record::KubeSeen(seen))];
    (Write { changes, guards }, record)
}
