//! Ending a command with everything it has started.

use std::{
    collections::HashSet,
    fs,
    io::Read,
    sync::{Mutex, MutexGuard, PoisonError},
};

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

/// Marks that wait to be looked for.
static WAITING: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Held while `/proc` is looked through.
static LOOKING: Mutex<()> = Mutex::new(());

/// Kills every process that has `mark` (`NAME=value`) in its environment, those forked meanwhile too.
///
/// Looking through `/proc` costs as much as there are processes. When many checks run into their timeout at once, one
/// look serves all that came before it began; else the looking itself would make the next ones late.
pub fn marked(mark: &str) {
    lock(&WAITING).push(mark.to_owned());
    let _one_at_a_time = lock(&LOOKING);
    let marks = std::mem::take(&mut *lock(&WAITING));
    // Empty: somebody looked for ours while we waited.
    if !marks.is_empty() {
        all_marked(&marks.iter().map(String::as_bytes).collect());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn all_marked(marks: &HashSet<&[u8]>) {
    for _ in 0..ROUNDS {
        let mut found = false;
        for pid in processes() {
            if carries(pid, marks) {
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

fn carries(pid: Pid, marks: &HashSet<&[u8]>) -> bool {
    let Ok(file) = fs::File::open(format!("/proc/{}/environ", pid.as_raw_nonzero())) else { return false };
    let mut environ = Vec::new();
    // A zombie's is empty, another user's can't be read.
    let read = file.take(MAX_ENVIRON).read_to_end(&mut environ);
    read.is_ok() && environ.split(|b| *b == 0).any(|entry| marks.contains(entry))
}
