//! What can be typed about Kubernetes.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::OutputArgs;

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
