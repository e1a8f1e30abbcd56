//! What an instance is doing, before it is ended (H25): bounded in time and size, secrets masked.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hale_keeper::{logs, procfs, protocol::Running};
use hale_model::event::Forensics;

use super::{
    mask::Masker,
    usage::{self, Meter},
};

/// The longest an examination may take.
const LIMIT: Duration = Duration::from_secs(2);
/// The most of the log tail that is kept, bytes; with all else this stays below 256 KiB.
const LOG_BYTES: usize = 160 * 1024;
/// The most lines of the log.
const LOG_LINES: usize = 200;
/// Threads that are looked at, over all processes.
const THREADS: usize = 32;
/// The longest line about a thread, bytes.
const THREAD_LINE: usize = 1024;

/// Examines the processes of an instance by its main one, and the end of its output; what is not there within the limit
/// is named as missing.
pub async fn examine(
    running: Option<Running>,
    masker: Arc<Masker>,
    files: Vec<PathBuf>,
    limit: Duration,
) -> Forensics {
    let found = Arc::new(Mutex::new(Forensics::default()));
    let for_task = Arc::clone(&found);
    // Reading /proc of a process in trouble can block; what was found until then is kept.
    let task = tokio::task::spawn_blocking(move || look(running.as_ref(), &masker, &files, &for_task));
    let late = tokio::time::timeout(limit.min(LIMIT), task).await.is_err();
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if late {
        found
            .missing
            .push(format!("not all of it could be read within {} s", limit.min(LIMIT).as_secs_f64()));
    }
    found
}

fn look(running: Option<&Running>, masker: &Masker, files: &[PathBuf], found: &Mutex<Forensics>) {
    let put = |change: &mut dyn FnMut(&mut Forensics)| {
        change(&mut found.lock().unwrap_or_else(PoisonError::into_inner));
    };
    match log_tail(files, masker) {
        Ok(lines) => put(&mut |it| it.log_tail.clone_from(&lines)),
        Err(error) => put(&mut |it| it.missing.push(format!("log tail: {error}"))),
    }
    let Some(running) = running else {
        return put(&mut |it| it.missing.push("processes: none of it is left".to_owned()));
    };
    let members = usage::members(running);
    if members.is_empty() {
        return put(&mut |it| it.missing.push("processes: its main process has ended".to_owned()));
    }
    let main = i32::try_from(running.pid).unwrap_or(0);
    let memory = Meter::default().usage(running).map(|it| it.memory_bytes);
    let threads = members.iter().map(|it| it.threads).sum();
    put(&mut |it| {
        it.memory_bytes = memory;
        it.threads = Some(threads);
    });
    match procfs::open_files(main) {
        Ok(count) => put(&mut |it| it.open_files = Some(count)),
        Err(error) => put(&mut |it| it.missing.push(format!("open files: {error}"))),
    }
    let mut left = THREADS;
    // The main process first: it is the one that was asked and did not answer.
    let others = members.iter().map(|it| it.pid).filter(|pid| *pid != main);
    for pid in std::iter::once(main).chain(others) {
        for thread in procfs::threads(pid).unwrap_or_default().into_iter().take(left) {
            left -= 1;
            if let Ok(line) = procfs::thread_line(pid, thread) {
                let line = cut(&format!("process {pid} {line}"), THREAD_LINE).to_owned();
                put(&mut |it| it.waiting_in.push(line.clone()));
            }
        }
    }
}

/// The last lines of output, masked, within their share of the size.
fn log_tail(files: &[PathBuf], masker: &Masker) -> std::io::Result<Vec<String>> {
    let lines = logs::tail(files, LOG_LINES, 4 * LOG_BYTES as u64)?;
    let mut kept = Vec::new();
    let mut room = LOG_BYTES;
    for line in lines.iter().rev() {
        let text = masker.line(&line.text);
        let text = format!("{} {} {}", line.time, line.stream, cut(&text, 4096));
        let Some(rest) = room.checked_sub(text.len()) else { break };
        room = rest;
        kept.push(text);
    }
    kept.reverse();
    Ok(kept)
}

fn cut(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}
