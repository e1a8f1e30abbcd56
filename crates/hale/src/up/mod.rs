//! `hale up`: everything in one process, and the keeper beside it (N1).
//!
//! Order of start: files, data directory, what an earlier hale left behind, keeper, and only then threads and the
//! parts. Nothing is run before every file is right and every address can be listened on.

mod files;
mod following;
mod link;
pub(crate) mod lock;
mod node;
mod responding;
mod screen;
pub(crate) mod signals;
mod sink;
mod traffic;

use std::process::ExitCode;

use hale_keeper::{LaunchOptions, Launched};

use self::lock::DataDir;
use crate::{
    cli::{KeeperArgs, UpArgs},
    failure::Failure,
    telemetry,
};

/// Runs what the files declare until it is interrupted.
pub(crate) fn run(args: &UpArgs) -> Result<(), Failure> {
    let files = files::Files::read(&args.files)?;
    // What happens is on the screen: once is enough.
    let telemetry = telemetry::init(&args.telemetry, "hale-up", "error,hale_supervisor::log=off")?;
    let dir = DataDir::take(&args.data_dir.path()).map_err(Failure::failed)?;
    let keeper = launch_keeper(&dir)?;
    // Checks have threads of their own; what is left is short work on sockets and one writer.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cpus| cpus.get().clamp(2, 8)))
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start the async runtime: {error}")))?;
    let ended = runtime.block_on(async {
        telemetry.connect()?;
        let ended = node::run(args, files, &dir, keeper).await;
        telemetry.close().await;
        ended
    });
    // A reader that hangs in a blocking call must not keep hale from ending.
    runtime.shutdown_background();
    ended
}

/// Ends what an earlier hale left behind, then starts the keeper. Before any thread exists: it is a child of this
/// process and must not inherit a lock in a state of between.
fn launch_keeper(dir: &DataDir) -> Result<Launched, Failure> {
    let swept = hale_keeper::end_leftovers(&dir.path)
        .map_err(|error| Failure::failed(format!("can't end what an earlier hale left running: {error}")))?;
    if swept.processes > 0 {
        tracing::warn!(processes = swept.processes, "ended what an earlier hale had left running");
    }
    let soft = hale_keeper::raise_open_files();
    let mut options = LaunchOptions::new(&dir.path, true);
    options.keeper.soft_nofile = soft;
    hale_keeper::launch(options).map_err(|error| Failure::failed(format!("can't start the keeper: {error}")))
}

/// `hale keeper`: the other process.
pub(crate) fn keeper(args: &KeeperArgs) -> ExitCode {
    hale_keeper::run(args.rest.iter().map(Into::into))
}
