//! The records of Kubernetes: stacks, deployment objects, agents, how things are there, requests for diagnostics.

use std::{collections::BTreeMap, sync::Arc};

use hale_model::cluster::{
    DeploymentObjectRecord, DiagnosticsRecord, KubeAgentRecord, KubeSeenRecord, ObjectHealthRecord,
    StackRecord,
};
use hale_store::cluster::{Key, Kind, Record, Versioned};

use super::{Kept, Named, put};

/// Everything that is kept of Kubernetes, as of one revision.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// The revision of the last change in here.
    pub revision: u64,
    /// Stacks by name.
    pub stacks: Named<StackRecord>,
    /// Deployment objects by id.
    pub objects: Named<DeploymentObjectRecord>,
    /// Agents of clusters by name.
    pub agents: Named<KubeAgentRecord>,
    /// When agents were heard, by their ids.
    pub seen: Named<KubeSeenRecord>,
    /// How objects are, by the ids of object and agent: `object/agent`.
    pub health: Named<ObjectHealthRecord>,
    /// Requests for diagnostics by id.
    pub diagnostics: Named<DiagnosticsRecord>,
    /// The names of stacks and agents by their ids.
    names: Arc<BTreeMap<Arc<str>, Arc<str>>>,
}

impl Records {
    /// A stack, by id or name.
    #[must_use]
    pub fn stack(&self, name_or_id: &str) -> Option<&Kept<StackRecord>> {
        let by_id = self.names.get(name_or_id).and_then(|name| self.stacks.get(name));
        by_id.filter(|it| it.id == name_or_id).or_else(|| self.stacks.get(name_or_id))
    }

    /// An agent, by id or name.
    #[must_use]
    pub fn agent(&self, name_or_id: &str) -> Option<&Kept<KubeAgentRecord>> {
        let by_id = self.names.get(name_or_id).and_then(|name| self.agents.get(name));
        by_id.filter(|it| it.id == name_or_id).or_else(|| self.agents.get(name_or_id))
    }

    /// What the agents told of an object, by their ids; those that are given it no more are among them until they are
    /// forgotten.
    pub fn health_of(&self, object: &str) -> impl Iterator<Item = &Kept<ObjectHealthRecord>> {
        let from: Arc<str> = Arc::from(format!("{object}/"));
        let object = object.to_owned();
        self.health.range(from..).map(|it| it.1).take_while(move |it| it.object_id == object)
    }

    /// What one agent told of an object.
    #[must_use]
    pub fn health_at(&self, object: &str, agent: &str) -> Option<&Kept<ObjectHealthRecord>> {
        self.health.get(format!("{object}/{agent}").as_str())
    }

    /// The agents that are given a stack, by name.
    pub fn agents_of<'a>(
        &'a self,
        stack: &'a StackRecord,
    ) -> impl Iterator<Item = &'a Kept<KubeAgentRecord>> {
        self.agents.values().filter(|it| it.is_given(stack))
    }

    pub(super) fn revision_of(&self, key: &Key) -> Option<u64> {
        fn of<T>(named: &Named<T>, name: &str) -> Option<u64> {
            named.get(name).map(|it| it.revision)
        }
        match key.kind {
            Kind::Stack => of(&self.stacks, &key.name),
            Kind::DeploymentObject => of(&self.objects, &key.name),
            Kind::KubeAgent => of(&self.agents, &key.name),
            Kind::KubeSeen => of(&self.seen, &key.name),
            Kind::ObjectHealth => of(&self.health, &key.name),
            Kind::Diagnostics => of(&self.diagnostics, &key.name),
            _ => None,
        }
    }

    pub(super) fn change(&mut self, name: &Arc<str>, change: &Versioned) {
        let revision = change.revision;
        self.revision = revision;
        match change.key.kind {
            Kind::Stack => {
                let record = match &change.record {
                    Some(Record::Stack(it)) => Some(Kept { revision, record: Arc::new(it.clone()) }),
                    _ => None,
                };
                let id = record.as_ref().map(|it| it.id.clone());
                let old = put(&mut self.stacks, name, record).map(|it| it.id.clone());
                self.named(name, old, id);
            }
            Kind::KubeAgent => {
                let record = match &change.record {
                    Some(Record::KubeAgent(it)) => Some(Kept { revision, record: Arc::new((**it).clone()) }),
                    _ => None,
                };
                let id = record.as_ref().map(|it| it.id.clone());
                let old = put(&mut self.agents, name, record).map(|it| it.id.clone());
                self.named(name, old, id);
            }
            Kind::DeploymentObject => {
                let record = match &change.record {
                    Some(Record::DeploymentObject(it)) => {
                        Some(Kept { revision, record: Arc::new(it.clone()) })
                    }
                    _ => None,
                };
                put(&mut self.objects, name, record);
            }
            Kind::KubeSeen => {
                let record = match &change.record {
                    Some(Record::KubeSeen(it)) => Some(Kept { revision, record: Arc::new(it.clone()) }),
                    _ => None,
                };
                put(&mut self.seen, name, record);
            }
            Kind::ObjectHealth => {
                let record = match &change.record {
                    Some(Record::ObjectHealth(it)) => {
                        Some(Kept { revision, record: Arc::new((**it).clone()) })
                    }
                    _ => None,
                };
                put(&mut self.health, name, record);
            }
            Kind::Diagnostics => {
                let record = match &change.record {
                    Some(Record::Diagnostics(it)) => {
                        Some(Kept { revision, record: Arc::new((**it).clone()) })
                    }
                    _ => None,
                };
                put(&mut self.diagnostics, name, record);
            }
            _ => {}
        }
    }

    fn named(&mut self, name: &Arc<str>, old: Option<String>, new: Option<String>) {
        if old == new {
            return;
        }
        let names = Arc::make_mut(&mut self.names);
        if let Some(old) = old {
            names.remove(old.as_str());
        }
        if let Some(new) = new {
            names.insert(Arc::from(new), Arc::clone(name));
        }
    }
}
