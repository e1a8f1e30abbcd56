//! What can be typed after `hale server` (C3).

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use crate::{
    cli::{DataDirArgs, parse_duration},
    telemetry::TelemetryArgs,
};

/// `hale server`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ServeArgs {
    /// Something else than to serve.
    #[command(subcommand)]
    pub(crate) command: Option<ServerCommand>,
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// Where API, gRPC for agents and gateways, status page and metrics are served; port 0 picks one.
    #[arg(long, env = "HALE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7450")]
    pub(crate) listen: SocketAddr,
    /// A PostgreSQL database that several servers share: postgres://user@host:5432,host2:5432/name [default: a file in
    /// the data directory, for one server].
    #[arg(long, env = "HALE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// Where agents and other servers reach this one [default: the address it listens on].
    #[arg(long, env = "HALE_ADVERTISE_URL", value_name = "URL")]
    pub(crate) advertise_url: Option<String>,
    /// The certificate to serve with, and those between it and its authority, PEM. Read again when it changes.
    #[arg(long, env = "HALE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, env = "HALE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Lets in only who has a certificate of one of these authorities, PEM.
    #[arg(long, env = "HALE_CA_FILE", value_name = "FILE", requires = "tls_cert")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Serves on an address that others reach without TLS: something in front of hale speaks it.
    #[arg(long, env = "HALE_INSECURE_HTTP")]
    pub(crate) insecure_http: bool,
    /// Where metrics are served without a token, beside /metrics on the API's address [default: nowhere].
    #[arg(long, env = "HALE_METRICS_LISTEN", value_name = "ADDR")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// The key that seals addresses and secrets of webhooks; servers that share a database need the same [default:
    /// secret.key in the data directory, made at the first start].
    #[arg(long, env = "HALE_SECRET_KEY_FILE", value_name = "FILE")]
    pub(crate) secret_key_file: Option<PathBuf>,
    /// A file that holds the token of an admin, which servers that share a database can share [default: a token made at
    /// the first start, left in admin.token in the data directory].
    #[arg(long, env = "HALE_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// From heartbeat to heartbeat of an agent. Two missed make its node suspect, three lost.
    #[arg(long, env = "HALE_HEARTBEAT_INTERVAL", value_name = "DURATION", default_value = "5s", value_parser = beat)]
    pub(crate) heartbeat_interval: Duration,
    /// How long another server waits before it takes over what this one did, should it die.
    #[arg(long, env = "HALE_LEASE", value_name = "DURATION", default_value = "5s", value_parser = beat)]
    pub(crate) lease: Duration,
    /// Events older than this are forgotten, beyond a million at once.
    #[arg(long, env = "HALE_EVENT_RETENTION", value_name = "DURATION", default_value = "720h", value_parser = parse_duration)]
    pub(crate) event_retention: Duration,
    #[command(flatten)]
    pub(crate) diagnostics: DiagnosticsArgs,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
}

/// How long diagnostics are kept (K9).
#[derive(Debug, Clone, Args)]
pub(crate) struct DiagnosticsArgs {
    /// Requests for diagnostics and their results are told for so long.
    #[arg(
        long = "diagnostics-retention",
        env = "HALE_DIAGNOSTICS_RETENTION",
        value_name = "DURATION",
        default_value = "60m",
        value_parser = kept
    )]
    pub(crate) retention: Duration,
    /// Those that are told no more are deleted so often.
    #[arg(
        long = "diagnostics-cleanup-interval",
        env = "HALE_DIAGNOSTICS_CLEANUP_INTERVAL",
        value_name = "DURATION",
        default_value = "15m",
        value_parser = kept
    )]
    pub(crate) cleanup_interval: Duration,
}

/// A duration that diagnostics can be kept for.
fn kept(text: &str) -> Result<Duration, String> {
    let parsed = parse_duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600)).contains(&parsed) {
        Ok(parsed)
    } else {
        Err("expected a duration from 1s to 720h".to_owned())
    }
}

/// What can be done with a server's database.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Copies the embedded database to a new file, whether or not a server runs on it.
    Backup(BackupArgs),
    /// Goes back to a copy of the embedded database; the server must not run.
    Restore(RestoreArgs),
}

/// `hale server backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to make; it must not be there yet.
    #[arg(value_name = "FILE")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
}

/// `hale server restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The copy to go back to.
    #[arg(value_name = "FILE")]
    pub(crate) from: PathBuf,
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
}

/// A duration that sessions and leases can be kept by.
fn beat(text: &str) -> Result<Duration, String> {
    let parsed = parse_duration(text)?;
    if (Duration::from_millis(50)..=Duration::from_secs(60)).contains(&parsed) {
        Ok(parsed)
    } else {
        Err("expected a duration from 50ms to 1m".to_owned())
    }
}
