//! What can be typed about Kubernetes.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, ValueEnum};
use jiff::Timestamp;

use super::{OutputArgs, TlsArgs};
use crate::{kube_agent::some_time, telemetry::TelemetryArgs};

/// `hale kube-agent`.
#[derive(Debug, Args)]
pub(crate) struct KubeAgentArgs {
    /// Servers of the cluster; one is spoken to at a time, and another when that is gone.
    #[arg(long, env = "HALE_SERVER", required = true, value_name = "URL", value_delimiter = ',')]
    pub(crate) server: Vec<String>,
    /// A file that holds the token of this agent: one of role agent, for the name of this cluster.
    #[arg(long, env = "HALE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// The name of this cluster; it must be the one that the token is for [default: that one].
    #[arg(long, env = "HALE_CLUSTER", value_name = "CLUSTER")]
    pub(crate) name: Option<String>,
    /// A file with settings, as YAML; what is given here wins over it.
    #[arg(long, env = "HALE_KUBE_AGENT_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The context of the kubeconfig ($KUBECONFIG) [default: its current one; without a kubeconfig, the cluster that
    /// this runs in].
    #[arg(long, env = "HALE_KUBE_CONTEXT", value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
    /// Whether deployment objects are applied, or what is there is only found. What a person says at the server wins
    /// [default: apply].
    #[arg(long, env = "HALE_KUBE_MODE", value_enum, value_name = "MODE")]
    pub(crate) mode: Option<KubeModeArg>,
    /// A stack to ask for; may be given more than once. What a person says at the server wins.
    #[arg(long = "stack", env = "HALE_KUBE_STACKS", value_name = "NAME", value_delimiter = ',')]
    pub(crate) stacks: Vec<String>,
    /// Asks for all stacks that bear these labels. What a person says at the server wins.
    #[arg(long = "match-label", env = "HALE_KUBE_MATCH_LABELS", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    pub(crate) match_labels: Vec<(String, String)>,
    /// A label of this agent, for people; may be given more than once.
    #[arg(long = "label", env = "HALE_LABELS", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// A namespace to watch and to apply to; may be given more than once [default: all].
    #[arg(long = "namespace", env = "HALE_KUBE_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    pub(crate) namespaces: Vec<String>,
    /// The namespace of manifests that say none [default: that of the kubeconfig, or of the service account].
    #[arg(long, env = "HALE_KUBE_DEFAULT_NAMESPACE", value_name = "NAMESPACE")]
    pub(crate) default_namespace: Option<String>,
    /// Whether health is watched; if not, deployment objects are unknown (`disabled`) [default: true].
    #[arg(long, env = "HALE_HEALTH_ENABLED", value_name = "BOOL", action = ArgAction::Set)]
    pub(crate) health_enabled: Option<bool>,
    /// How often everything is told at least; a change is told at once [default: 60s].
    #[arg(long, env = "HALE_HEALTH_CHECK_INTERVAL", value_name = "DURATION", value_parser = some_time)]
    pub(crate) health_check_interval: Option<Duration>,
    /// Whether diagnostics are collected; if not, requests fail at once [default: true].
    #[arg(long, env = "HALE_DIAGNOSTICS_ENABLED", value_name = "BOOL", action = ArgAction::Set)]
    pub(crate) diagnostics_enabled: Option<bool>,
    /// How many lines of each container's log diagnostics hold [default: 50].
    #[arg(long, env = "HALE_LOG_TAIL_LINES", value_name = "LINES")]
    pub(crate) log_tail_lines: Option<u32>,
    /// How far back the events in diagnostics go [default: 30m].
    #[arg(long, env = "HALE_EVENT_LOOKBACK", value_name = "DURATION", value_parser = some_time)]
    pub(crate) event_lookback: Option<Duration>,
    /// Leaves in logs what looks like a password, a token or a key.
    #[arg(long, env = "HALE_UNMASKED_LOGS")]
    pub(crate) unmasked_logs: bool,
    /// Where /healthz, /readyz and /metrics are served, without a token; port 0 picks one.
    #[arg(long, env = "HALE_HEALTH_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7451")]
    pub(crate) health_listen: SocketAddr,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
}

/// What is done with deployment objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KubeModeArg {
    /// They are applied.
    Apply,
    /// What is there is found, and nothing is changed.
    Observe,
}

impl From<KubeModeArg> for hale_kube::agent::Mode {
    fn from(mode: KubeModeArg) -> Self {
        match mode {
            KubeModeArg::Apply => Self::Apply,
            KubeModeArg::Observe => Self::Observe,
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as team=shop".to_owned()),
    }
}

/// `hale assess`.
#[derive(Debug, Args)]
pub(crate) struct AssessArgs {
    /// Objects or lists of them, JSON or YAML; of a directory, the files in it; - is standard input. Pods, replica
    /// sets, events and nodes help to judge.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The moment for which to judge, as RFC 3339 has it [default: the newest timestamp in the files].
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) at: Option<Timestamp>,
    /// Exits 1 unless all workloads are healthy.
    #[arg(long)]
    pub(crate) exit_code: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "expected a time such as 2026-01-01T12:00:00Z".to_owned())
}
