//! `hale node …`: the machines of a cluster (S6).

use hale_api::nodes::NodeVerb;

use super::{block, client, get};
use crate::{
    cli::{NodeArgs, NodeCommand},
    failure::{Failure, say},
};

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn run(args: &NodeArgs) -> Result<(), Failure> {
    let verb = args.command.verb();
    block(async {
        match &args.command {
            NodeCommand::List(it) => get::list(&client(&it.server)?, "nodes", None, it.output.output).await,
            NodeCommand::Delete(it) => {
                client(&it.server)?.delete_node(&it.name).await?;
                say(&format!("{} is forgotten", it.name));
                Ok(())
            }
            NodeCommand::Cordon(it) | NodeCommand::Drain(it) | NodeCommand::Uncordon(it) => {
                let verb = verb.unwrap_or(NodeVerb::Cordon);
                client(&it.server)?.node(&it.name, verb, &it.reason).await?;
                say(&match verb {
                    NodeVerb::Cordon => format!("{} is cordoned: no new replicas are placed on it", it.name),
                    NodeVerb::Drain => format!("{} is drained: what is on it is moved elsewhere", it.name),
                    NodeVerb::Uncordon => format!("{} is open again", it.name),
                });
                Ok(())
            }
        }
    })
}
