//! Keeps what you run healthy, and shows it: command line and wiring, no rules of its own.

mod cli;
mod failure;
mod files;
mod local;
mod output;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::{Cli, Command},
    failure::Failure,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error),
    };
    match dispatch(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn dispatch(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Check(args) => local::check::run(args),
        Command::Plan(args) => local::plan::run(args),
        Command::Probe(args) => local::probe::run(args),
        Command::DemoWeb(args) => local::demo_web::run(args),
        Command::Schema => local::schema::run(),
        Command::Completions(args) => local::completions::run(args),
        Command::Version => local::version::run(),
    }
}
