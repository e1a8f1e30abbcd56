//! The beginning and the living of an instance: its start, its output, what it reports.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use rustix::{
    event::epoll::EventFlags,
    io::{Errno, read},
    net::UCred,
};

use crate::{
    MARK_VARIABLE,
    capture::{Splitter, Stream},
    clock,
    instance::{Instance, Output},
    keeper::{About, Keeper},
    notify, procfs,
    protocol::{Event, Running, SpawnFailure, Start},
    setup,
    spawn::{self, Spawned, Surroundings},
};

/// How many variables an instance may report by itself; later names are passed on but not kept.
const NOTIFIED_MAX: usize = 16;

impl Keeper {
    /// Spawns. A start that was made already is told again.
    pub(crate) fn start(&mut self, start: &Start) -> Result<Running, SpawnFailure> {
        if let Some(instance) = self.by_key.get(&start.key).and_then(|it| self.instances.get(it)) {
            return Ok(instance.running.clone());
        }
        let number = self.number();
        let (socket, socket_path) = if start.notify {
            let name = format!("hale/{}/{number}/{}", self.mark, start.key.replica);
            let opened = notify::open(&name).map_err(|error| SpawnFailure {
                code: "internal".to_owned(),
                detail: format!("can't open a notify socket: {error}"),
            })?;
            (Some(opened.0), Some(opened.1))
        } else {
            (None, None)
        };
        let around = Surroundings {
            cgroups: &self.cgroups,
            mark: &self.mark,
            soft_nofile: self.options.soft_nofile,
            reset_oom_score: self.reset_oom_score,
        };
        let spawned = spawn::spawn(start, socket_path.as_ref(), &around)?;
        Ok(self.enter(number, start, spawned, socket))
    }

    /// Enters a new instance everywhere.
    fn enter(&mut self, number: u64, start: &Start, spawned: Spawned, notify: Option<OwnedFd>) -> Running {
        let now = clock::boot_nanos();
        let shown = |path: &Option<std::path::PathBuf>| path.as_ref().map(|it| it.display().to_string());
        let running = Running {
            pid: spawned.pid.unsigned_abs(),
            start_time: spawned.start_time,
            cgroup: shown(&spawned.group.v2),
            memory_cgroup: shown(&spawned.group.memory),
            warnings: spawned.group.warnings.clone(),
        };
        let watched = self
            .watch_fd(&spawned.stdout, About::Stdout(number), EventFlags::IN)
            .and_then(|()| self.watch_fd(&spawned.stderr, About::Stderr(number), EventFlags::IN))
            .and_then(|()| match &notify {
                Some(socket) => self.watch_fd(socket, About::Notify(number), EventFlags::IN),
                None => Ok(()),
            });
        if let Err(error) = watched {
            setup::note(&format!("{}: {error}", start.key));
        }
        self.logs.open(&start.key.replica, now);
        let output = |pipe, stream| Some(Output { pipe, splitter: Splitter::new(stream) });
        let instance = Instance {
            key: start.key.clone(),
            running: running.clone(),
            pid: spawned.pid,
            stop_signal: start.stop_signal,
            memo: start.memo.clone(),
            uid: start.user.as_ref().map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid),
            started_at: now,
            started_wall_ms: clock::wall_micros() / 1000,
            group: spawned.group,
            stdout: output(spawned.stdout, Stream::Stdout),
            stderr: output(spawned.stderr, Stream::Stderr),
            notify,
            watch: None,
            notified: BTreeMap::new(),
            exit: None,
            gone: false,
            logging: true,
            stop_by: None,
            signal_others: None,
            killing_since: None,
            stop_failed_told: false,
            deadline: start.deadline,
            wake: None,
        };
        self.deadlines.extend(start.deadline.map(|(at, _)| (at, number)));
        self.by_pid.insert(instance.pid, number);
        self.by_key.insert(start.key.clone(), number);
        self.instances.insert(number, instance);
        running
    }

    /// Reads a pipe, at most so often, and stores or drops what came.
    pub(crate) fn capture(&mut self, number: u64, stdout: bool, reads: u32) {
        let Some(instance) = self.instances.get_mut(&number) else { return };
        let slot = if stdout { &mut instance.stdout } else { &mut instance.stderr };
        let replica = instance.key.replica.as_str();
        let (now, wall) = (clock::boot_nanos(), clock::wall_micros());
        for _ in 0..reads {
            let Some(output) = slot else { return };
            match read(&output.pipe, self.buffer.as_mut_slice()) {
                Ok(0) => break,
                Ok(length) => {
                    self.logs.take(replica, &mut output.splitter, &self.buffer[..length], now, wall)
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => break,
            }
        }
        self.capture_ended(number, stdout);
    }

    /// Called when a turn of reading is over: lets go of a pipe that has ended.
    fn capture_ended(&mut self, number: u64, stdout: bool) {
        let Some(instance) = self.instances.get_mut(&number) else { return };
        let slot = if stdout { &mut instance.stdout } else { &mut instance.stderr };
        let Some(output) = slot else { return };
        // Whether it has ended can be told without reading: nobody holds the other end.
        let mut poll = [rustix::event::PollFd::new(&output.pipe, rustix::event::PollFlags::IN)];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = rustix::event::poll(&mut poll, Some(&zero));
        let flags = poll[0].revents();
        if flags.contains(rustix::event::PollFlags::HUP) && !flags.contains(rustix::event::PollFlags::IN) {
            self.logs.finish(&instance.key.replica, &mut output.splitter, clock::wall_micros());
            *slot = None;
        }
    }

    /// Reads what an instance reports over its notify socket.
    pub(crate) fn take_notifications(&mut self, number: u64) {
        // Bounded, so that a flood of reports keeps nobody else waiting; epoll tells of the rest.
        for _ in 0..64 {
            let Some(socket) = self.instances.get(&number).and_then(|it| it.notify.as_ref()) else { return };
            let (sender, variables) = match notify::receive(socket) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return,
                Err(error) => return setup::note(&format!("can't read a notify socket: {error}")),
            };
            if sender.is_some_and(|sender| self.may_report(number, &sender)) {
                self.take_variables(number, variables);
            }
        }
    }

    fn take_variables(&mut self, number: u64, variables: Vec<(String, String)>) {
        let at = clock::boot_nanos();
        for (name, value) in variables {
            let Some(instance) = self.instances.get_mut(&number) else { return };
            if instance.notified.len() < NOTIFIED_MAX || instance.notified.contains_key(&name) {
                instance.notified.insert(name.clone(), (value.clone(), at));
            }
            let key = instance.key.clone();
            self.tell(Event::Notify { key, name, value, at });
        }
    }

    /// Whether the sender is of this instance. One that has ended already is judged by its user alone.
    fn may_report(&self, number: u64, sender: &UCred) -> bool {
        let Some(instance) = self.instances.get(&number) else { return false };
        let uid = sender.uid.as_raw();
        if uid != instance.uid && uid != 0 {
            return false;
        }
        let pid = sender.pid.as_raw_nonzero().get();
        // Of one that is ending (no memory left), as of a zombie or one that is reaped, nothing can be looked at.
        let alive = || procfs::process(pid).filter(|it| !it.zombie && it.resident_pages > 0);
        let Some(process) = alive() else { return true };
        if pid == instance.pid || process.session == instance.pid || process.group == instance.pid {
            return true;
        }
        let is_its =
            if let Some(name) = instance.group.v2.as_ref().and_then(|path| path.file_name()?.to_str()) {
                let of_sender = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
                of_sender.lines().any(|line| line.starts_with("0::") && line.split('/').any(|it| it == name))
            } else {
                let mark = format!("{}/{}", self.mark, instance.key);
                procfs::environment(pid, MARK_VARIABLE).is_some_and(|value| value == mark.as_bytes())
            };
        // It may have ended while it was looked at.
        is_its || alive().is_none()
    }
}
