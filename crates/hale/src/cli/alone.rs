//! What can be typed that asks no running hale: `check`, `plan`, `import`, `completions`, `demo-web` (C5).

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::OutputArgs;

/// `hale check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Workload files; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `hale import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// What the files are.
    #[arg(value_enum, value_name = "KIND")]
    pub(crate) kind: ImportKind,
    /// The files; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A file of NAME=value lines for the variables of a compose file [default: .env beside it].
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
}

/// What can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportKind {
    /// docker-compose.
    Compose,
    /// Manifests: Deployment, StatefulSet, DaemonSet, Pod; with the Service, ConfigMap and Secret beside them.
    Kubernetes,
    /// Unit files.
    Systemd,
    /// Ecosystem files of PM2, as JSON or YAML.
    Pm2,
    /// supervisord.conf.
    Supervisord,
    /// Procfile.
    Procfile,
}

/// `hale plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Workload files.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `hale completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

/// `hale demo-web`.
#[derive(Debug, Args)]
pub(crate) struct DemoWebArgs {
    /// Where it listens.
    #[arg(long, env = "HOST", default_value = "127.0.0.1", value_name = "ADDR")]
    pub(crate) host: std::net::IpAddr,
    /// Which port; 0 picks one.
    #[arg(long, env = "PORT", default_value_t = 0, value_name = "PORT")]
    pub(crate) port: u16,
}
