//! The end of an instance (H13, H18): seen when the kernel tells, hurried when asked for, and told as gone only when
//! nothing of it is left.
//!
//! A main process that ends by itself takes what it has spawned along at once. One that ends because it was asked to
//! leaves the others the rest of the grace: a shell that dies of SIGTERM must not cost its server the chance to
//! finish its requests. Those of them that are in another process group, and have not heard of it, are then asked too.

use std::{fs::File, os::fd::OwnedFd, time::Duration};

use rustix::event::epoll::EventFlags;

use crate::{
    clock,
    keeper::{About, Keeper},
    procfs,
    protocol::{Deadline, Event, ExitRecord, Key},
    scan::{self, Known},
    setup, sys,
};

const MILLI: u64 = 1_000_000;
/// How often is looked whether something is left, where nothing tells.
const LOOK_EVERY: u64 = 50 * MILLI;
/// The longest wait between two attempts to kill what is left.
const KILL_EVERY_MAX: u64 = 1000 * MILLI;
/// After so long of killing, the instance is told as not to be ended.
const STOP_FAILED_AFTER: u64 = 2000 * MILLI;
/// Records of instances that are gone and not forgotten: the oldest beyond so many are dropped.
const RECORDS_MAX: usize = 4096;
/// A pipe holds 64 KiB unless it was made larger: so many reads empty it.
const READS_AT_THE_END: u32 = 64;

impl Keeper {
    /// Takes every child that has ended.
    pub(crate) fn reap(&mut self) {
        while let Ok(Some(pid)) = sys::peek_ended_child() {
            match self.by_pid.get(&pid).copied() {
                Some(number) => self.main_ended(number),
                None if self.outside.is_helper(pid) => {
                    let done = sys::reap(pid).is_ok_and(|(code, _)| code == Some(0));
                    self.outside_ended(pid, done);
                }
                // An orphan of some replica, or a child that never became its program.
                None => drop(sys::reap(pid)),
            }
        }
    }

    fn main_ended(&mut self, number: u64) {
        let Some(instance) = self.instances.get_mut(&number) else { return };
        let pid = instance.pid;
        if instance.stop_by.is_none() && instance.group.v2.is_none() {
            // Its number is still its own until it is reaped: so is its process group's.
            let _ = sys::kill(-pid, libc::SIGKILL);
        }
        let (code, signal) = sys::reap(pid).unwrap_or_default();
        self.by_pid.remove(&pid);
        let oom = instance.group.oom_kills() > 0;
        let at = clock::boot_nanos();
        let exit = ExitRecord { code, signal, oom, at, wall_ms: clock::wall_micros() / 1000 };
        instance.exit = Some(exit.clone());
        let key = instance.key.clone();
        // Its last words are stored before its end is told.
        self.capture(number, true, READS_AT_THE_END);
        self.capture(number, false, READS_AT_THE_END);
        self.take_notifications(number);
        self.tell(Event::Exited { key, exit });
        self.settle(number);
    }

    /// Does what is next for an instance whose main process has ended.
    pub(crate) fn settle(&mut self, number: u64) {
        let Some(instance) = self.instances.get(&number) else { return };
        if instance.gone || instance.exit.is_none() {
            return;
        }
        if !self.anything_left(number) {
            return self.gone(number);
        }
        let now = clock::boot_nanos();
        let Some(instance) = self.instances.get(&number) else { return };
        match instance.stop_by {
            Some(by) if by > now && instance.killing_since.is_none() => {
                let look = if instance.group.v2.is_some() { by } else { by.min(now + LOOK_EVERY) };
                self.ask_others(number);
                self.watch_group(number);
                self.wake_at(number, look);
            }
            _ => {
                self.watch_group(number);
                self.kill(number);
            }
        }
    }

    /// A timer of an instance has run out.
    pub(crate) fn tick(&mut self, number: u64) {
        let Some(instance) = self.instances.get(&number) else { return };
        let due = instance.stop_by.is_some_and(|by| by <= clock::boot_nanos());
        if instance.gone {
            self.remove_group(number);
        } else if due || instance.killing_since.is_some() {
            if instance.exit.is_some() && !self.anything_left(number) {
                return self.gone(number);
            }
            self.kill(number);
        } else {
            self.settle(number);
        }
    }

    /// SIGKILL to everything that is left; looks again soon, and tells if it goes on for too long.
    fn kill(&mut self, number: u64) {
        let now = clock::boot_nanos();
        let Some(instance) = self.instances.get_mut(&number) else { return };
        let since = *instance.killing_since.get_or_insert(now);
        if instance.exit.is_none() {
            let _ = sys::kill(-instance.pid, libc::SIGKILL);
        }
        if let Err(error) = instance.group.kill() {
            setup::note(&format!("{}: can't kill its cgroup: {error}", instance.key));
        }
        let spent = now - since;
        if spent > STOP_FAILED_AFTER && !instance.stop_failed_told {
            instance.stop_failed_told = true;
            let key = instance.key.clone();
            let detail = self.left_in_words(number);
            self.tell(Event::StopFailed { key, detail });
        }
        if self.instances.get(&number).is_some_and(|it| it.group.v2.is_none()) {
            for pid in self.members(number) {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
        }
        self.wake_at(number, now + spent.clamp(2 * MILLI, KILL_EVERY_MAX));
    }

    /// Begins to end an instance; a second time, only hurries it. One that nobody knows is gone.
    pub(crate) fn stop_key(&mut self, key: &Key, signal: i32, grace: Duration) {
        match self.by_key.get(key).copied() {
            Some(number) => self.stop(number, signal, grace),
            None => self.tell(Event::Gone { key: key.clone() }),
        }
    }

    fn stop(&mut self, number: u64, signal: i32, grace: Duration) {
        let Some(instance) = self.instances.get_mut(&number) else { return };
        if instance.gone {
            let key = instance.key.clone();
            return self.tell(Event::Gone { key });
        }
        let now = clock::boot_nanos();
        let by = now.saturating_add(u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX));
        if instance.stop_by.is_none() && instance.exit.is_none() && !grace.is_zero() {
            let _ = sys::kill(-instance.pid, signal);
            // One that is suspended would hear of it only once it is continued, and be killed at its grace.
            let _ = sys::kill(-instance.pid, libc::SIGCONT);
            instance.signal_others = Some(signal);
        }
        let by = instance.stop_by.map_or(by, |old| old.min(by));
        instance.stop_by = Some(by);
        if instance.killing_since.is_some() {
            return;
        }
        if by <= now { self.kill(number) } else { self.wake_at(number, by) }
    }

    /// Sends the stop signal, once, to those that are left and were not in the process group it went to.
    fn ask_others(&mut self, number: u64) {
        let Some(instance) = self.instances.get_mut(&number) else { return };
        let (group, Some(signal)) = (instance.pid, instance.signal_others.take()) else { return };
        for pid in self.members(number) {
            if procfs::process(pid).is_some_and(|process| process.group != group) {
                let _ = sys::kill(pid, signal);
                let _ = sys::kill(pid, libc::SIGCONT);
            }
        }
    }

    /// Notes when instances are to be stopped unless told otherwise.
    pub(crate) fn set_deadlines(&mut self, order: &Deadline) {
        for key in &order.keys {
            if self.set_outside_deadline(key, order.at.map(|at| (at, order.grace_ms))) {
                continue;
            }
            let Some(number) = self.by_key.get(key).copied() else { continue };
            let Some(instance) = self.instances.get_mut(&number).filter(|it| !it.gone) else { continue };
            let deadline = order.at.map(|at| (at, order.grace_ms));
            if let Some((old, _)) = std::mem::replace(&mut instance.deadline, deadline) {
                self.deadlines.remove(&(old, number));
            }
            self.deadlines.extend(order.at.map(|at| (at, number)));
        }
    }

    /// Stops what nobody has said otherwise of.
    pub(crate) fn meet_deadlines(&mut self, now: u64) {
        self.meet_outside_deadlines(now);
        while let Some((at, number)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, number));
            let Some(instance) = self.instances.get_mut(&number) else { continue };
            let Some((_, grace_ms)) = instance.deadline.take().filter(|_| !instance.gone) else { continue };
            setup::note(&format!("{}: its time without word of the agent is over", instance.key));
            let signal = instance.stop_signal;
            self.stop(number, signal, Duration::from_millis(grace_ms));
        }
    }

    /// Ends everything, then the keeper.
    pub(crate) fn end_all(&mut self, grace: Duration) {
        self.ending.get_or_insert_with(clock::boot_nanos);
        let all: Vec<(u64, i32)> =
            self.instances.iter().map(|(number, it)| (*number, it.stop_signal)).collect();
        for (number, signal) in all {
            if self.instances.get(&number).is_some_and(|it| !it.gone) {
                self.stop(number, signal, grace);
            }
        }
        self.end_outside(grace);
    }

    /// Whether the keeper has ended everything; then it leaves nothing behind.
    pub(crate) fn is_done(&mut self) -> bool {
        if self.ending.is_none() || self.instances.values().any(|it| !it.gone) {
            return false;
        }
        if self.outside.has_helper() {
            // Its end comes as a signal; it has a bound of its own.
            return false;
        }
        let all = procfs::processes().unwrap_or_default();
        let orphans: Vec<i32> = scan::orphans(&all, self.pid, &|_| false)
            .flat_map(|orphan| procfs::subtree(&all, orphan.pid))
            .map(|it| it.pid)
            .collect();
        if !orphans.is_empty() {
            for pid in orphans {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
            // Their ends come as signals; in case one is missed, a timer that belongs to nobody looks again.
            self.timers.insert((clock::boot_nanos() + LOOK_EVERY, 0));
            return false;
        }
        for instance in self.instances.values() {
            instance.group.remove();
        }
        self.cgroups.remove();
        let _ = std::fs::remove_file(self.options.dir.join("run").join(setup::SOCKET));
        // The lock is the last to go: it goes with the process.
        let _ = &self.lock;
        true
    }

    fn gone(&mut self, number: u64) {
        self.capture(number, true, READS_AT_THE_END);
        self.capture(number, false, READS_AT_THE_END);
        let Some(instance) = self.instances.get_mut(&number) else { return };
        let wall = clock::wall_micros();
        for mut output in [instance.stdout.take(), instance.stderr.take()].into_iter().flatten() {
            self.logs.finish(&instance.key.replica, &mut output.splitter, wall);
        }
        instance.gone = true;
        instance.notify = None;
        instance.watch = None;
        if std::mem::take(&mut instance.logging) {
            self.logs.close(&instance.key.replica, wall);
        }
        let key = instance.key.clone();
        self.tell(Event::Gone { key });
        // The kernel takes its time for it; the agent need not wait.
        self.wake_at(number, clock::boot_nanos());
        self.bound_records();
    }

    /// Takes the cgroups of an instance that is gone away; the kernel may need a moment.
    fn remove_group(&mut self, number: u64) {
        let removed = self.instances.get(&number).is_none_or(|it| it.group.remove());
        if !removed {
            self.wake_at(number, clock::boot_nanos() + LOOK_EVERY);
        }
    }

    /// The agent has no more need of a record.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.forget_outside(key);
        let Some(number) = self.by_key.get(key).copied() else { return };
        if self.instances.get(&number).is_some_and(|it| it.gone) {
            self.drop_record(number);
        }
    }

    fn bound_records(&mut self) {
        if self.instances.len() <= RECORDS_MAX {
            return;
        }
        let gone = self.instances.iter().filter(|it| it.1.gone);
        let records: Vec<u64> = gone.map(|(number, _)| *number).collect();
        if records.len() > RECORDS_MAX
            && let Some(oldest) = records.into_iter().min()
        {
            self.drop_record(oldest);
        }
    }

    fn drop_record(&mut self, number: u64) {
        let Some(instance) = self.instances.remove(&number) else { return };
        self.by_key.remove(&instance.key);
        if let Some((at, _)) = instance.deadline {
            self.deadlines.remove(&(at, number));
        }
        if let Some(at) = instance.wake {
            self.timers.remove(&(at, number));
            instance.group.remove();
        }
    }

    fn anything_left(&self, number: u64) -> bool {
        let Some(instance) = self.instances.get(&number) else { return false };
        instance.group.populated().unwrap_or_else(|| !self.members(number).is_empty())
    }

    /// The live processes of an instance.
    fn members(&self, number: u64) -> Vec<i32> {
        let Some(instance) = self.instances.get(&number) else { return Vec::new() };
        if let Some(group) = &instance.group.v2 {
            return crate::cgroup::members(group);
        }
        let all = procfs::processes().unwrap_or_default();
        let mark = format!("{}/{}", self.mark, instance.key);
        let known = Known { main: instance.pid, reaped: instance.exit.is_some(), mark: &mark };
        scan::members(&all, self.pid, &known, &|pid| {
            self.by_pid.contains_key(&pid) || self.outside.is_helper(pid)
        })
    }

    fn left_in_words(&self, number: u64) -> String {
        let members = self.members(number);
        let name = |pid: &i32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{pid} ({})", name.trim())
        };
        let shown: Vec<String> = members.iter().take(5).map(name).collect();
        format!("{} processes are left after SIGKILL: {}", members.len(), shown.join(", "))
    }

    /// Asks the kernel to tell when the cgroup is empty.
    fn watch_group(&mut self, number: u64) {
        let Some(instance) = self.instances.get(&number).filter(|it| it.watch.is_none()) else { return };
        let Some(path) = &instance.group.v2 else { return };
        let Ok(file) = File::open(path.join("cgroup.events")) else { return };
        let fd = OwnedFd::from(file);
        if self.watch_fd(&fd, About::Watch(number), EventFlags::PRI).is_ok()
            && let Some(instance) = self.instances.get_mut(&number)
        {
            instance.watch = Some(fd);
        }
    }
}
