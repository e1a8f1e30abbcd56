//! The project's own chores: `cargo xtask check | test | coverage | docs | deploy | bench | e2e-kubernetes`.
//!
//! What a contributor types is what CI runs: `.ci/run` calls `cargo xtask test` and nothing else.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks on its streams")]

mod bench;
mod check;
mod coverage;
mod deploy;
mod docs;
mod e2e_kubernetes;
mod protos;
mod run;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What any chore returns: nothing, or one message for the person who ran it.
type Outcome = Result<(), String>;

/// The project's own chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version)]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Formatting, lints, arrows between crates, sizes of files, words that do not belong.
    Check(check::Args),
    /// Everything: installs what the tests need, then check, unit, integration and documentation tests.
    Test(test::Args),
    /// Line coverage of hale-health; fails below 95 %.
    Coverage(coverage::Args),
    /// The chapters of the book that are written from the program.
    Docs(docs::Args),
    /// deploy/kubernetes from the Helm charts; lints the charts and validates what they give.
    Deploy(deploy::Args),
    /// Tries hale against the cluster of the current kubeconfig, with workloads that are well and that are not.
    E2eKubernetes(e2e_kubernetes::Args),
    /// The code of the wire's messages, from proto/.
    Protos(protos::Args),
    /// The benchmarks behind the figures in the documentation.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().chore {
        Chore::Check(args) => check::run(&args),
        Chore::Test(args) => test::run(&args),
        Chore::Coverage(args) => coverage::run(&args),
        Chore::Docs(args) => docs::run(&args),
        Chore::Deploy(args) => deploy::run(&args),
        Chore::E2eKubernetes(args) => e2e_kubernetes::run(&args),
        Chore::Protos(args) => protos::run(&args),
        Chore::Bench(args) => bench::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
