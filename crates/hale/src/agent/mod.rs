//! `hale agent`: a node of a cluster (N6–N11).
//!
//! Order of start: lock of the data directory, keeper (a living one with all that it runs, or a new one), and only
//! then threads and the parts. Told to end, it leaves its replicas to the keeper, and the next agent takes them over.

mod args;
mod node;
mod observing;
mod scrape;
pub(crate) mod spool;
pub(crate) mod told;
mod watch;

use std::io;

use hale_keeper::{LaunchOptions, Launched};

pub(crate) use self::args::AgentArgs;
pub(crate) use self::{observing::ObserverArgs, scrape::ScrapeArgs};
use crate::{failure::Failure, telemetry, up::lock::DataDir};

/// Runs a node until it is told to end.
pub(crate) fn run(args: &AgentArgs) -> Result<(), Failure> {
    for server in &args.server {
        if !server.starts_with("http://") && !server.starts_with("https://") {
            return Err(Failure::Usage(format!(
                "--server {server}: expected a URL such as https://hale:7450"
            )));
        }
    }
    let telemetry = telemetry::init(&args.telemetry, "hale-agent", "info")?;
    let dir = DataDir::take(&args.data_dir.path()).map_err(Failure::failed)?;
    let keeper = keeper(&dir)?;
    // Checks have threads of their own; what is left is short work on sockets and one writer.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cpus| cpus.get().clamp(2, 8)))
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start the async runtime: {error}")))?;
    let ended = runtime.block_on(async {
        telemetry.connect()?;
        let ended = node::run(args, &dir, keeper).await;
        telemetry.close().await;
        ended
    });
    // A reader that hangs in a blocking call must not keep the agent from ending.
    runtime.shutdown_background();
    ended
}

/// The keeper that lives, or a new one. Before any thread exists: a new one is a child of this process and must not
/// inherit a lock in a state of between.
fn keeper(dir: &DataDir) -> Result<Launched, Failure> {
    let soft = hale_keeper::raise_open_files();
    let mut options = LaunchOptions::new(&dir.path, false);
    options.keeper.soft_nofile = soft;
    hale_keeper::launch_or_connect(options)
        .map_err(|error| Failure::failed(format!("can't have a keeper of replicas: {error}")))
}

/// A name that nothing else has.
fn random_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}
