//! What comes from sources, before and after it is believed.

use std::collections::BTreeMap;

use hale_api::runs::{Alert, Resource};
use jiff::Timestamp;

/// An alert as its sender tells it; nothing of it is believed yet (R4).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawAlert {
    /// What its sender calls it.
    pub source_id: Option<String>,
    /// The severity's word as it came; absent: `warning`.
    pub severity: Option<String>,
    /// What kind of fault.
    pub fault_type: String,
    /// What it is about.
    pub resource: Resource,
    /// A sentence for people.
    pub message: String,
    /// Its own labels, beside those of the source.
    pub labels: BTreeMap<String, String>,
    /// All that was told.
    pub context: serde_json::Value,
    /// When it happened; absent: now.
    pub timestamp: Option<Timestamp>,
}

/// What makes two alerts the same (R4): cluster, kind of fault, and kind, namespace and name of the resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint {
    /// The cluster.
    pub cluster: String,
    /// What kind of fault.
    pub fault_type: String,
    /// What it is about.
    pub resource: ResourceKey,
}

/// A resource within its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl From<&Resource> for ResourceKey {
    fn from(resource: &Resource) -> Self {
        Self {
            kind: resource.kind.clone(),
            namespace: resource.namespace.clone(),
            name: resource.name.clone(),
        }
    }
}

impl Fingerprint {
    /// Of an alert.
    #[must_use]
    pub fn of(alert: &Alert) -> Self {
        Self {
            cluster: alert.cluster.clone(),
            fault_type: alert.fault_type.clone(),
            resource: (&alert.resource).into(),
        }
    }
}
