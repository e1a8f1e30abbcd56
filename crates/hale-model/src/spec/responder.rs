//! Responders: where alerts come from, which deserve a run of a program, and how much of that there may be (R1–R11).

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use hale_health::UnknownWord;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Maintenance;

/// How much an alert matters, as its sender sees it (R4).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AlertSeverity {
    /// For those who look for a mistake.
    Debug,
    /// As expected.
    Info,
    /// Worth a look.
    #[default]
    Warning,
    /// Something is broken.
    Error,
    /// Something is broken that people wait for.
    Critical,
}

impl AlertSeverity {
    /// All of them, from the least.
    pub const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl std::str::FromStr for AlertSeverity {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|it| it.as_str() == word).ok_or(UnknownWord)
    }
}

/// Takes alerts from sources, and runs programs on those that deserve it.
#[derive(Debug, Clone, PartialEq)]
pub struct Responder {
    /// Its name.
    pub name: String,
    /// Where alerts come from; their names are unique.
    pub sources: Vec<Source>,
    /// The first that matches an alert takes it.
    pub rules: Vec<Rule>,
    /// How much it may do.
    pub limits: ResponderLimits,
    /// The digest of the declaration.
    pub digest: String,
}

/// Where alerts come from (R1).
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The cluster it speaks for.
    pub name: String,
    /// What rules can match on.
    pub labels: BTreeMap<String, String>,
    /// What programs get as `KUBECONFIG`; absolute.
    pub kubeconfig: Option<PathBuf>,
    /// How it is spoken to.
    pub kind: SourceKind,
}

/// How a source is spoken to.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// A Model Context Protocol server over Streamable HTTP (R2).
    Mcp(McpSource),
    /// A hale server's event stream.
    Hale(HaleSource),
    /// Any SSE stream of JSON.
    Sse(SseSource),
    /// A listener for what others send.
    Webhook(WebhookSource),
}

impl SourceKind {
    /// The word for it: `mcp`, `hale`, `sse`, `webhook`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Mcp(_) => "mcp",
            Self::Hale(_) => "hale",
            Self::Sse(_) => "sse",
            Self::Webhook(_) => "webhook",
        }
    }
}

/// A server somewhere, and what is shown and trusted there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// `http://` or `https://`.
    pub url: String,
    /// A file with the token that is sent as `Authorization: Bearer`; absolute.
    pub token_file: Option<PathBuf>,
    /// A file of certificates to trust beside the system's; absolute.
    pub ca_file: Option<PathBuf>,
}

/// See [`SourceKind::Mcp`].
#[derive(Debug, Clone, PartialEq)]
pub struct McpSource {
    /// Where it is; the whole URL, with its path.
    pub remote: Remote,
    /// What is subscribed to: `faults` (default) or `events`.
    pub mode: String,
    /// Only these namespaces; empty: all.
    pub namespaces: Vec<String>,
    /// Further arguments of the subscription, as they are: `{"labelSelector": "app=shop"}`.
    pub filters: serde_json::Map<String, serde_json::Value>,
}

/// See [`SourceKind::Hale`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaleSource {
    /// Where it is; absent: the hale that the responder is a part of.
    pub remote: Option<Remote>,
}

/// See [`SourceKind::Sse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseSource {
    /// Where it is.
    pub remote: Remote,
    /// Where in each message the parts of an alert stand.
    pub fields: SseFields,
}

/// JSON pointers (RFC 6901) into a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseFields {
    /// The severity's word; absent: `warning`.
    pub severity: Option<String>,
    /// What kind of fault it is.
    pub fault_type: Option<String>,
    /// The kind of the resource.
    pub kind: Option<String>,
    /// The name of the resource.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// A sentence for people.
    pub message: Option<String>,
    /// When it happened, RFC 3339.
    pub timestamp: Option<String>,
    /// True, or `resolved`, where the message says that all is well again.
    pub resolved: Option<String>,
}

/// See [`SourceKind::Webhook`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSource {
    /// Where it listens; port 0 picks one.
    pub listen: SocketAddr,
    /// The path; default `/`.
    pub path: String,
    /// A file with the token that a sender must show as `Authorization: Bearer`; absolute.
    pub token_file: Option<PathBuf>,
    /// A file with the key of the HMAC-SHA256 over the body, in hex in `X-Hub-Signature-256` or
    /// `X-Hale-Signature` as `sha256=…`; absolute.
    pub hmac_file: Option<PathBuf>,
}

/// Which alerts deserve which program (R4, R8, R10, R11).
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, unique among the responder's.
    pub name: String,
    /// Which alerts it takes.
    pub matches: Match,
    /// What is run.
    pub run: Program,
    /// Whether it is run.
    pub autonomy: Autonomy,
    /// How long a run waits for a person before it expires.
    pub approval_timeout: Duration,
    /// When a run counts as a success, beside its exit status 0.
    pub success: SuccessWhen,
    /// What is done, one after the other, when a run was no success.
    pub escalate: Vec<Step>,
}

/// Which alerts. What is empty matches everything; texts are globs with `*` and `?`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Match {
    /// At least so severe.
    pub severity: AlertSeverity,
    /// Names of sources.
    pub clusters: Vec<String>,
    /// Labels of the source or the alert; the values are globs.
    pub labels: BTreeMap<String, String>,
    /// Kinds of faults.
    pub fault_types: Vec<String>,
    /// Kinds of resources.
    pub kinds: Vec<String>,
    /// Namespaces; an alert without one matches none of them.
    pub namespaces: Vec<String>,
    /// Names of resources.
    pub names: Vec<String>,
    /// When the rule takes alerts: within one of these; empty: always.
    pub schedule: Vec<Maintenance>,
}

/// What arguments, the environment and prompts of a [`Program`] may name as `$(NAME)` (R8), beside
/// [`LABEL_PLACEHOLDER`].
pub const PLACEHOLDERS: [&str; 15] = [
    "HALE_RUN_ID",
    "HALE_CLUSTER",
    "HALE_WORKSPACE",
    "HALE_SEVERITY",
    "HALE_FAULT_TYPE",
    "HALE_KIND",
    "HALE_NAME",
    "HALE_NAMESPACE",
    "HALE_UID",
    "HALE_MESSAGE",
    "HALE_RULE",
    "HALE_STEP",
    "HALE_PROMPT",
    "HALE_PROMPT_FILE",
    "HALE_ALERT_FILE",
];

/// Before the name of a label of the alert: `$(HALE_LABEL_app)`.
pub const LABEL_PLACEHOLDER: &str = "HALE_LABEL_";

/// Whether a name is one of [`PLACEHOLDERS`] or that of a label.
#[must_use]
pub fn is_placeholder(name: &str) -> bool {
    PLACEHOLDERS.contains(&name) || name.strip_prefix(LABEL_PLACEHOLDER).is_some_and(|it| !it.is_empty())
}

/// A program with its arguments (R8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The argument vector, with placeholders such as `$(HALE_CLUSTER)`. The program itself is absolute, or a bare name
    /// that is looked for in `PATH`.
    pub command: Vec<String>,
    /// How long it may run; absent: the responder's `--run-timeout` (R9).
    pub timeout: Option<Duration>,
    /// Its environment, with placeholders in values.
    pub env: BTreeMap<String, String>,
    /// Variables of the responder's own that it gets.
    pub pass_env: Vec<String>,
    /// The user it runs as; absent: the responder's.
    pub user: Option<String>,
    /// A template of `prompt.md`, absolute; absent: a plain one.
    pub prompt_file: Option<PathBuf>,
    /// What it gets on its standard input.
    pub stdin: Stdin,
    /// The most bytes of each of its outputs that are kept.
    pub max_output: u64,
}

/// What a program gets on its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdin {
    /// The alert as JSON.
    #[default]
    Alert,
    /// The text of `prompt.md`.
    Prompt,
    /// Nothing.
    None,
}

/// Whether a rule's program is run (R11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Autonomy {
    /// It is written down what would run.
    Observe,
    /// It is run once a person says so.
    Approve,
    /// It is run.
    #[default]
    Act,
}

/// When a run is a success (R10).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SuccessWhen {
    /// A file it must have made.
    pub artifact: Option<ArtifactRule>,
    /// The resource must be healthy within so long after the run.
    pub recovered_within: Option<Duration>,
    /// A program that tells by exit status 0 that the resource is healthy; absent: the source tells.
    pub recovered_when: Option<Program>,
}

/// A file that a run must have made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactRule {
    /// Relative to the workspace, without `..`.
    pub path: PathBuf,
    /// It has at least so many bytes.
    pub min_bytes: u64,
}

/// One step of an escalation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Another program.
    Program(Box<Program>),
    /// A POST of the run's record as JSON.
    Webhook(Remote),
}

/// What a full queue does with one more (R5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overflow {
    /// The oldest gives way.
    #[default]
    DropOldest,
    /// The new one is refused.
    Reject,
}

/// How much a responder may do (R4–R7).
#[derive(Debug, Clone, PartialEq)]
pub struct ResponderLimits {
    /// Runs at once.
    pub max_concurrent_runs: u32,
    /// Runs at once of one cluster.
    pub max_per_cluster: u32,
    /// Alerts that wait, of one cluster.
    pub queue_size: u32,
    /// Alerts that wait, of all clusters.
    pub global_queue_size: u32,
    /// What a full queue does.
    pub overflow: Overflow,
    /// How long an alert may wait; absent: the responder's `--max-queue-age`.
    pub max_queue_age: Option<Duration>,
    /// For so long an alert of the same fingerprint is a duplicate.
    pub duplicate_window: Duration,
    /// Failed runs in a row that open the breaker.
    pub failure_breaker: u32,
    /// How long that stays open before one probe run is let through.
    pub failure_breaker_reset: Duration,
    /// Runs an hour, of one cluster; absent: no limit.
    pub runs_per_hour: Option<u32>,
    /// Cost units an hour, of one cluster, as programs report them; absent: no limit.
    pub cost_per_hour: Option<f64>,
    /// How long workspaces are kept.
    pub keep_workspaces: Duration,
    /// The most bytes of all workspaces; the oldest go first.
    pub workspace_bytes: u64,
}

impl Default for ResponderLimits {
    fn default() -> Self {
        Self {
            max_concurrent_runs: 5,
            max_per_cluster: 1,
            queue_size: 10,
            global_queue_size: 100,
            overflow: Overflow::DropOldest,
            max_queue_age: None,
            duplicate_window: Duration::from_secs(300),
            failure_breaker: 3,
            failure_breaker_reset: Duration::from_secs(60),
            runs_per_hour: None,
            cost_per_hour: None,
            keep_workspaces: Duration::from_secs(7 * 24 * 60 * 60),
            workspace_bytes: 1 << 30,
        }
    }
}
