//! Agents of clusters: who they are, and what they are told (K1).

use std::collections::{BTreeMap, BTreeSet};

use hale_model::cluster::KubeMode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of `POST /api/v1/agents/register`: what an agent says of itself. Its name is the one its token is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KubeAgentRegistration {
    /// Its release.
    pub version: String,
    /// In words of people; taken only where the server has none from a person.
    pub labels: BTreeMap<String, String>,
    /// Whether it watches health.
    pub health_enabled: bool,
    /// Whether it collects diagnostics.
    pub diagnostics_enabled: bool,
    /// It reports at least so often.
    pub check_interval_seconds: u32,
    /// It is silent after so long; three times its check interval when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_after_seconds: Option<u32>,
    /// Whether it changes its cluster; taken only where no person has said.
    pub mode: KubeMode,
    /// Stacks that it wants, by name; taken only where no person has said.
    pub stacks: BTreeSet<String>,
    /// It wants stacks with all of these labels, too; taken only where no person has said.
    pub match_labels: BTreeMap<String, String>,
}

impl Default for KubeAgentRegistration {
    fn default() -> Self {
        Self {
            version: String::new(),
            labels: BTreeMap::new(),
            health_enabled: true,
            diagnostics_enabled: true,
            check_interval_seconds: 60,
            stale_after_seconds: None,
            mode: KubeMode::Apply,
            stacks: BTreeSet::new(),
            match_labels: BTreeMap::new(),
        }
    }
}

/// What registering gives: what holds now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KubeAgentRegistered {
    /// Its id.
    pub agent_id: String,
    /// Its name.
    pub name: String,
    /// Whether it changes its cluster.
    pub mode: KubeMode,
    /// It is called silent after so long.
    pub stale_after_seconds: u32,
}

/// The body of `PATCH /api/v1/agents/{id}`: what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubeAgentPatch {
    /// Whether it changes its cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<KubeMode>,
    /// Stacks that it is given, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stacks: Option<BTreeSet<String>>,
    /// It is given stacks with all of these labels, too; empty: none by labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// In words of people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// The agent of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KubeAgent {
    /// A random id.
    pub id: String,
    /// The name its token is for.
    pub name: String,
    /// In words of people.
    pub labels: BTreeMap<String, String>,
    /// Whether it changes its cluster.
    pub mode: KubeMode,
    /// Stacks that it is given by name.
    pub stacks: BTreeSet<String>,
    /// It is given stacks with all of these labels, too.
    pub match_labels: BTreeMap<String, String>,
    /// Its release.
    pub version: String,
    /// Whether it watches health.
    pub health_enabled: bool,
    /// Whether it collects diagnostics.
    pub diagnostics_enabled: bool,
    /// It reports at least so often.
    pub check_interval_seconds: u32,
    /// It is silent after so long.
    pub stale_after_seconds: u32,
    /// When it first registered.
    pub registered_at: Timestamp,
    /// When it was last heard, as far as this server knows.
    pub last_seen: Option<Timestamp>,
    /// Whether it is silent.
    pub silent: bool,
}

/// What an agent is to see to: of each of its stacks the newest deployment object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Desired {
    /// Changes with what is desired of this agent, and with nothing else. What to ask `after`.
    pub revision: String,
    /// Whether it changes its cluster.
    pub mode: KubeMode,
    /// By name.
    pub stacks: Vec<DesiredStack>,
}

/// A stack that an agent is to see to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DesiredStack {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its newest deployment object; none before the first.
    pub objects: Vec<DesiredObject>,
}

/// A deployment object that an agent is to see to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DesiredObject {
    /// Its id: the value of the label `hale.dev/deployment-object-id`.
    pub id: String,
    /// Rises within its stack.
    pub sequence: u64,
    /// SHA-256 of the text, in hex.
    pub checksum: String,
    /// The manifests.
    pub yaml: String,
    /// Whether what was applied of its stack is to go.
    pub deletion_marker: bool,
}

/// The query of `GET /api/v1/agents/{agent_id}/desired`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DesiredQuery {
    /// The revision that is known: the answer waits for another one, as long as `wait` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How long to wait for a change: `30s`, at most; at once when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}
