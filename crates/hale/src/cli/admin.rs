//! Commands for those who declare and administrate: `apply`, `get`, `scale`, `delete`, `token`, `node`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use hale_api::nodes::NodeVerb;
use hale_model::cluster::Role;

use super::{OutputArgs, ServerArgs, parse_duration};

/// `hale apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Workload files; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Only says what would change.
    #[arg(long, env = "HALE_DRY_RUN")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale scale`.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// A workload.
    pub(crate) name: String,
    /// How many replicas are wanted.
    #[arg(value_name = "N")]
    pub(crate) replicas: u32,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// What `get` shows.
const SHOWN: [&str; 14] = [
    "workloads",
    "replicas",
    "targets",
    "nodes",
    "services",
    "stacks",
    "deployments",
    "agents",
    "diagnostics",
    "tokens",
    "webhooks",
    "runs",
    "events",
    "audit",
];

/// What `delete` takes.
const DELETED: [&str; 8] =
    ["workloads", "targets", "nodes", "stacks", "deployments", "agents", "tokens", "webhooks"];

/// `hale get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Workloads, replicas, targets, nodes, services, stacks, deployments, agents (of clusters), diagnostics, tokens,
    /// webhooks, runs (of a responder), events or audit.
    #[arg(value_parser = parse_shown)]
    pub(crate) kind: String,
    /// One of them [default: all]. Deployments: a stack's, or one by its id.
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// A workload, target, node, stack, deployment, agent, token or webhook.
    #[arg(value_parser = parse_deleted)]
    pub(crate) kind: String,
    /// Which.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

/// What can be done to tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a token; it is shown this once.
    Create(TokenCreateArgs),
    /// Lists them, without their secrets.
    List(TokenListArgs),
    /// Ends one: within seconds it is taken nowhere, and its streams are cut.
    Revoke(TokenRevokeArgs),
    /// Gives one a new secret; it is shown this once.
    Rotate(TokenRotateArgs),
}

/// `hale token create`.
#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// What it may do: admin, operator, viewer, agent or gateway.
    #[arg(long, env = "HALE_ROLE", value_name = "ROLE", value_parser = parse_role)]
    pub(crate) role: Role,
    /// The node it is for, of an agent's.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// When it ends [default: never].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) expires: Option<Duration>,
    /// What it is for; stands in records of what is done with it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) description: String,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale token list`.
#[derive(Debug, Args)]
pub(crate) struct TokenListArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale token revoke`.
#[derive(Debug, Args)]
pub(crate) struct TokenRevokeArgs {
    /// Its short part.
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale token rotate`.
#[derive(Debug, Args)]
pub(crate) struct TokenRotateArgs {
    /// Its short part.
    pub(crate) id: String,
    /// For how long the secret of before is taken, too.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub(crate) grace: Duration,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale node`.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: NodeCommand,
}

/// What can be done to nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Lists them.
    List(NodeListArgs),
    /// Places no new replicas on a node.
    Cordon(NodeActArgs),
    /// Places no new replicas on a node, and moves those there elsewhere.
    Drain(NodeActArgs),
    /// Places replicas on a node as before.
    Uncordon(NodeActArgs),
    /// Forgets a node that does not come back.
    Delete(NodeActArgs),
}

impl NodeCommand {
    /// What it does to which node; `None`: it lists or deletes.
    pub(crate) const fn verb(&self) -> Option<NodeVerb> {
        match self {
            Self::Cordon(_) => Some(NodeVerb::Cordon),
            Self::Drain(_) => Some(NodeVerb::Drain),
            Self::Uncordon(_) => Some(NodeVerb::Uncordon),
            Self::List(_) | Self::Delete(_) => None,
        }
    }
}

/// `hale node list`.
#[derive(Debug, Args)]
pub(crate) struct NodeListArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale node cordon`, `drain`, `uncordon`, `delete`.
#[derive(Debug, Args)]
pub(crate) struct NodeActArgs {
    /// A node.
    pub(crate) name: String,
    /// Why; kept on record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The word of a role.
fn parse_role(word: &str) -> Result<Role, String> {
    let found = Role::ALL.into_iter().find(|it| it.as_str() == word);
    found.ok_or_else(|| "expected admin, operator, viewer, agent or gateway".to_owned())
}

fn parse_shown(word: &str) -> Result<String, String> {
    parse_kind(word, &SHOWN)
}

fn parse_deleted(word: &str) -> Result<String, String> {
    parse_kind(word, &DELETED)
}

/// The plural of a word that may be in either form, and in any case.
fn parse_kind(word: &str, kinds: &[&str]) -> Result<String, String> {
    let lower = word.to_ascii_lowercase();
    let found = kinds.iter().find(|kind| **kind == lower || kind.strip_suffix('s') == Some(&lower));
    found.map(|it| (*it).to_owned()).ok_or_else(|| format!("expected one of {}", kinds.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_in_both_numbers() {
        assert_eq!(parse_shown("Workload").unwrap(), "workloads");
        assert_eq!(parse_shown("nodes").unwrap(), "nodes");
        assert!(parse_shown("pods").unwrap_err().contains("replicas"));
        assert!(parse_deleted("replica").is_err());
    }
}
