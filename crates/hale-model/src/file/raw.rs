//! The documents as they are written. Doc comments here are what editors show (JSON Schema).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    de::Field,
    raw_container::RawContainer,
    raw_probe::{RawDns, RawGrpc, RawHttpGet, RawProbe, RawTcpSocket, RawTls},
    raw_target::{RawFailureWindow, RawMaintenance, RawTargetsFrom},
    scalar::{Limit, Many, Seconds, Size, Span, SpanOrOff, Text},
};

/// The kind of a workload.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(super) enum WorkloadKind {
    Workload,
}

/// The kind of a target.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(super) enum TargetKind {
    Target,
}

/// The version of the format; absent means v1.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ApiVersion {
    V1,
}

/// What to run, how many replicas of it, and how to keep it healthy.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping of the fields of a workload"
)]
#[schemars(rename = "Workload", extend("required" = ["kind", "name"], "oneOf" = [{"required": ["process"]}, {"required": ["container"]}]))]
pub(super) struct RawWorkload {
    pub(super) api_version: Field<ApiVersion>,
    pub(super) kind: Field<WorkloadKind>,
    /// Its name: lower case letters, digits and dashes, at most 63.
    pub(super) name: Field<Text>,
    /// How many replicas are wanted. Default: 1.
    pub(super) replicas: Field<u16>,
    /// A process of this machine; or `container`.
    pub(super) process: Field<RawProcess>,
    /// A container of an engine on this machine (Docker, Podman); or `process`.
    pub(super) container: Field<RawContainer>,
    /// The ports of a replica. Each is given to a process as `PORT_<NAME>`, the first one as `PORT`.
    pub(super) ports: Field<Vec<Field<RawPort>>>,
    /// Limits of a replica.
    pub(super) resources: Field<RawResources>,
    /// Holds the other two back until it has succeeded; if it does not in time, the replica is restarted.
    pub(super) startup_probe: Field<RawProbe>,
    /// Restarts the replica after `failureThreshold` failures in a row.
    pub(super) liveness_probe: Field<RawProbe>,
    /// Takes the replica out of traffic and back; never restarts it.
    pub(super) readiness_probe: Field<RawProbe>,
    /// Whether and how a replica that ended is started again.
    pub(super) restart: Field<RawRestart>,
    /// Liveness restarts never take the ready replicas below this. Default: replicas - 1.
    pub(super) min_available: Field<u32>,
    /// Restarts caused by probes that may go on at once. Default: a quarter of the replicas, at least 1.
    pub(super) max_concurrent_restarts: Field<u32>,
    /// The longest a restart is held back by the two above. Default: 10m.
    pub(super) max_hold: Field<Span>,
    /// When a replica that keeps turning not ready is held out of traffic.
    pub(super) flapping: Field<RawFlapping>,
    /// What happens when the node is cut off.
    pub(super) disconnect: Field<RawDisconnect>,
    /// Where its replicas may run.
    pub(super) placement: Field<RawPlacement>,
    /// Times of a rolling restart or update.
    pub(super) rollout: Field<RawRollout>,
    /// Workloads or targets that must be healthy before this one starts.
    pub(super) depends_on: Field<Many<Field<Text>>>,
    /// The longest wait for requests in flight before the stop signal. Default: 5 with a service, else 0.
    pub(super) drain_seconds: Field<Seconds>,
    /// The signal that asks a replica to stop. Default: SIGTERM.
    pub(super) stop_signal: Field<Text>,
    /// From the stop signal to SIGKILL. Default: 30.
    pub(super) termination_grace_period_seconds: Field<Seconds>,
    /// `observe` records what probes would have caused, and does none of it. Default: act.
    pub(super) mode: Field<RawMode>,
    /// The name and address under which the ready replicas are reached.
    pub(super) service: Field<RawService>,
}

/// A process of this machine.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {command: [\"./web\"]}"
)]
#[schemars(rename = "Process", extend("required" = ["command"]))]
pub(super) struct RawProcess {
    /// The program and its arguments. `$(NAME)` stands for the environment variable NAME. No shell is involved.
    pub(super) command: Field<Vec<Text>>,
    /// Environment variables.
    pub(super) env: Field<BTreeMap<String, Field<Text>>>,
    /// Environment variables whose values are never shown.
    pub(super) secret_env: Field<BTreeMap<String, Field<Text>>>,
    /// Files of `NAME=value` lines.
    pub(super) env_from: Field<Many<Field<RawEnvFrom>>>,
    /// The working directory, relative to this file. Default: the directory of this file.
    pub(super) working_dir: Field<Text>,
    /// The user to run as, by name or number.
    pub(super) user: Field<Text>,
    /// The group to run as, by name or number.
    pub(super) group: Field<Text>,
    /// Limits by name, such as nofile: one number, or soft and hard.
    pub(super) ulimits: Field<BTreeMap<String, Field<RawUlimit>>>,
}

/// A file of `NAME=value` lines.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping such as {file: ./web.env}")]
#[schemars(rename = "EnvFrom", extend("required" = ["file"]))]
pub(super) struct RawEnvFrom {
    /// The file, relative to this one.
    pub(super) file: Field<Text>,
}

/// A limit: a number (`1024`, `64Mi`, `unlimited`) or soft and hard (`[1024, 4096]`).
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Ulimit")]
pub(super) struct RawUlimit(pub(super) Many<Limit>);

/// A port of a replica.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {name: http, port: 0}"
)]
#[schemars(rename = "Port", extend("required" = ["name"]))]
pub(super) struct RawPort {
    /// Its name.
    pub(super) name: Field<Text>,
    /// Its number; 0 (the default): hale picks a free one per replica. Of a container: the number inside, never 0.
    pub(super) port: Field<u16>,
    /// The port of this machine that a container's is published on; 0: hale picks a free one per replica. Default:
    /// not published, the replica is reached by the container's own address.
    pub(super) host_port: Field<u16>,
}

/// Limits of a replica.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping such as {memory: 256Mi, cpu: 0.5}")]
#[schemars(rename = "Resources")]
pub(super) struct RawResources {
    /// Memory, such as 256Mi.
    pub(super) memory: Field<Size>,
    /// CPUs, such as 0.5.
    pub(super) cpu: Field<f64>,
}

/// Whether a replica that ended is started again.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawPolicy {
    Always,
    OnFailure,
    Never,
}

/// A set of restart defaults.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawPreset {
    /// 5 restarts in 5 minutes.
    Cluster,
}

/// What happens when the budget is used up.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawExhausted {
    Fail,
    Wait,
}

/// Which restarts count.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawCounts {
    All,
    Short,
}

/// Whether and how a replica that ended is started again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {policy: always}"
)]
#[schemars(rename = "Restart")]
pub(super) struct RawRestart {
    /// A set of defaults for the rest: `cluster` is 5 restarts in 5 minutes.
    pub(super) preset: Field<RawPreset>,
    /// Default: always (after exit 0 too).
    pub(super) policy: Field<RawPolicy>,
    /// At most so many restarts in `restartWindow`. Default: 10.
    pub(super) max_restarts: Field<u32>,
    /// The sliding window of the budget. Default: 10m.
    pub(super) restart_window: Field<Span>,
    /// How long a run must have been healthy for its restart to have succeeded. Default: 10s.
    pub(super) min_uptime: Field<Span>,
    /// The wait before the first restart. Default: 1s.
    pub(super) initial_backoff: Field<Span>,
    /// The longest wait. Default: 60s.
    pub(super) max_backoff: Field<Span>,
    /// What each wait is multiplied by to give the next. Default: 2.
    pub(super) backoff_multiplier: Field<f64>,
    /// The share of the wait that chance may add or take, 0 to 1. Default: 0.
    pub(super) backoff_jitter: Field<f64>,
    /// `fail` gives the replica up, `wait` holds it until the window frees a slot. Default: fail.
    pub(super) on_exhausted: Field<RawExhausted>,
    /// `short`: only restarts after runs shorter than `minUptime` count. Default: all.
    pub(super) budget_counts: Field<RawCounts>,
    /// Exit codes after which a restart is pointless. Default: [125].
    pub(super) permanent_failure_codes: Field<Vec<i32>>,
    /// One attempt per interval once the replica was given up. Default: off.
    pub(super) retry_after: Field<SpanOrOff>,
}

/// When a replica that keeps turning not ready is held out of traffic.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {suppress: 6}"
)]
#[schemars(rename = "Flapping")]
pub(super) struct RawFlapping {
    /// Above this penalty it is held out. Default: 6.
    pub(super) suppress: Field<f64>,
    /// Below this one it comes back. Default: 2.
    pub(super) reuse: Field<f64>,
    /// In this time the penalty halves. Default: 2m.
    pub(super) half_life: Field<Span>,
    /// After so long it comes back whatever the penalty. Default: 10m.
    pub(super) max_hold: Field<Span>,
}

/// What happens when the node is cut off.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {replaceAfter: 10s}"
)]
#[schemars(rename = "Disconnect")]
pub(super) struct RawDisconnect {
    /// After so long another node gets the replica. Default: 10s.
    pub(super) replace_after: Field<SpanOrOff>,
    /// After so long without a server the node stops it. Default: off.
    pub(super) stop_after: Field<SpanOrOff>,
}

/// Where its replicas may run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {nodeSelector: {disk: ssd}}"
)]
#[schemars(rename = "Placement")]
pub(super) struct RawPlacement {
    /// Labels that a node must have, each with this value. Default: none.
    pub(super) node_selector: Field<BTreeMap<String, Field<Text>>>,
}

/// Times of a rolling restart or update.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {progressDeadline: 10m}"
)]
#[schemars(rename = "Rollout")]
pub(super) struct RawRollout {
    /// How long a new replica must have been ready to count. Default: 0.
    pub(super) min_ready_seconds: Field<Seconds>,
    /// The longest a replica may take to become ready. Default: 10m.
    pub(super) progress_deadline: Field<Span>,
    /// New replicas that may run beside the old ones. Default: 1.
    pub(super) max_surge: Field<u32>,
    /// Whether an update that does not make it in time is taken back. Default: true.
    pub(super) auto_rollback: Field<bool>,
}

/// Whether probe verdicts are acted on.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawMode {
    Act,
    Observe,
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawProtocol {
    Http,
    #[schemars(skip)]
    Tcp,
}

/// How requests are spread over ready replicas.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawBalance {
    LeastRequest,
    RoundRobin,
}

/// The name and address under which the ready replicas are reached.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {name: web, port: http, listen: \"127.0.0.1:8080\"}"
)]
#[schemars(rename = "Service")]
pub(super) struct RawService {
    /// Its name. Default: the workload's.
    pub(super) name: Field<Text>,
    /// Which port of the replicas, by name. Default: the only one.
    pub(super) port: Field<Text>,
    /// Where the gateway listens for it: address and port.
    pub(super) listen: Field<Text>,
    /// What is spoken. Default: http.
    pub(super) protocol: Field<RawProtocol>,
    /// How requests are spread. Default: least-request.
    pub(super) balance: Field<RawBalance>,
    /// Below this percentage of ready replicas all get traffic. Default: 0 (off).
    #[schemars(range(max = 100))]
    pub(super) panic_threshold: Field<u8>,
    /// For so long the share of a new replica rises. Default: 0 (off).
    pub(super) slow_start_seconds: Field<Seconds>,
}

/// An endpoint that hale probes but does not run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping of the fields of a target"
)]
#[schemars(rename = "Target", extend("required" = ["kind", "name"]))]
pub(super) struct RawTarget {
    pub(super) api_version: Field<ApiVersion>,
    pub(super) kind: Field<TargetKind>,
    /// Its name: lower case letters, digits and dashes, at most 63.
    pub(super) name: Field<Text>,
    /// An HTTP request.
    pub(super) http_get: Field<RawHttpGet>,
    /// A TCP connection.
    pub(super) tcp_socket: Field<RawTcpSocket>,
    /// The gRPC health service.
    pub(super) grpc: Field<RawGrpc>,
    /// A question to a name server.
    pub(super) dns: Field<RawDns>,
    /// A TLS handshake and a look at the certificate.
    pub(super) tls: Field<RawTls>,
    #[schemars(skip)]
    pub(super) exec: Field<serde_json::Value>,
    #[schemars(skip)]
    pub(super) from: Field<serde_json::Value>,
    #[schemars(skip)]
    pub(super) all_of: Field<serde_json::Value>,
    #[schemars(skip)]
    pub(super) any_of: Field<serde_json::Value>,
    /// A list that its targets come from; the check is a template then, without host and port.
    pub(super) targets_from: Field<RawTargetsFrom>,
    /// From the start of one check to the start of the next. Default: 15.
    pub(super) period_seconds: Field<Seconds>,
    /// The longest one check may take. Default: 2.
    pub(super) timeout_seconds: Field<Seconds>,
    /// Successes in a row that turn it healthy. Default: 1.
    pub(super) success_threshold: Field<u32>,
    /// Failures in a row that turn it failing. Default: 3.
    pub(super) failure_threshold: Field<u32>,
    /// In place of failures in a row: so many among the last outcomes.
    pub(super) failure_window: Field<RawFailureWindow>,
    /// The period while a verdict is being made. Default: periodSeconds.
    pub(super) fast_period_seconds: Field<Seconds>,
    /// Times of the week in which it is paused. Default: none.
    pub(super) maintenance: Field<Many<Field<RawMaintenance>>>,
    /// Labels that stand on its events. Default: none.
    pub(super) labels: Field<BTreeMap<String, Field<Text>>>,
    /// From the start of hale to the first check. Default: 0.
    pub(super) initial_delay_seconds: Field<Seconds>,
}
