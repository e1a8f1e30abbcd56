//! Finding a keeper that lives, from the agent's side (N6).

use std::{
    ffi::OsString,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    KeeperError, LaunchOptions, Launched, Link, end_leftovers, launch,
    protocol::{Answer, Op, SpawnFailure, Text, Upgrade, Welcome},
    setup,
};

/// How long a keeper that lives may take to answer, and one that is on its way out to end.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Connects to the keeper of the data directory if one lives, else starts one; what a keeper that was killed has left is
/// ended before. A keeper of another release is upgraded in place: its replicas notice nothing.
///
/// To be called before an async runtime starts, as [`launch`]. Nobody else may be the agent of this directory.
///
/// # Errors
/// As [`launch`]; and a keeper lives that does not answer, beside which none may be started.
pub fn launch_or_connect(mut options: LaunchOptions) -> Result<Launched, KeeperError> {
    if options.keeper.end_with_agent {
        end_leftovers(&options.keeper.dir)?;
        return launch(options);
    }
    setup::run_dir(&options.keeper.dir)?;
    let dir = &mut options.keeper.dir;
    *dir = dir.canonicalize().map_err(KeeperError::path("find", dir.as_path()))?;
    let begun = Instant::now();
    loop {
        let pid = match setup::hold(&options.keeper.dir) {
            Ok(lock) => {
                drop(lock);
                end_leftovers(&options.keeper.dir)?;
                return launch(options);
            }
            Err(KeeperError::Held { pid, .. }) => pid,
            Err(error) => return Err(error),
        };
        match greet(&options.keeper.dir) {
            Ok(welcome) if !welcome.ending => {
                upgrade(&options, &welcome);
                return Launched::living(options, welcome.pid);
            }
            Err(error) if begun.elapsed() > ANSWERS_WITHIN => return Err(error),
            Ok(_) if begun.elapsed() > ANSWERS_WITHIN => {
                return Err(KeeperError::Held { pid, dir: options.keeper.dir });
            }
            // It is about to end, or was about to listen.
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn greet(dir: &Path) -> Result<Welcome, KeeperError> {
    let mut link = Link::connect(dir, ANSWERS_WITHIN)?;
    match link.look()? {
        Answer::Welcome(welcome) => Ok(welcome),
        other => Err(KeeperError::NotStarted(format!("a keeper that lives answered a hello with {other:?}"))),
    }
}

/// Upgrades a keeper of another release. One that can't be goes on as it is: releases one apart understand each other.
fn upgrade(options: &LaunchOptions, welcome: &Welcome) {
    let release = env!("CARGO_PKG_VERSION");
    if welcome.release == release {
        return;
    }
    if let Err(error) = upgrade_in_place(options) {
        setup::note(&format!("the keeper of release {} can't be upgraded: {error}", welcome.release));
    }
}

/// Puts the program of these options in the place of the keeper that lives; returns once it listens again.
///
/// # Errors
/// It can't be; the keeper is as it was then.
pub fn upgrade_in_place(options: &LaunchOptions) -> Result<(), KeeperError> {
    let dir = &options.keeper.dir;
    let mut words = options.command.iter();
    let program = words.next().ok_or_else(|| KeeperError::NotStarted("no program given".to_owned()))?;
    // The name that every process has for itself is another program to the keeper.
    let program = if program == "/proc/self/exe" {
        std::env::current_exe().map(OsString::from).map_err(KeeperError::system("find this program"))?
    } else {
        program.clone()
    };
    let args = words.map(Text::from).collect();
    let mut link = Link::connect(dir, ANSWERS_WITHIN)?;
    let before = greet(dir)?;
    match link.ask(Op::Upgrade(Box::new(Upgrade { program: Text::from(&program), args }))) {
        Ok(Answer::Error(SpawnFailure { detail, .. }) | Answer::Failed(SpawnFailure { detail, .. })) => {
            return Err(KeeperError::NotStarted(detail));
        }
        // The connection ended with the old program.
        Err(_) => {}
        Ok(other) => return Err(KeeperError::NotStarted(format!("an upgrade was answered with {other:?}"))),
    }
    let after = greet(dir)?;
    if after.pid == before.pid {
        return Ok(());
    }
    Err(KeeperError::NotStarted(format!("keeper {} took the place of {}", after.pid, before.pid)))
}
