//! What can be typed after `hale agent` (C3, N18).

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{observing::ObserverArgs, scrape::ScrapeArgs};
use crate::{
    cli::{DataDirArgs, parse_duration},
    telemetry::TelemetryArgs,
};

/// `hale agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// Servers of the cluster; one is connected at a time, and another when that is gone.
    #[arg(long, env = "HALE_SERVER", required = true, value_name = "URL", value_delimiter = ',')]
    pub(crate) server: Vec<String>,
    /// A file that holds the token of this node.
    #[arg(long, env = "HALE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// A file with the certificates that the servers' are signed by [default: those of the system].
    #[arg(long, env = "HALE_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The name of this node [default: the name of this machine].
    #[arg(long, env = "HALE_NODE", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The zone it is in: replicas are spread over zones.
    #[arg(long, env = "HALE_ZONE", value_name = "ZONE", default_value = "")]
    pub(crate) zone: String,
    /// The region it is in: replicas are spread over regions.
    #[arg(long, env = "HALE_REGION", value_name = "REGION", default_value = "")]
    pub(crate) region: String,
    /// A label that workloads may ask for; may be given more than once.
    #[arg(long = "label", env = "HALE_LABELS", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Where replicas on this node are reached [default: the address it reaches the first server from].
    #[arg(long, env = "HALE_ADDRESS", value_name = "ADDR")]
    pub(crate) address: Option<IpAddr>,
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// The longest from heartbeat to heartbeat; a server may want them more often.
    #[arg(long, env = "HALE_HEARTBEAT_INTERVAL", value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub(crate) heartbeat_interval: Duration,
    /// Where /healthz, /readyz and /metrics are served, without a token; port 0 picks one.
    #[arg(long, env = "HALE_HEALTH_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7451")]
    pub(crate) health_listen: SocketAddr,
    /// What becomes of the probes of workloads: made and acted on, made and recorded alone, or not made.
    #[arg(long, env = "HALE_HEALTH_PROBES", value_enum, default_value_t, value_name = "HOW")]
    pub(crate) health_probes: HealthProbes,
    /// For so many of a hundred workloads, picked by their name, the same on every node; the rest goes without probes.
    #[arg(long, env = "HALE_HEALTH_PROBES_PERCENT", value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(..=100))]
    pub(crate) health_probes_percent: u8,
    /// The restart budget of workloads that say nothing of it [default: hale's own].
    #[arg(long, env = "HALE_MAX_RESTARTS", value_name = "N")]
    pub(crate) max_restarts: Option<u32>,
    /// The window of that budget, the same way [default: hale's own].
    #[arg(long, env = "HALE_RESTART_WINDOW", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) restart_window: Option<Duration>,
    /// Stops all replicas, in order, when the agent is told to end. Without it they run on, and the next agent takes
    /// them over.
    #[arg(long, env = "HALE_STOP_REPLICAS")]
    pub(crate) stop_replicas: bool,
    /// How long the servers are to wait for the agent's return after it was told to end.
    #[arg(long, env = "HALE_AWAY", value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub(crate) away: Duration,
    /// A user that workloads may ask to run as; may be given more than once [default: any].
    #[arg(long, env = "HALE_ALLOW_USER", value_name = "USER", value_delimiter = ',')]
    pub(crate) allow_user: Vec<String>,
    /// Refuses workloads that would run as root.
    #[arg(long, env = "HALE_NO_ROOT")]
    pub(crate) no_root: bool,
    /// Where the container engine (Docker, Podman) is asked: `unix:///PATH` [default: `DOCKER_HOST`, else the usual
    /// sockets]. No engine is looked for before a workload wants a container.
    #[arg(long, env = "HALE_CONTAINER_HOST", value_name = "HOST")]
    pub(crate) container_host: Option<String>,
    #[command(flatten)]
    pub(crate) scrape: ScrapeArgs,
    #[command(flatten)]
    pub(crate) observer: ObserverArgs,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
}

/// What becomes of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum HealthProbes {
    /// They are made and acted on.
    #[default]
    On,
    /// They are made, decided on and recorded; nothing is restarted or gated for them.
    Observe,
    /// None are made.
    Off,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as disk=ssd".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_a_key_and_a_value() {
        assert_eq!(label("disk=ssd"), Ok(("disk".into(), "ssd".into())));
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(label("disk").is_err() && label("=ssd").is_err());
    }
}
