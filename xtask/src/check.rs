//! `cargo xtask check`: what every change must keep.

mod arrows;
mod files;

use crate::{Outcome, run};

/// Options of `cargo xtask check`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only what needs no compiler: formatting, arrows, files.
    #[arg(long)]
    quick: bool,
}

/// Runs every check, tells all that is wrong, and fails if anything is.
pub(crate) fn run(args: &Args) -> Outcome {
    let mut failed = Vec::new();
    let mut note = |name: &'static str, outcome: Outcome| {
        if let Err(message) = outcome {
            eprintln!("check {name}: {message}");
            failed.push(name);
        }
    };
    note("format", run::step(run::cargo().args(["fmt", "--all", "--check"])));
    note("arrows", arrows::check());
    note("files", files::check());
    if !args.quick {
        let mut clippy = run::cargo();
        clippy.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
        note("lints", run::step(&mut clippy));
    }
    if failed.is_empty() {
        println!("check: all well");
        Ok(())
    } else {
        Err(format!("check failed: {}", failed.join(", ")))
    }
}
