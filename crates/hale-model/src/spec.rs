//! Workloads and targets as validated values: what the rest of hale works with once a file was found right.

mod outside;
mod responder;
mod target;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use hale_health::{ProbeTiming, ReplicaPolicy, WorkloadPolicy};
use serde::{Deserialize, Serialize};

pub use self::{
    outside::{Dns, DnsCode, DnsTransport, RecordType, Tls},
    responder::*,
    target::{ListEntry, ListSource, Maintenance, Target, TargetList, in_maintenance},
};

/// A named specification: what to run, how many replicas, probes, restart policy, ports.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// A DNS label (RFC 1123).
    pub name: String,
    /// How many replicas are wanted.
    pub replicas: u32,
    /// What runs a replica.
    pub run: Run,
    /// The ports of a replica.
    pub ports: Vec<Port>,
    /// Limits.
    pub resources: Resources,
    /// The startup probe.
    pub startup: Option<Probe>,
    /// The liveness probe.
    pub liveness: Option<Probe>,
    /// The readiness probe.
    pub readiness: Option<Probe>,
    /// What one replica's lifecycle is decided by; its probe timings are those of the three probes.
    pub policy: ReplicaPolicy,
    /// What holds for the replicas together.
    pub together: WorkloadPolicy,
    /// Workloads or targets that must be healthy before this one starts (H21).
    pub depends_on: Vec<String>,
    /// The stop signal's number; 15 (SIGTERM) by default.
    pub stop_signal: i32,
    /// The name it is reached under.
    pub service: Option<Service>,
    /// Times of a rolling restart or update.
    pub rollout: Rollout,
    /// What happens when its node is not heard of any more.
    pub disconnect: Disconnect,
    /// Labels that its nodes must have (S7).
    pub node_selector: BTreeMap<String, String>,
    /// SHA-256 over the canonical form of what was declared, in hex: tells whether it changed.
    pub digest: String,
}

impl Workload {
    /// The name of one of its replicas: `web-0`.
    #[must_use]
    pub fn replica_name(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// Whether changing it to `new` takes new instances; other changes (probes, thresholds, policy, number) take effect
    /// on those that run.
    #[must_use]
    pub fn takes_new_instance(&self, new: &Self) -> bool {
        self.run != new.run || self.ports != new.ports || self.resources != new.resources
    }

    /// The ports of a node that one replica takes for itself: two of it can't be on one node.
    pub fn fixed_ports(&self) -> impl Iterator<Item = u16> {
        let on_host = match &self.run {
            Run::Process(_) => true,
            Run::Container(container) => container.network.as_deref() == Some("host"),
        };
        self.ports
            .iter()
            .filter_map(move |it| if on_host { Some(it.port) } else { it.host_port })
            .filter(|it| *it != 0)
    }

    /// The port of this name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }
}

/// What runs a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// A process of this machine.
    Process(Process),
    /// A container of an engine on this machine (Docker, Podman).
    Container(Container),
}

impl Run {
    /// The name of the runtime in status, events and files.
    #[must_use]
    pub const fn runtime(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::Container(_) => "container",
        }
    }

    /// What is run, where it is a process.
    #[must_use]
    pub const fn as_process(&self) -> Option<&Process> {
        match self {
            Self::Process(process) => Some(process),
            Self::Container(_) => None,
        }
    }

    /// What is run, where it is a container.
    #[must_use]
    pub const fn as_container(&self) -> Option<&Container> {
        match self {
            Self::Container(container) => Some(container),
            Self::Process(_) => None,
        }
    }
}

/// The limits of `setrlimit(2)` that can be asked for (`ulimits`). `as` is for processes alone: engines can't set it.
pub const ULIMITS: [&str; 15] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// A container of an engine on this machine (N5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Where it comes from.
    pub from: ContainerFrom,
    /// Replaces the entry point of the image; empty: the image's own. `$(NAME)` as for a process.
    pub command: Vec<String>,
    /// Replaces the arguments of the image; empty: the image's own, or none when `command` is given.
    pub args: Vec<String>,
    /// Environment, added to that of the image.
    pub env: BTreeMap<String, String>,
    /// Environment whose values are never shown.
    pub secret_env: BTreeMap<String, String>,
    /// Files of `NAME=value` lines, absolute.
    pub env_from: Vec<PathBuf>,
    /// The working directory inside; the image's own when absent.
    pub working_dir: Option<String>,
    /// The user to run as inside, `user[:group]`; the image's own when absent.
    pub user: Option<String>,
    /// What of this machine it sees.
    pub volumes: Vec<Volume>,
    /// The engine's network it is in; the engine's default when absent.
    pub network: Option<String>,
    /// More labels on the container.
    pub labels: BTreeMap<String, String>,
    /// Whether its root file system can't be written.
    pub read_only: bool,
    /// Resource limits by name (`nofile`, `nproc`, …): soft and hard.
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// Whether the image's own HEALTHCHECK counts as one more liveness source.
    pub healthcheck: bool,
}

/// Where a container comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerFrom {
    /// hale makes it of an image.
    Image {
        /// The image's name, as the engine understands it.
        image: String,
        /// When it is fetched from its registry.
        pull: Pull,
    },
    /// Somebody else made it; hale probes and restarts it, and never makes or removes one. The replicas of the workload
    /// are the containers found, in order of their names.
    Adopted {
        /// A label they have: name, and value where one is asked for.
        label: (String, Option<String>),
    },
}

/// When an image is fetched from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// When it is not there.
    #[default]
    Missing,
    /// Before every start of the first replica of a placement.
    Always,
    /// Never: it must be there.
    Never,
}

/// A part of this machine's file system, or a volume of the engine, inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// An absolute path of this machine, or the name of a volume of the engine.
    pub source: String,
    /// An absolute path inside.
    pub target: String,
    /// Whether it can't be written inside.
    pub read_only: bool,
}

/// A process of this machine (N4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The argument vector, never empty. `$(NAME)` in it stands for the environment variable `NAME`, as in
    /// Kubernetes; `$$` for a dollar sign.
    pub command: Vec<String>,
    /// Environment, added to what the agent gives.
    pub env: BTreeMap<String, String>,
    /// Environment whose values are never shown.
    pub secret_env: BTreeMap<String, String>,
    /// Files of `NAME=value` lines, absolute.
    pub env_from: Vec<PathBuf>,
    /// The working directory, absolute.
    pub working_dir: PathBuf,
    /// The user to run as, by name or number; the agent's own when absent.
    pub user: Option<String>,
    /// The group to run as.
    pub group: Option<String>,
    /// Resource limits by name (`nofile`, `nproc`, `core`, …): soft and hard.
    pub ulimits: BTreeMap<String, (u64, u64)>,
}

/// A port of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// A DNS label.
    pub name: String,
    /// The number; 0: the agent picks a free one per replica. Of a container: the number inside.
    pub port: u16,
    /// The port of this machine that a container's is published on; 0: the agent picks a free one per replica. Absent:
    /// not published, it is reached by the container's own address.
    pub host_port: Option<u16>,
}

/// Limits of a replica (N4), by cgroup where one can be had.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// CPUs.
    pub cpu: Option<f64>,
}

/// A check with a purpose, a period, a timeout and thresholds.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// How it asks.
    pub check: Check,
    /// When it asks and how many answers change the verdict.
    pub timing: ProbeTiming,
}

/// One way to ask (H1).
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// An HTTP request.
    HttpGet(HttpGet),
    /// A TCP connection.
    TcpSocket(TcpSocket),
    /// A command.
    Exec(Exec),
    /// The gRPC health service.
    Grpc(Grpc),
    /// A question to a name server; for targets only.
    Dns(Dns),
    /// A TLS handshake and a look at the certificate; for targets only.
    Tls(Tls),
    /// The process reports by itself (`sd_notify`, H9).
    Notify,
}

impl Check {
    /// Its name in files.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::HttpGet(_) => "httpGet",
            Self::TcpSocket(_) => "tcpSocket",
            Self::Exec(_) => "exec",
            Self::Grpc(_) => "grpc",
            Self::Dns(_) => "dns",
            Self::Tls(_) => "tls",
            Self::Notify => "notify",
        }
    }
}

/// A port by number or by the name of one of the workload's ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRef {
    /// By number, 1 to 65535.
    Number(u16),
    /// By name; known to exist in the workload.
    Name(String),
}

/// An HTTP request as a check (H7).
#[derive(Debug, Clone, PartialEq)]
pub struct HttpGet {
    /// Whether it is HTTPS.
    pub tls: bool,
    /// The host; a replica's own address when absent. For a target always set.
    pub host: Option<String>,
    /// The port.
    pub port: PortRef,
    /// Path and query, starting with `/`.
    pub path: String,
    /// More request headers, in order; `Host` among them replaces the default.
    pub headers: Vec<(String, String)>,
    /// Ranges of status that are success, inclusive.
    pub expected_status: Vec<(u16, u16)>,
    /// What the body must hold.
    pub expected_body: Option<BodyMatch>,
    /// JSON pointer (RFC 6901) and the value that must stand there.
    pub expected_json: Vec<(String, serde_json::Value)>,
    /// A file of certificates to trust, absolute.
    pub ca_file: Option<PathBuf>,
    /// The name to ask for and to verify.
    pub tls_server_name: Option<String>,
    /// Whether any certificate is accepted; `None`: as H7 says (own address: accepted unless `ca_file` or
    /// `tls_server_name` is set; anything else: verified).
    pub tls_insecure_skip_verify: Option<bool>,
    /// Whether the connection is kept for the next check.
    pub keep_alive: bool,
}

/// What a body must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyMatch {
    /// This text somewhere.
    Contains(String),
    /// A match of this regular expression (known to compile).
    Regex(String),
}

/// A TCP connection as a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpSocket {
    /// The host; a replica's own address when absent.
    pub host: Option<String>,
    /// The port.
    pub port: PortRef,
}

/// A command as a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The argument vector, never empty, never a shell line.
    pub command: Vec<String>,
}

/// The gRPC health service as a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    /// The host; a replica's own address when absent.
    pub host: Option<String>,
    /// The port.
    pub port: PortRef,
    /// The service asked for; empty: the server as a whole.
    pub service: String,
    /// Whether over TLS.
    pub tls: bool,
    /// A file of certificates to trust, absolute.
    pub ca_file: Option<PathBuf>,
    /// The name to ask for and to verify.
    pub tls_server_name: Option<String>,
    /// As in [`HttpGet`].
    pub tls_insecure_skip_verify: Option<bool>,
}

/// The name under which the ready replicas of a workload are reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// A DNS label.
    pub name: String,
    /// Which port of the replicas.
    pub port: String,
    /// Where the gateway listens for it, if it does.
    pub listen: Option<std::net::SocketAddr>,
    /// What is spoken.
    pub protocol: Protocol,
    /// How requests are spread.
    pub balance: Balance,
    /// Below this percentage of ready endpoints all of them get traffic; 0: off.
    pub panic_threshold: u8,
    /// For so long a new endpoint's share of traffic rises; zero: off.
    pub slow_start: Duration,
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
}

/// How requests are spread over ready endpoints (S16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The one with fewer requests in flight of two picked by chance.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
}

/// Times of a rolling restart or update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    /// How long a new replica must have been ready to count.
    pub min_ready: Duration,
    /// The longest a replica may take to become ready.
    pub progress_deadline: Duration,
    /// New replicas that may run beside the old ones during an update.
    pub max_surge: u32,
    /// Whether an update that does not make it in time is taken back.
    pub auto_rollback: bool,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            min_ready: Duration::ZERO,
            progress_deadline: Duration::from_secs(600),
            max_surge: 1,
            auto_rollback: true,
        }
    }
}

/// What happens when the node of a replica is not heard of any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect {
    /// After so long another node gets the replica; `None`: never.
    pub replace_after: Option<Duration>,
    /// After so long without a server the node stops it; `None`: never.
    pub stop_after: Option<Duration>,
}

impl Default for Disconnect {
    fn default() -> Self {
        Self { replace_after: Some(Duration::from_secs(10)), stop_after: None }
    }
}
