//! Ending a command with everything it has started.

use std::{fs, io::Read};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How many times `/proc` is looked through for processes that were forked meanwhile.
const ROUNDS: usize = 5;

/// The most of a process's environment that is looked at.
const MAX_ENVIRON: u64 = 256 * 1024;

/// Kills a process group. Its leader must not have been reaped yet.
pub(super) fn group(leader: Pid) {
    // Fails only where nothing is left of it.
    let _ = kill_process_group(leader, Signal::KILL);
}

/// Kills every process that has `mark` (`NAME=value`) in its environment, those forked meanwhile too.
pub(super) fn marked(mark: &str) {
    for _ in 0..ROUNDS {
        let mut found = false;
        for pid in processes() {
            if carries(pid, mark) {
                found = true;
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if !found {
            return;
        }
    }
}

fn processes() -> Vec<Pid> {
    let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
    folder
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .collect()
}

fn carries(pid: Pid, mark: &str) -> bool {
    let Ok(file) = fs::File::open(format!("/proc/{}/environ", pid.as_raw_nonzero())) else { return false };
    let mut environ = Vec::new();
    // A zombie's is empty, another user's can't be read.
    let read = file.take(MAX_ENVIRON).read_to_end(&mut environ);
    read.is_ok() && environ.split(|b| *b == 0).any(|entry| entry == mark.as_bytes())
}
