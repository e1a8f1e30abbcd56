//! Keeps what you run healthy, and shows it: command line and wiring, no rules of its own.

mod agent;
mod cli;
mod failure;
mod files;
mod gateway;
mod kube_agent;
mod local;
mod output;
mod remote;
mod responder;
mod runs;
mod server;
mod telemetry;
mod up;

use std::process::ExitCode;

use clap::Parser;
use hale_api::operation::Verb;

use crate::{
    cli::{Cli, Command},
    failure::Failure,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error),
    };
    if let Command::Keeper(args) = &cli.command {
        return up::keeper(args);
    }
    match dispatch(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn dispatch(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        // Has been seen to: it has an exit status of its own.
        Command::Keeper(_) => Ok(()),
        Command::Up(args) => up::run(args),
        Command::Server(args) => server::run(args),
        Command::Agent(args) => agent::run(args),
        Command::Gateway(args) => gateway::run(args),
        Command::KubeAgent(args) => kube_agent::run(args),
        Command::Responder(args) => responder::run(args),
        Command::Status(args) => remote::status::run(args),
        Command::Explain(args) => remote::explain::run(args),
        Command::Events(args) => remote::events::run(args),
        Command::Logs(args) => remote::logs::run(args),
        Command::Restart(args) => remote::act::run(Verb::Restart, args),
        Command::Stop(args) => remote::act::run(Verb::Stop, args),
        Command::Start(args) => remote::act::run(Verb::Start, args),
        Command::Pause(args) => remote::act::pause(args),
        Command::Resume(args) => remote::act::resume(args),
        Command::Runs(args) => remote::runs::run(args),
        Command::Webhook(args) => remote::webhook::run(args),
        Command::Apply(args) => remote::declare::apply(args),
        Command::Get(args) => remote::get::run(args),
        Command::Scale(args) => remote::declare::scale(args),
        Command::Delete(args) => remote::declare::delete(args),
        Command::Token(args) => remote::token::run(args),
        Command::Node(args) => remote::node::run(args),
        Command::Stack(args) => remote::stack::run(args),
        Command::Cluster(args) => remote::cluster::run(args),
        Command::Diagnose(args) => remote::diagnose::run(args),
        Command::Check(args) => local::check::run(args),
        Command::Plan(args) => local::plan::run(args),
        Command::Import(args) => local::import::run(args),
        Command::Probe(args) => local::probe::run(args),
        Command::Assess(args) => local::assess::run(args),
        Command::DemoWeb(args) => local::demo_web::run(args),
        Command::Openapi => local::openapi::run(),
        Command::Schema => local::schema::run(),
        Command::Completions(args) => local::completions::run(args),
        Command::Version => local::version::run(),
    }
}
