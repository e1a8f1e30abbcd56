//! The language of writes: versioned records, events and audit records that become durable together.
//!
//! A record is one noun of the cluster under its kind and name. Each write gives all it changes one revision; revisions
//! and event ids rise in the order of commits, over all servers of one database, so that a reader who asks for what
//! came after a revision misses nothing.

use hale_model::{
    cluster::{
        ClusterRecord, DeploymentObjectRecord, DiagnosticsRecord, KubeAgentRecord, KubeSeenRecord,
        NodeRecord, ObjectHealthRecord, ObservedRecord, OrderRecord, PlacementRecord, ServerRecord,
        SessionRecord, StackRecord, TargetRecord, TokenRecord, WebhookCursor, WebhookRecord, WorkloadRecord,
    },
    event::NewEvent,
};

use crate::{AuditRecord, rows::to_text};

/// A noun of the cluster.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the record of its name")]
pub enum Record {
    Cluster(ClusterRecord),
    Server(ServerRecord),
    Workload(Box<WorkloadRecord>),
    Target(Box<TargetRecord>),
    Node(Box<NodeRecord>),
    Session(SessionRecord),
    Placement(PlacementRecord),
    Observed(Box<ObservedRecord>),
    Order(Box<OrderRecord>),
    Token(TokenRecord),
    Webhook(WebhookRecord),
    WebhookCursor(WebhookCursor),
    Stack(StackRecord),
    DeploymentObject(DeploymentObjectRecord),
    KubeAgent(Box<KubeAgentRecord>),
    KubeSeen(KubeSeenRecord),
    ObjectHealth(Box<ObjectHealthRecord>),
    Diagnostics(Box<DiagnosticsRecord>),
}

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is the record of its name")]
pub enum Kind {
    Cluster,
    Server,
    Workload,
    Target,
    Node,
    Session,
    Placement,
    Observed,
    Order,
    Token,
    Webhook,
    WebhookCursor,
    Stack,
    DeploymentObject,
    KubeAgent,
    KubeSeen,
    ObjectHealth,
    Diagnostics,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 18] = [
        Self::Cluster,
        Self::Server,
        Self::Workload,
        Self::Target,
        Self::Node,
        Self::Session,
        Self::Placement,
        Self::Observed,
        Self::Order,
        Self::Token,
        Self::Webhook,
        Self::WebhookCursor,
        Self::Stack,
        Self::DeploymentObject,
        Self::KubeAgent,
        Self::KubeSeen,
        Self::ObjectHealth,
        Self::Diagnostics,
    ];

    /// The word for it, as it is kept.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Server => "server",
            Self::Workload => "workload",
            Self::Target => "target",
            Self::Node => "node",
            Self::Session => "session",
            Self::Placement => "placement",
            Self::Observed => "observed",
            Self::Order => "order",
            Self::Token => "token",
            Self::Webhook => "webhook",
            Self::WebhookCursor => "webhook_cursor",
            Self::Stack => "stack",
            Self::DeploymentObject => "deployment_object",
            Self::KubeAgent => "kube_agent",
            Self::KubeSeen => "kube_seen",
            Self::ObjectHealth => "object_health",
            Self::Diagnostics => "diagnostics",
        }
    }

    /// Whether a record of this kind may have a large text beside it, which goes with it.
    #[must_use]
    pub const fn has_text(self) -> bool {
        matches!(self, Self::DeploymentObject | Self::Diagnostics)
    }

    /// `None`: a newer hale has kinds that this one does not.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// Names a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What it is.
    pub kind: Kind,
    /// Unique among its kind: a name, or a generation in decimal.
    pub name: String,
}

impl Key {
    /// A key.
    #[must_use]
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl Record {
    /// What it is kept under.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Cluster(_) => Key::new(Kind::Cluster, "cluster"),
            Self::Server(it) => Key::new(Kind::Server, &it.name),
            Self::Workload(it) => Key::new(Kind::Workload, &it.name),
            Self::Target(it) => Key::new(Kind::Target, &it.name),
            Self::Node(it) => Key::new(Kind::Node, &it.name),
            Self::Session(it) => Key::new(Kind::Session, &it.node),
            Self::Placement(it) => Key::new(Kind::Placement, it.generation.to_string()),
            Self::Observed(it) => Key::new(Kind::Observed, it.generation.to_string()),
            Self::Order(it) => Key::new(Kind::Order, &it.id),
            Self::Token(it) => Key::new(Kind::Token, &it.id),
            Self::Webhook(it) => Key::new(Kind::Webhook, &it.name),
            Self::WebhookCursor(it) => Key::new(Kind::WebhookCursor, &it.name),
            Self::Stack(it) => Key::new(Kind::Stack, &it.name),
            Self::DeploymentObject(it) => Key::new(Kind::DeploymentObject, &it.id),
            Self::KubeAgent(it) => Key::new(Kind::KubeAgent, &it.name),
            Self::KubeSeen(it) => Key::new(Kind::KubeSeen, &it.agent_id),
            Self::ObjectHealth(it) => {
                Key::new(Kind::ObjectHealth, format!("{}/{}", it.object_id, it.agent_id))
            }
            Self::Diagnostics(it) => Key::new(Kind::Diagnostics, &it.id),
        }
    }
}

impl Record {
    /// As it is kept: the same record always has the same text.
    pub(crate) fn to_json(&self) -> String {
        match self {
            Self::Cluster(it) => to_text(it),
            Self::Server(it) => to_text(it),
            Self::Workload(it) => to_text(it),
            Self::Target(it) => to_text(it),
            Self::Node(it) => to_text(it),
            Self::Session(it) => to_text(it),
            Self::Placement(it) => to_text(it),
            Self::Observed(it) => to_text(it),
            Self::Order(it) => to_text(it),
            Self::Token(it) => to_text(it),
            Self::Webhook(it) => to_text(it),
            Self::WebhookCursor(it) => to_text(it),
            Self::Stack(it) => to_text(it),
            Self::DeploymentObject(it) => to_text(it),
            Self::KubeAgent(it) => to_text(it),
            Self::KubeSeen(it) => to_text(it),
            Self::ObjectHealth(it) => to_text(it),
            Self::Diagnostics(it) => to_text(it),
        }
    }

    /// The other way round.
    pub(crate) fn from_json(kind: Kind, text: &str) -> serde_json::Result<Self> {
        use serde_json::from_str;
        Ok(match kind {
            Kind::Cluster => Self::Cluster(from_str(text)?),
            Kind::Server => Self::Server(from_str(text)?),
            Kind::Workload => Self::Workload(from_str(text)?),
            Kind::Target => Self::Target(from_str(text)?),
            Kind::Node => Self::Node(from_str(text)?),
            Kind::Session => Self::Session(from_str(text)?),
            Kind::Placement => Self::Placement(from_str(text)?),
            Kind::Observed => Self::Observed(from_str(text)?),
            Kind::Order => Self::Order(from_str(text)?),
            Kind::Token => Self::Token(from_str(text)?),
            Kind::Webhook => Self::Webhook(from_str(text)?),
            Kind::WebhookCursor => Self::WebhookCursor(from_str(text)?),
            Kind::Stack => Self::Stack(from_str(text)?),
            Kind::DeploymentObject => Self::DeploymentObject(from_str(text)?),
            Kind::KubeAgent => Self::KubeAgent(from_str(text)?),
            Kind::KubeSeen => Self::KubeSeen(from_str(text)?),
            Kind::ObjectHealth => Self::ObjectHealth(from_str(text)?),
            Kind::Diagnostics => Self::Diagnostics(from_str(text)?),
        })
    }
}

/// One thing that a write changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Takes the place of the record of its key, if there is one.
    Put(Record),
    /// Takes the record of this key away, if there is one, and the text beside it.
    Delete(Key),
    /// Puts a large text beside the record of this key, in the place of the one before. It is no part of the feed.
    Text(Key, String),
    /// Appends an event; it gets its id in the commit.
    Event(Box<NewEvent>),
    /// Appends an audit record.
    Audit(Box<AuditRecord>),
}

/// What must hold when a write is committed; else nothing of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// This lease is still held under this number.
    Lease {
        /// Its name.
        name: String,
        /// The number it was taken under.
        number: u64,
    },
    /// The record was not changed after this revision, and is there.
    Unchanged {
        /// Which.
        key: Key,
        /// The revision that it was read at.
        revision: u64,
    },
    /// There is no such record.
    Absent(Key),
}

/// Changes that become durable together or not at all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Write {
    /// In order.
    pub changes: Vec<Change>,
    /// All of them must hold.
    pub guards: Vec<Guard>,
}

/// What a commit gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Of every record that it changed.
    pub revision: u64,
    /// The id of the newest event up to it.
    pub last_event: u64,
}

/// Why a write was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A guard did not hold: read again, decide again.
    #[error("{what} has changed meanwhile")]
    Conflict {
        /// What did not hold, in words.
        what: String,
    },
    /// The database takes nothing now, and too much waits: nothing was written.
    #[error("the database takes nothing now: {0}")]
    Unavailable(String),
    /// The database does not take this one, now or later: nothing of it was written.
    #[error("the database refuses this: {0}")]
    Refused(String),
    /// The store was closed; whether it was written is known by reading.
    #[error("the database is closed: hale is shutting down")]
    Closed,
}

/// A record as it was committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned {
    /// When it was last changed.
    pub revision: u64,
    /// Its key.
    pub key: Key,
    /// `None`: it was deleted.
    pub record: Option<Record>,
}

/// Records that changed after a revision, in the order of their commits.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// Up to which all are here.
    pub revision: u64,
    /// The epoch of the cluster did not allow to answer from there (restored, or too long ago): these are all records
    /// there are, and what is not among them is gone.
    pub reset: bool,
    /// What changed; of a record that changed twice, the last.
    pub records: Vec<Versioned>,
}

/// The right to do what only one server may do at a time (S3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its name: `placement`, `webhooks`, `retention`, or a server's own.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// Rises with every change of the holder: stands in every write that it allows.
    pub number: u64,
    /// How long it lasts from now, by the database's clock, milliseconds.
    pub left_ms: u64,
}
