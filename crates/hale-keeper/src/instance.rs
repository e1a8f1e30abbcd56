//! What the keeper knows of one run.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use crate::{
    capture::Splitter,
    cgroup::Group,
    protocol::{ExitRecord, InstanceState, Key, Running},
};

/// One end of output.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) pipe: OwnedFd,
    pub(crate) splitter: Splitter,
}

/// One run of one replica, from its spawn until its record is forgotten.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) key: Key,
    pub(crate) running: Running,
    pub(crate) pid: i32,
    pub(crate) stop_signal: i32,
    pub(crate) memo: Option<String>,
    pub(crate) uid: u32,
    pub(crate) started_at: u64,
    pub(crate) started_wall_ms: u64,
    pub(crate) group: Group,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    pub(crate) notify: Option<OwnedFd>,
    /// Watches `cgroup.events`, while something is left after the main process.
    pub(crate) watch: Option<OwnedFd>,
    pub(crate) notified: BTreeMap<String, (String, u64)>,
    pub(crate) exit: Option<ExitRecord>,
    pub(crate) gone: bool,
    /// Whether its log file is open in the book.
    pub(crate) logging: bool,
    /// Until when a stop waits before SIGKILL.
    pub(crate) stop_by: Option<u64>,
    /// The stop signal, until it was sent to those outside of the process group as well.
    pub(crate) signal_others: Option<i32>,
    /// Since when everything left is being killed.
    pub(crate) killing_since: Option<u64>,
    pub(crate) stop_failed_told: bool,
    /// When it is to be stopped unless told otherwise, and how long it has then, milliseconds.
    pub(crate) deadline: Option<(u64, u64)>,
    /// When it is to be looked at next: the one entry it has among the timers.
    pub(crate) wake: Option<u64>,
}

impl Instance {
    pub(crate) fn state(&self, dropped_lines: u64) -> InstanceState {
        InstanceState {
            key: self.key.clone(),
            running: self.running.clone(),
            started_at: self.started_at,
            started_wall_ms: self.started_wall_ms,
            exit: self.exit.clone(),
            gone: self.gone,
            stopping: self.stop_by.is_some() || self.killing_since.is_some(),
            notified: self.notified.clone(),
            memo: self.memo.clone(),
            dropped_lines,
        }
    }
}
