//! `hale completions SHELL`.

use clap::CommandFactory;

use crate::{
    cli::{Cli, CompletionsArgs},
    failure::Failure,
    output,
};

/// Prints what makes a shell complete hale's commands.
pub(crate) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hale", &mut script);
    std::io::Write::write_all(&mut output::stdout(), &script)?;
    Ok(())
}
