//! All records of the database as of one revision: immutable, cheap to share, cheap to follow.
//!
//! What does not change from one snapshot to the next is shared between them. Small kinds are one map each; the two
//! large ones, placements and observations, are kept in pages of generations, so that a change copies a page and not
//! a hundred thousand entries.

mod kube;

pub use kube::Records as KubeRecords;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hale_model::{
    cluster::{
        ClusterRecord, NodeRecord, ObservedRecord, OrderRecord, PlacementRecord, ServerRecord, SessionRecord,
        TargetRecord, TokenRecord, WebhookCursor, WebhookRecord, WorkloadRecord,
    },
    spec::{Target, Workload},
};
use hale_store::cluster::{Changes, Key, Kind, Record, Versioned};

/// A record and the revision it was last changed at.
#[derive(Debug, PartialEq)]
pub struct Kept<T> {
    /// When it was last changed: what [`hale_store::cluster::Guard::Unchanged`] wants.
    pub revision: u64,
    /// The record.
    pub record: Arc<T>,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self { revision: self.revision, record: Arc::clone(&self.record) }
    }
}

impl<T> std::ops::Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.record
    }
}

/// Records by name.
pub type Named<T> = Arc<BTreeMap<Arc<str>, Kept<T>>>;

/// How many generations share a page, as a power of two.
const PAGE: u32 = 8;

/// Some records by generation.
type Page<T> = Arc<BTreeMap<u64, Kept<T>>>;

/// Records by generation, in pages.
#[derive(Debug)]
pub struct Paged<T> {
    pages: Arc<BTreeMap<u64, Page<T>>>,
}

impl<T> Clone for Paged<T> {
    fn clone(&self) -> Self {
        Self { pages: Arc::clone(&self.pages) }
    }
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Arc::default() }
    }
}

impl<T> Paged<T> {
    /// The record of a generation.
    #[must_use]
    pub fn get(&self, generation: u64) -> Option<&Kept<T>> {
        self.pages.get(&(generation >> PAGE))?.get(&generation)
    }

    /// All of them, by generation.
    pub fn iter(&self) -> impl Iterator<Item = &Kept<T>> {
        self.pages.values().flat_map(|page| page.values())
    }

    fn put(&mut self, generation: u64, kept: Option<Kept<T>>) -> Option<Kept<T>> {
        let pages = Arc::make_mut(&mut self.pages);
        match kept {
            Some(kept) => {
                let page = pages.entry(generation >> PAGE).or_default();
                Arc::make_mut(page).insert(generation, kept)
            }
            None => {
                let page = pages.get_mut(&(generation >> PAGE))?;
                let old = Arc::make_mut(page).remove(&generation);
                if page.is_empty() {
                    pages.remove(&(generation >> PAGE));
                }
                old
            }
        }
    }
}

/// Generations by a name: of a node, of a workload.
type Index = Arc<BTreeMap<Arc<str>, Arc<BTreeSet<u64>>>>;

/// Everything as of one revision.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Up to which all changes are in here.
    pub revision: u64,
    /// The cluster as a whole; `None` before the first server has ever started.
    pub cluster: Option<Kept<ClusterRecord>>,
    /// Servers by the name of their lease; one that is not alive may still stand here.
    pub servers: Named<ServerRecord>,
    /// Workloads by name.
    pub workloads: Named<WorkloadRecord>,
    /// What they declare, where this release understands it.
    pub specs: Arc<BTreeMap<Arc<str>, Arc<Workload>>>,
    /// Targets by name.
    pub targets: Named<TargetRecord>,
    /// What they declare, where this release understands it.
    pub target_specs: Arc<BTreeMap<Arc<str>, Arc<Target>>>,
    /// Nodes by name.
    pub nodes: Named<NodeRecord>,
    /// Sessions by node.
    pub sessions: Named<SessionRecord>,
    /// Placements by generation.
    pub placements: Paged<PlacementRecord>,
    /// Observations by generation.
    pub observed: Paged<ObservedRecord>,
    /// Orders by id.
    pub orders: Named<OrderRecord>,
    /// Tokens by id.
    pub tokens: Named<TokenRecord>,
    /// Webhooks by name.
    pub webhooks: Named<WebhookRecord>,
    /// How far webhooks are, by name.
    pub cursors: Named<WebhookCursor>,
    /// What is kept of Kubernetes.
    pub kube: kube::Records,
    by_node: Index,
    by_workload: Index,
}

/// What changes of records may mean for others.
#[derive(Debug, Default)]
pub struct Touched {
    /// Nodes whose desired state may be another.
    pub desired: BTreeSet<Arc<str>>,
    /// Workloads of which a declaration, placement or observation has changed.
    pub workloads: BTreeSet<Arc<str>>,
    /// Workloads whose declaration has changed or gone.
    pub declared: BTreeSet<Arc<str>>,
    /// Targets whose declaration has changed or gone.
    pub targets: BTreeSet<Arc<str>>,
    /// Generations of which a placement or observation has changed or gone.
    pub generations: BTreeSet<u64>,
    /// Nodes whose record has changed or gone.
    pub nodes: BTreeSet<Arc<str>>,
    /// Nodes whose session has changed or gone.
    pub sessions: BTreeSet<Arc<str>>,
    /// Whether there are orders that were not there.
    pub orders: bool,
    /// Whether tokens have changed.
    pub tokens: bool,
}

impl Snapshot {
    /// Placements on a node, by generation.
    pub fn placed_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Kept<PlacementRecord>> + use<'a> {
        self.indexed(&self.by_node, node)
    }

    /// Placements of a workload, by generation.
    pub fn placements_of<'a>(
        &'a self,
        workload: &str,
    ) -> impl Iterator<Item = &'a Kept<PlacementRecord>> + use<'a> {
        self.indexed(&self.by_workload, workload)
    }

    fn indexed<'a>(
        &'a self,
        index: &'a Index,
        name: &str,
    ) -> impl Iterator<Item = &'a Kept<PlacementRecord>> + use<'a> {
        let generations = index.get(name).into_iter().flat_map(|it| it.iter());
        generations.filter_map(|generation| self.placements.get(*generation))
    }

    /// The key's revision; `None`: there is no such record.
    #[must_use]
    pub fn revision_of(&self, key: &Key) -> Option<u64> {
        fn of<T>(named: &Named<T>, name: &str) -> Option<u64> {
            named.get(name).map(|it| it.revision)
        }
        let generation = || key.name.parse::<u64>().ok();
        match key.kind {
            Kind::Cluster => self.cluster.as_ref().map(|it| it.revision),
            Kind::Server => of(&self.servers, &key.name),
            Kind::Workload => of(&self.workloads, &key.name),
            Kind::Target => of(&self.targets, &key.name),
            Kind::Node => of(&self.nodes, &key.name),
            Kind::Session => of(&self.sessions, &key.name),
            Kind::Placement => self.placements.get(generation()?).map(|it| it.revision),
            Kind::Observed => self.observed.get(generation()?).map(|it| it.revision),
            Kind::Order => of(&self.orders, &key.name),
            Kind::Token => of(&self.tokens, &key.name),
            Kind::Webhook => of(&self.webhooks, &key.name),
            Kind::WebhookCursor => of(&self.cursors, &key.name),
            _ => self.kube.revision_of(key),
        }
    }

    /// The snapshot after changes, and what they touch. A reset takes the place of everything, and touches everything
    /// that is or was there.
    #[must_use]
    pub fn after(&self, changes: &Changes) -> (Self, Touched) {
        let mut touched = Touched::default();
        let mut next = if changes.reset {
            let keys = self.keys();
            let mut gone = self.clone();
            for key in keys {
                gone.change(&Versioned { revision: changes.revision, key, record: None }, &mut touched);
            }
            Self::default()
        } else {
            self.clone()
        };
        for change in &changes.records {
            next.change(change, &mut touched);
        }
        next.revision = changes.revision;
        (next, touched)
    }

    /// The keys of everything that others are told of.
    fn keys(&self) -> Vec<Key> {
        let named = |kind, names: Vec<&Arc<str>>| {
            names.into_iter().map(move |name| Key::new(kind, &**name)).collect::<Vec<_>>()
        };
        let mut keys = named(Kind::Workload, self.workloads.keys().collect());
        keys.extend(named(Kind::Target, self.targets.keys().collect()));
        keys.extend(named(Kind::Node, self.nodes.keys().collect()));
        keys.extend(named(Kind::Session, self.sessions.keys().collect()));
        keys.extend(named(Kind::Token, self.tokens.keys().collect()));
        keys.extend(self.observed.iter().map(|it| Key::new(Kind::Observed, it.generation.to_string())));
        keys.extend(self.placements.iter().map(|it| Key::new(Kind::Placement, it.generation.to_string())));
        keys
    }

    fn change(&mut self, change: &Versioned, touched: &mut Touched) {
        let name: Arc<str> = Arc::from(change.key.name.as_str());
        let revision = change.revision;
        macro_rules! named {
            ($map:ident, $variant:ident) => {{
                let record = match &change.record {
                    Some(Record::$variant(it)) => Some(Kept { revision, record: Arc::new(it.clone()) }),
                    _ => None,
                };
                put(&mut self.$map, &name, record)
            }};
        }
        match change.key.kind {
            Kind::Cluster => {
                if let Some(Record::Cluster(it)) = &change.record {
                    self.cluster = Some(Kept { revision, record: Arc::new(it.clone()) });
                }
            }
            Kind::Server => drop(named!(servers, Server)),
            Kind::Workload => self.change_workload(name, revision, change.record.as_ref(), touched),
            Kind::Target => self.change_target(name, revision, change.record.as_ref(), touched),
            Kind::Node => {
                let record = match &change.record {
                    Some(Record::Node(it)) => Some(Kept { revision, record: Arc::new((**it).clone()) }),
                    _ => None,
                };
                put(&mut self.nodes, &name, record);
                touched.nodes.insert(name);
            }
            Kind::Session => {
                named!(sessions, Session);
                touched.sessions.insert(name);
            }
            Kind::Placement => self.change_placement(revision, change, touched),
            Kind::Observed => self.change_observed(revision, change, touched),
            Kind::Order => {
                let record = match &change.record {
                    Some(Record::Order(it)) => Some(Kept { revision, record: Arc::new((**it).clone()) }),
                    _ => None,
                };
                touched.orders |= record.is_some();
                put(&mut self.orders, &name, record);
            }
            Kind::Token => {
                named!(tokens, Token);
                touched.tokens = true;
            }
            Kind::Webhook => drop(named!(webhooks, Webhook)),
            Kind::WebhookCursor => drop(named!(cursors, WebhookCursor)),
            _ => self.kube.change(&name, change),
        }
    }

    fn change_workload(
        &mut self,
        name: Arc<str>,
        revision: u64,
        record: Option<&Record>,
        touched: &mut Touched,
    ) {
        touched.desired.extend(self.placements_of(&name).map(|it| Arc::from(it.node.as_str())));
        let record = match record {
            Some(Record::Workload(it)) => Some(Kept { revision, record: Arc::new((**it).clone()) }),
            _ => None,
        };
        let digest = record.as_ref().map(|it| it.document.digest.as_str());
        let known = self.specs.get(&name).map(|it| it.digest.as_str());
        if digest != known {
            let specs = Arc::make_mut(&mut self.specs);
            match record.as_ref().and_then(|it| it.document.workload()) {
                Some(spec) => drop(specs.insert(Arc::clone(&name), spec)),
                None => drop(specs.remove(&name)),
            }
        }
        put(&mut self.workloads, &name, record);
        touched.workloads.insert(Arc::clone(&name));
        touched.declared.insert(name);
    }

    fn change_target(
        &mut self,
        name: Arc<str>,
        revision: u64,
        record: Option<&Record>,
        touched: &mut Touched,
    ) {
        let record = match record {
            Some(Record::Target(it)) => Some(Kept { revision, record: Arc::new((**it).clone()) }),
            _ => None,
        };
        let digest = record.as_ref().map(|it| it.document.digest.as_str());
        if digest != self.target_specs.get(&name).map(|it| it.digest.as_str()) {
            let specs = Arc::make_mut(&mut self.target_specs);
            match record.as_ref().and_then(|it| it.document.target()) {
                Some(spec) => drop(specs.insert(Arc::clone(&name), spec)),
                None => drop(specs.remove(&name)),
            }
        }
        let node = |it: &Kept<TargetRecord>| it.node.as_deref().map(Arc::from);
        touched.desired.extend(record.as_ref().and_then(node));
        let old = put(&mut self.targets, &name, record);
        touched.desired.extend(old.as_ref().and_then(node));
        touched.targets.insert(name);
    }

    fn change_placement(&mut self, revision: u64, change: &Versioned, touched: &mut Touched) {
        let Ok(generation) = change.key.name.parse::<u64>() else { return };
        let record = match &change.record {
            Some(Record::Placement(it)) => Some(Kept { revision, record: Arc::new(it.clone()) }),
            _ => None,
        };
        let new = record.clone();
        let old = self.placements.put(generation, record);
        for (it, there) in [(&old, false), (&new, true)] {
            let Some(it) = it else { continue };
            let (node, workload) = (Arc::from(it.node.as_str()), Arc::from(it.workload.as_str()));
            index(&mut self.by_node, &node, generation, there);
            index(&mut self.by_workload, &workload, generation, there);
            touched.desired.insert(node);
            touched.workloads.insert(workload);
        }
        touched.generations.insert(generation);
    }

    fn change_observed(&mut self, revision: u64, change: &Versioned, touched: &mut Touched) {
        let Ok(generation) = change.key.name.parse::<u64>() else { return };
        let record = match &change.record {
            Some(Record::Observed(it)) => Some(Kept { revision, record: Arc::new((**it).clone()) }),
            _ => None,
        };
        if let Some(it) = &record {
            touched.workloads.insert(Arc::from(it.workload.as_str()));
        }
        if let Some(it) = self.observed.put(generation, record) {
            touched.workloads.insert(Arc::from(it.workload.as_str()));
            // What nobody had placed is decided on now: its node may be told what is wanted (S5).
            if self.placements.get(generation).is_none() {
                touched.desired.insert(Arc::from(it.node.as_str()));
            }
        }
        touched.generations.insert(generation);
    }
}

pub(super) fn put<T>(map: &mut Named<T>, name: &Arc<str>, kept: Option<Kept<T>>) -> Option<Kept<T>> {
    let map = Arc::make_mut(map);
    match kept {
        Some(kept) => map.insert(Arc::clone(name), kept),
        None => map.remove(name),
    }
}

fn index(index: &mut Index, name: &Arc<str>, generation: u64, there: bool) {
    let index = Arc::make_mut(index);
    if there {
        Arc::make_mut(index.entry(Arc::clone(name)).or_default()).insert(generation);
    } else if let Some(generations) = index.get_mut(name) {
        Arc::make_mut(generations).remove(&generation);
        if generations.is_empty() {
            index.remove(name);
        }
    }
}
