//! What the container runtime is told at its start.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use hale_keeper::LogLimits;
use hale_supervisor::process::KeptOutside;

/// Settings of a node's container runtime.
#[derive(Debug, Clone)]
pub struct ContainerOptions {
    /// Where the engine is asked (`--container-host`, `DOCKER_HOST`): `unix:///path` or a path. `None`: the usual sockets.
    pub host: Option<String>,
    /// The agent's data directory: records in `containers/`, output in `logs/`.
    pub data_dir: PathBuf,
    /// Whether nothing may run as root (`--no-root`): then a container needs a user that is not, its own or its image's.
    pub no_root: bool,
    /// The users that containers may run as (`--allow-user`), by number or by their name on this machine; `None`: any.
    pub allow_users: Option<BTreeSet<String>>,
    /// Where published ports are bound, and reached.
    pub publish: IpAddr,
    /// How much output is kept.
    pub logs: LogLimits,
    /// Whether containers that an earlier run left are ended rather than taken over (`hale up`, N19).
    pub end_leftovers: bool,
    /// The directory of the Docker configuration with the credentials of registries; `None`: `$DOCKER_CONFIG`, else
    /// `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// Who ends containers when the agent is dead (N19, S9); `None`: nobody, until the next start.
    pub keeper: Option<KeptOutside>,
}

impl ContainerOptions {
    /// The usual engine, ports on loopback, containers taken over.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            host: None,
            no_root: false,
            allow_users: None,
            data_dir: data_dir.into(),
            publish: IpAddr::V4(Ipv4Addr::LOCALHOST),
            logs: LogLimits::default(),
            end_leftovers: false,
            docker_config: None,
            keeper: None,
        }
    }
}
