//! `hale cluster …`: the agents of clusters, and what they are given (K1).
//!
//! Not `hale agent …`: that runs the agent of a node. A cluster has one agent, of the same name.

use hale_api::kube::{KubeAgent, KubeAgentPatch};
use serde_json::Value;

use super::{block, client, get};
use crate::{
    cli::{ClusterArgs, ClusterCommand, ClusterSetArgs},
    failure::{Failure, say},
    output,
};

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn run(args: &ClusterArgs) -> Result<(), Failure> {
    block(async {
        match &args.command {
            ClusterCommand::List(it) => {
                get::list(&client(&it.server)?, "agents", None, it.output.output).await
            }
            ClusterCommand::Set(it) => set(it).await,
            ClusterCommand::Delete(it) => {
                client(&it.server)?.delete_kube_agent(&it.name).await?;
                say(&format!("the agent of {} is forgotten; one that still runs registers again", it.name));
                Ok(())
            }
        }
    })
}

async fn set(args: &ClusterSetArgs) -> Result<(), Failure> {
    let patch = patch(args);
    if patch == KubeAgentPatch::default() {
        let text = "say what is to change: --mode, --stack, --match-label, --label; see --help";
        return Err(Failure::Usage(text.to_owned()));
    }
    let agent: KubeAgent = client(&args.server)?.change_kube_agent(&args.name, &patch).await?;
    let value: Value = serde_json::to_value(&agent).map_err(Failure::failed)?;
    output::write_value(&agent, args.output.output, |out| get::table("agents", &value).write(out))
}

/// What is changed: nothing that was not said.
fn patch(args: &ClusterSetArgs) -> KubeAgentPatch {
    KubeAgentPatch {
        mode: args.mode.map(Into::into),
        stacks: (args.no_stacks || !args.stacks.is_empty()).then(|| args.stacks.iter().cloned().collect()),
        match_labels: (args.no_match_labels || !args.match_labels.is_empty())
            .then(|| args.match_labels.iter().cloned().collect()),
        labels: (!args.labels.is_empty()).then(|| args.labels.iter().cloned().collect()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn typed(words: &str) -> KubeAgentPatch {
        match Cli::try_parse_from(words.split(' ')).unwrap().command {
            Command::Cluster(ClusterArgs { command: ClusterCommand::Set(args) }) => patch(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_is_said_is_changed() {
        let all = typed("hale cluster set prod --mode observe --stack a --stack b --match-label team=x");
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, r#"{"mode":"observe","stacks":["a","b"],"match_labels":{"team":"x"}}"#);
        assert_eq!(
            serde_json::to_string(&typed("hale cluster set prod --no-stacks")).unwrap(),
            r#"{"stacks":[]}"#
        );
        assert_eq!(typed("hale cluster set prod"), KubeAgentPatch::default());
    }
}
