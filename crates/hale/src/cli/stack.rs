//! What can be typed about what runs in clusters: `stack`, `cluster`, `diagnose`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use hale_api::kube::KubeMode;
use hale_model::Status;

use super::{OutputArgs, ServerArgs, parse_duration, parse_status};

/// `hale stack`.
#[derive(Debug, Args)]
pub(crate) struct StackArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: StackCommand,
}

/// What can be done to stacks.
#[derive(Debug, Subcommand)]
pub(crate) enum StackCommand {
    /// Makes a stack: a line of deployment objects, of which the newest is wanted.
    Create(StackCreateArgs),
    /// Lists them.
    List(StackListArgs),
    /// Shows one, with its deployment objects.
    Get(StackGetArgs),
    /// Gives one other labels; agents are given stacks by them.
    Label(StackLabelArgs),
    /// Gives a stack new manifests: a new deployment object, which supersedes the one before.
    Push(StackPushArgs),
    /// Forgets a stack, its deployment objects and what is known of them. What was applied of it stays in its clusters:
    /// `hale stack push NAME --delete` takes that away.
    Delete(StackDeleteArgs),
}

/// `hale stack create`.
#[derive(Debug, Args)]
pub(crate) struct StackCreateArgs {
    /// Its name: a DNS label.
    pub(crate) name: String,
    /// A label; may be given more than once.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale stack list`.
#[derive(Debug, Args)]
pub(crate) struct StackListArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale stack get`.
#[derive(Debug, Args)]
pub(crate) struct StackGetArgs {
    /// A stack.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale stack label`.
#[derive(Debug, Args)]
pub(crate) struct StackLabelArgs {
    /// A stack.
    pub(crate) name: String,
    /// All its labels from now on; none takes them away.
    #[arg(value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale stack push`.
#[derive(Debug, Args)]
pub(crate) struct StackPushArgs {
    /// A stack.
    pub(crate) name: String,
    /// Manifests, YAML or JSON, which become one deployment object in this order; - is standard input.
    #[arg(value_name = "FILE", required_unless_present = "delete")]
    pub(crate) files: Vec<PathBuf>,
    /// A deletion marker instead: what was applied of the stack is taken away, and the stack stays.
    #[arg(long, conflicts_with = "files")]
    pub(crate) delete: bool,
    /// Waits until the stack has this status; exits 1 if that never comes.
    #[arg(long, value_name = "STATUS", conflicts_with = "delete", value_parser = parse_status)]
    pub(crate) wait: Option<Status>,
    /// The longest to wait.
    #[arg(long, value_name = "DURATION", requires = "wait", default_value = "5m", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale stack delete`.
#[derive(Debug, Args)]
pub(crate) struct StackDeleteArgs {
    /// A stack.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ClusterCommand,
}

/// What can be done to the agents of clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Lists the agents of clusters.
    List(StackListArgs),
    /// Says which stacks a cluster is given, and whether they are applied there. What is not said stays.
    Set(ClusterSetArgs),
    /// Forgets an agent, with what it told. One that still runs registers again.
    Delete(StackDeleteArgs),
}

/// `hale cluster set`.
#[derive(Debug, Args)]
pub(crate) struct ClusterSetArgs {
    /// The name of its agent.
    pub(crate) name: String,
    /// Whether manifests are applied, or only looked for.
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<Mode>,
    /// A stack that it is given; may be given more than once. Those of before are not, unless named again.
    #[arg(long = "stack", value_name = "NAME")]
    pub(crate) stacks: Vec<String>,
    /// It is given no stack by name any more.
    #[arg(long, conflicts_with = "stacks")]
    pub(crate) no_stacks: bool,
    /// It is given stacks with all of these labels, too; may be given more than once.
    #[arg(long = "match-label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) match_labels: Vec<(String, String)>,
    /// It is given no stack by labels any more.
    #[arg(long, conflicts_with = "match_labels")]
    pub(crate) no_match_labels: bool,
    /// All its own labels from now on, for people.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// What an agent does to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// It applies what it is given.
    Apply,
    /// It only finds what is there.
    Observe,
}

impl From<Mode> for KubeMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Apply => Self::Apply,
            Mode::Observe => Self::Observe,
        }
    }
}

/// `hale diagnose`.
#[derive(Debug, Args)]
pub(crate) struct DiagnoseArgs {
    /// A stack, a deployment object, a replica, a workload for all of its replicas, or a target.
    pub(crate) name: String,
    /// The agent that is to collect, where several have what is asked about.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Only asks: `hale get diagnostics ID` shows what came of it, for as long as it is kept.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// The longest to wait.
    #[arg(long, env = "HALE_TIMEOUT", value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as team=payments".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Cli;

    #[test]
    fn a_push_is_of_manifests_or_of_their_end() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' ')).is_ok();
        assert!(parse("hale stack push shop a.yaml b.yaml --wait healthy --timeout 1m"));
        assert!(parse("hale stack push shop --delete"));
        assert!(!parse("hale stack push shop"));
        assert!(!parse("hale stack push shop a.yaml --delete"));
        assert!(!parse("hale stack create shop --label team"));
    }
}
