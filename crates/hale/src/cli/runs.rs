//! What can be typed about the runs of a responder (C4, R11, R12).

use clap::{Args, Subcommand};
use hale_api::runs::RunState;

use super::{OutputArgs, ServerArgs};

/// `hale runs`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunsArgs {
    /// Something else than to show runs.
    #[command(subcommand)]
    pub(crate) command: Option<RunsCommand>,
    /// One of them, with its timeline, its alert and the ends of its outputs [default: all, the newest first].
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Only those that stand so: queued, awaiting_approval, running, recovering, succeeded, failed, timed_out,
    /// ineffective, expired, interrupted, observed, rejected or dropped.
    #[arg(long, value_name = "STATE", value_parser = parse_state, conflicts_with = "id")]
    pub(crate) state: Option<RunState>,
    /// Only those of this cluster.
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    pub(crate) cluster: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Shows them again at each change, until interrupted; one run: until it has come to its end.
    #[arg(short, long, env = "HALE_WATCH")]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// What else can be done about runs.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// Lets a run that waits for a person go on.
    Approve(DecideArgs),
    /// Does not let it: nothing is run.
    Reject(DecideArgs),
    /// Lists the newest alerts, and what became of each, the newest first.
    Alerts(AlertsArgs),
}

/// `hale runs approve`, `hale runs reject`.
#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    /// A run.
    pub(crate) id: String,
    /// Why; kept on record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale runs alerts`.
#[derive(Debug, Args)]
pub(crate) struct AlertsArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

fn parse_state(word: &str) -> Result<RunState, String> {
    let found = RunState::ALL.into_iter().find(|it| it.as_str() == word);
    found.ok_or_else(|| format!("expected one of {}", RunState::ALL.map(RunState::as_str).join(", ")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parsed(words: &[&str]) -> Result<RunsArgs, clap::Error> {
        let words = ["hale", "runs"].iter().chain(words);
        Cli::try_parse_from(words).map(|it| match it.command {
            Command::Runs(args) => *args,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_word_that_is_no_command_is_the_id_of_a_run() {
        assert_eq!(parsed(&["r1", "-o", "json"]).unwrap().id.as_deref(), Some("r1"));
        let args = parsed(&["approve", "r1", "--reason", "seen", "--data-dir", "/d"]).unwrap();
        assert!(
            matches!(args.command, Some(RunsCommand::Approve(it)) if it.id == "r1" && it.reason == "seen")
        );
        assert!(matches!(parsed(&["alerts"]).unwrap().command, Some(RunsCommand::Alerts(_))));
        assert!(parsed(&["approve"]).is_err());
    }

    #[test]
    fn states_are_those_there_are() {
        for state in RunState::ALL {
            assert_eq!(parsed(&["--state", state.as_str()]).unwrap().state, Some(state));
        }
        assert!(parsed(&["--state", "done"]).unwrap_err().to_string().contains("awaiting_approval"));
        assert!(parsed(&["--limit", "0"]).is_err());
        assert!(parsed(&["r1", "--state", "failed"]).is_err());
    }
}
