//! The keeper's main: one thread that waits for whatever comes next and does it.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    fs::File,
    io::Read,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::{
    KeeperError, LogLimits,
    cgroup::Cgroups,
    clock,
    instance::Instance,
    outside::Outside,
    protocol::{Event, Key},
    serve::Connection,
    setup, sys, upgrade,
    writer::LogBook,
};

/// How a keeper runs. Passed on as JSON, so that an agent and a keeper of different releases understand each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct KeeperOptions {
    /// The data directory: `run/` and `logs/` are made in it.
    pub dir: PathBuf,
    /// Whether everything is ended when the agent's connection ends (N19).
    pub end_with_agent: bool,
    /// How long each replica has between its stop signal and SIGKILL when everything is ended so, milliseconds.
    pub end_grace_ms: u64,
    /// The soft limit of open files that replicas get, where the agent has raised its own.
    pub soft_nofile: Option<u64>,
    /// Whether cgroups are used where they can be had.
    pub cgroups: bool,
    /// How much output is kept.
    pub logs: LogLimits,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            end_with_agent: false,
            end_grace_ms: 2000,
            soft_nofile: None,
            cgroups: true,
            logs: LogLimits::default(),
        }
    }
}

/// The main of `hale keeper`: takes the arguments after that word (`--options JSON`), runs until its work is done.
///
/// To be called first thing in a process, before any thread is started.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let words: Vec<&str> = arguments.iter().filter_map(|it| it.to_str()).collect();
    match words.as_slice() {
        [upgrade::CHECK] if upgrade::answer_check() => return ExitCode::SUCCESS,
        [upgrade::CHECK] => return ExitCode::FAILURE,
        [upgrade::RESUME, memory] => return resume(memory),
        _ => {}
    }
    // A pipe or terminal that somebody forgot to close would be held open as long as a replica runs.
    sys::close_inherited();
    match setup::options(arguments).and_then(setup::prepare) {
        Ok(mut keeper) => {
            setup::say_ready();
            keeper.work();
            ExitCode::SUCCESS
        }
        Err(error) => {
            setup::say_failed(&error);
            ExitCode::FAILURE
        }
    }
}

/// The same in the place of another program, with what that one has passed on.
fn resume(memory: &str) -> ExitCode {
    match Keeper::resume(memory) {
        Ok(mut keeper) => {
            setup::note(&format!("release {} goes on", env!("CARGO_PKG_VERSION")));
            keeper.catch_up();
            keeper.work();
            ExitCode::SUCCESS
        }
        Err(error) => {
            setup::note(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// What an event of the kernel is about; with a number, one word of epoll data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Signals,
    Listener,
    Connection(u64),
    Stdout(u64),
    Stderr(u64),
    Notify(u64),
    Watch(u64),
}

impl About {
    pub(crate) const fn pack(self) -> EventData {
        let (kind, number) = match self {
            Self::Signals => (0, 0),
            Self::Listener => (1, 0),
            Self::Connection(number) => (2, number),
            Self::Stdout(number) => (3, number),
            Self::Stderr(number) => (4, number),
            Self::Notify(number) => (5, number),
            Self::Watch(number) => (6, number),
        };
        EventData::new_u64(number << 3 | kind)
    }

    fn unpack(data: EventData) -> Self {
        let word = data.u64();
        let number = word >> 3;
        match word & 7 {
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::Connection(number),
            3 => Self::Stdout(number),
            4 => Self::Stderr(number),
            5 => Self::Notify(number),
            _ => Self::Watch(number),
        }
    }
}

/// Everything the keeper has.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) options: KeeperOptions,
    pub(crate) mark: String,
    pub(crate) boot_id: String,
    pub(crate) pid: i32,
    pub(crate) reset_oom_score: bool,
    pub(crate) epoll: OwnedFd,
    pub(crate) signals: File,
    pub(crate) listener: UnixListener,
    /// Held as long as the keeper lives: one keeper per data directory.
    pub(crate) lock: File,
    pub(crate) connections: HashMap<u64, Connection>,
    /// The connection that has said hello.
    pub(crate) agent: Option<u64>,
    /// When to end if no agent has come by then.
    pub(crate) agent_by: Option<u64>,
    /// By a number that is never used again: an event that comes late finds nobody, never somebody else.
    pub(crate) instances: HashMap<u64, Instance>,
    pub(crate) by_key: HashMap<Key, u64>,
    pub(crate) by_pid: HashMap<i32, u64>,
    pub(crate) timers: BTreeSet<(u64, u64)>,
    /// When which instance is to be stopped unless told otherwise.
    pub(crate) deadlines: BTreeSet<(u64, u64)>,
    /// Containers that are ended when nobody else does.
    pub(crate) outside: Outside,
    pub(crate) next_number: u64,
    pub(crate) logs: LogBook,
    pub(crate) cgroups: Cgroups,
    /// Since when everything is being ended.
    pub(crate) ending: Option<u64>,
    pub(crate) buffer: Vec<u8>,
}

impl Keeper {
    pub(crate) const fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Works until everything has ended and the keeper is to end.
    pub(crate) fn work(&mut self) {
        let mut events = Vec::with_capacity(256);
        loop {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    setup::note(&format!("can't wait for events: {errno}"));
                    return;
                }
            }
            // Ends first: nothing is more urgent.
            if events.iter().any(|event| About::unpack(event.data) == About::Signals) {
                self.take_signals();
            }
            for event in &events {
                self.handle(About::unpack(event.data), event.flags);
            }
            self.fire_timers();
            self.serve_waiting();
            self.flush();
            if self.is_done() {
                return;
            }
        }
    }

    fn handle(&mut self, about: About, flags: EventFlags) {
        match about {
            About::Signals => {}
            About::Listener => self.accept(),
            About::Connection(number) => self.receive(number, flags),
            About::Stdout(number) => self.capture(number, true, READS_A_TURN),
            About::Stderr(number) => self.capture(number, false, READS_A_TURN),
            About::Notify(number) => self.take_notifications(number),
            About::Watch(number) => self.settle(number),
        }
    }

    fn take_signals(&mut self) {
        let mut record = [0_u8; sys::SIGNAL_RECORD];
        let mut end = false;
        while let Ok(length) = self.signals.read(&mut record) {
            if length < record.len() {
                break;
            }
            let signal = i32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
            end |= signal == libc::SIGTERM;
        }
        self.reap();
        if end {
            self.end_all(Duration::from_millis(self.options.end_grace_ms));
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        if self.connections.values().any(|it| it.waiting) {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let first = self.timers.first().map(|(at, _)| *at);
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let at =
            [first, deadline, self.outside.next_deadline(), self.agent_by].into_iter().flatten().min()?;
        let wait = Duration::from_nanos(at.saturating_sub(clock::boot_nanos()));
        Timespec::try_from(wait).ok()
    }

    fn fire_timers(&mut self) {
        let now = clock::boot_nanos();
        while let Some((at, number)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, number));
            if let Some(instance) = self.instances.get_mut(&number) {
                instance.wake = None;
            }
            self.tick(number);
        }
        self.meet_deadlines(now);
        if self.agent_by.is_some_and(|by| by <= now) {
            self.agent_by = None;
            self.end_all(Duration::from_millis(self.options.end_grace_ms));
        }
    }

    /// Looks at an instance again at this time.
    pub(crate) fn wake_at(&mut self, number: u64, at: u64) {
        let Some(instance) = self.instances.get_mut(&number) else { return };
        if let Some(old) = instance.wake.replace(at) {
            self.timers.remove(&(old, number));
        }
        self.timers.insert((at, number));
    }

    pub(crate) fn watch_fd(&self, fd: &OwnedFd, about: About, flags: EventFlags) -> Result<(), KeeperError> {
        epoll::add(&self.epoll, fd, about.pack(), flags).map_err(KeeperError::system("watch a descriptor"))
    }

    /// Tells the agent, if one is there. What matters is in the records as well.
    pub(crate) fn tell(&mut self, event: Event) {
        if let Some(connection) = self.agent.and_then(|number| self.connections.get_mut(&number)) {
            connection.tell(event);
        }
    }
}

/// How often a pipe is read before others have their turn.
const READS_A_TURN: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_event_is_about_survives_the_kernel() {
        for about in
            [About::Signals, About::Listener, About::Connection(1), About::Stdout(2), About::Watch(1 << 40)]
        {
            assert_eq!(About::unpack(about.pack()), about);
        }
    }

    #[test]
    fn options_of_another_release_are_understood() {
        let options: KeeperOptions = serde_json::from_str(r#"{"dir":"/d","later":true}"#).unwrap();
        assert!(options.cgroups && !options.end_with_agent);
        assert_eq!(options.logs, LogLimits::default());
    }
}
