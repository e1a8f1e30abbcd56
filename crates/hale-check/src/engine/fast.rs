//! Plain HTTP and TCP checks on the shard's own sockets, and handing over what needs more.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use hale_health::{Reason, Time};
use rustix::{event::epoll::EventFlags, io::Errno};
use tokio::task::AbortHandle;

use super::{
    answer::{address, judge, timings},
    away::Departure,
    sockets::{Sockets, Use},
    state::{Doing, Limits, NONE, Nanos, ProbeId, Probes, TICK},
};
use crate::{
    CheckResult, Checker, Timings,
    checker::Kind,
    http::{Destination, HttpCheck, response::Complete},
    net::{self, Stage},
    resolve,
    result::Fault,
    subject::{Host, Place},
};

/// How much is received at once.
const BUFFER: usize = 16 * 1024;

/// So many checks of a tick may find that this machine lacks something before the others are not tried. Those with a
/// kept connection, for one, need nothing more.
const LACKING: usize = 16;

/// For so long it is not said again that checks wait.
const SAID_FOR: Nanos = 60_000_000_000;

/// How many checks are begun before what has come in is looked at again.
const BURST: usize = 64;

/// Everything a shard works on.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) probes: Probes,
    pub(super) sockets: Sockets,
    limits: Limits,
    /// Checks that are made by a task.
    away: HashMap<u32, AbortHandle>,
    /// Checks for which a task is to be started.
    pub(super) departures: Vec<Departure>,
    /// Until then no check begins: this machine lacks something, and may have it again.
    held_until: Nanos,
    /// How many checks found that since.
    lacking: usize,
    /// When that was said last.
    said_at: Option<Nanos>,
    /// The shard's zero on the scale of [`Time`].
    origin: Time,
    pub(super) buffer: Vec<u8>,
    opened: Vec<u32>,
    overdue: Vec<u32>,
}

impl Core {
    pub(super) fn new(sockets: Sockets, limits: Limits) -> Self {
        Self {
            probes: Probes::new(),
            sockets,
            limits,
            away: HashMap::new(),
            departures: Vec::new(),
            held_until: 0,
            lacking: 0,
            said_at: None,
            origin: clock(),
            buffer: vec![0; BUFFER],
            opened: Vec::new(),
            overdue: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Nanos {
        clock().as_nanos().saturating_sub(self.origin.as_nanos())
    }

    /// Whether a check that is due may start.
    pub(super) fn can_start(&self) -> bool {
        self.has_room() && self.held_until == 0
    }

    fn has_room(&self) -> bool {
        !self.probes.due.is_empty() && self.probes.counters.in_flight < self.limits.in_flight
    }

    /// When checks begin again that wait for what this machine lacks.
    pub(super) fn held_until(&self) -> Option<Nanos> {
        Some(self.held_until).filter(|it| *it > 0 && self.has_room())
    }

    /// Ends the checks that are overdue and, unless results pile up, begins those that are due.
    pub(super) fn turn(&mut self, stalled: bool) {
        let now = self.now();
        let mut overdue = std::mem::take(&mut self.overdue);
        self.probes.advance(now, &mut overdue);
        for at in overdue.drain(..) {
            self.time_out(at);
        }
        self.overdue = overdue;
        if stalled {
            return;
        }
        if self.held_until <= now {
            self.held_until = 0;
        }
        self.lacking = 0;
        let mut begun = 0;
        while begun < BURST && self.can_start() {
            let now = self.now();
            let Some(at) = self.probes.take_due(now) else { break };
            self.begin(at, now);
            begun += 1;
        }
        // On the same machine a connection is there by now: no need to wait to be told.
        let mut opened = std::mem::take(&mut self.opened);
        for conn in opened.drain(..) {
            self.ask(conn, EventFlags::empty());
        }
        self.opened = opened;
    }

    /// Takes a probe away, and ends what it does. The task that is returned is to be aborted without the lock.
    #[must_use]
    pub(super) fn cancel(&mut self, id: ProbeId) -> Option<AbortHandle> {
        let (doing, kept) = self.probes.remove(id)?;
        if kept != NONE {
            self.sockets.close(kept);
        }
        match doing {
            Doing::Asking(conn) => self.sockets.close(conn),
            Doing::Away => return self.away.remove(&id.at),
            _ => {}
        }
        None
    }

    /// A task was started for a probe; returns it where the probe is gone.
    #[must_use]
    pub(super) fn departed(&mut self, id: ProbeId, task: AbortHandle) -> Option<AbortHandle> {
        match self.probes.get(id) {
            None => return Some(task),
            // A short one may be back already.
            Some(probe) if probe.doing == Doing::Away && !task.is_finished() => {
                self.away.insert(id.at, task);
            }
            Some(_) => {}
        }
        None
    }

    /// All tasks that make checks.
    #[must_use]
    pub(super) fn shut_down(&mut self) -> Vec<AbortHandle> {
        self.away.drain().map(|(_, task)| task).collect()
    }

    fn begin(&mut self, at: u32, now: Nanos) {
        let kept = std::mem::replace(&mut self.probes.at(at).kept, NONE);
        if kept != NONE {
            self.probes.at(at).doing = Doing::Asking(kept);
            self.sockets.resume(kept, now);
            self.ask(kept, EventFlags::empty());
            return;
        }
        let Some(checker) = self.probes.at(at).checker.clone() else { return };
        match address(&checker) {
            Some(to) => self.open(at, to, now),
            None => self.send_away(at, checker, None),
        }
    }

    fn open(&mut self, at: u32, to: SocketAddr, now: Nanos) {
        match self.sockets.open(to, at, now) {
            Ok(conn) => {
                self.probes.at(at).doing = Doing::Asking(conn);
                if to.ip().is_loopback() {
                    self.opened.push(conn);
                }
            }
            Err(error) => {
                let errno = error.raw_os_error().map(Errno::from_raw_os_error);
                let lacks = errno.is_some_and(|it| net::lacks(it, to));
                if !lacks
                    && let Some(checker) = self.probes.at(at).checker.clone()
                    && has_others(&checker)
                {
                    return self.send_away(at, checker, None);
                }
                let fault = net::unconnected(&error, to, &to);
                if lacks && self.hold(at, now, &fault) {
                    return;
                }
                self.finish(at, CheckResult::failure(fault, Timings::default()));
            }
        }
    }

    /// This machine lacks descriptors or ports: that says nothing of whom is asked (H10). The check waits
    /// until some come back, or it has waited for as long as it might have taken.
    fn hold(&mut self, at: u32, now: Nanos, fault: &Fault) -> bool {
        self.probes.counters.held += 1;
        self.lacking += 1;
        if self.lacking >= LACKING {
            self.held_until = now + TICK;
        }
        if self.said_at.is_none_or(|it| now.saturating_sub(it) > SAID_FOR) {
            self.said_at = Some(now);
            let in_flight = self.probes.counters.in_flight;
            tracing::warn!(
                in_flight,
                why = fault.detail,
                "checks wait, as this machine has no more for them"
            );
        }
        self.probes.put_back(at, now)
    }

    /// A socket has news.
    pub(super) fn on_event(&mut self, at: u32, flags: EventFlags) {
        let Some(conn) = self.sockets.get(at) else { return };
        match conn.using {
            Use::Idle => {}
            Use::Check => self.ask(at, flags),
            Use::Kept => {
                if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                    self.stir(at, flags);
                }
            }
        }
    }

    /// Goes on with a check as far as it goes without waiting.
    fn ask(&mut self, at: u32, flags: EventFlags) {
        let Some(conn) = self.sockets.get(at) else { return };
        conn.ending |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let probe = conn.probe;
        let Some(checker) = self.probes.at(probe).checker.clone() else { return };
        match &checker.kind {
            Kind::Tcp(check) => match conn.established() {
                Ok(true) => self.connected(at),
                Ok(false) => {}
                Err(error) => self.broken(at, &checker, &check.place, error),
            },
            Kind::Http(check) if check.trust.is_some() => self.ask_in_secret(at, &checker, check, flags),
            Kind::Http(check) => {
                if conn.sent < check.request.len() {
                    match conn.send(&check.request) {
                        Ok(all) => {
                            if conn.sent > 0 && conn.connected_at.is_none() {
                                let now = self.now();
                                self.sockets.get(at).map(|conn| conn.connected_at.replace(now));
                            }
                            // An edge is told once: what came with this one is read now.
                            if !all || !flags.intersects(EventFlags::IN | EventFlags::RDHUP) {
                                return;
                            }
                        }
                        Err(error) => return self.broken(at, &checker, &check.place, error),
                    }
                }
                self.receive(at, &checker, check);
            }
            Kind::Exec(_) | Kind::Grpc(_) | Kind::Dns(_) | Kind::Tls(_) => {}
        }
    }

    fn connected(&mut self, at: u32) {
        let now = self.now();
        let Some(conn) = self.sockets.get(at) else { return };
        conn.connected_at = Some(now);
        let probe = conn.probe;
        let timings = timings(conn, self.probes.at(probe).began, now);
        self.sockets.recycle(at);
        self.finish(probe, CheckResult::success(timings));
    }

    /// Reads until the answer is whole, or there is no more for now.
    fn receive(&mut self, at: u32, checker: &Arc<Checker>, check: &HttpCheck) {
        loop {
            let Some(conn) = self.sockets.get(at) else { return };
            let count = match conn.receive(&mut self.buffer) {
                Ok(Some(count)) => count,
                Ok(None) => return,
                Err(error) => return self.broken(at, checker, &check.place, error),
            };
            let now = clock().as_nanos().saturating_sub(self.origin.as_nanos());
            if count > 0 && conn.first_byte_at.is_none() {
                conn.first_byte_at = Some(now);
            }
            let mut received = std::mem::take(&mut conn.received);
            let whole = received.is_empty();
            if !whole {
                received.extend_from_slice(&self.buffer[..count]);
            }
            let bytes = if whole { &self.buffer[..count] } else { &received[..] };
            match conn.parser.advance(bytes, count == 0) {
                Ok(Some(complete)) => {
                    let timings = timings(conn, self.probes.at(conn.probe).began, now);
                    let judged = judge(check, conn, bytes, timings);
                    return self.answered(at, checker, complete, judged, check.keep_alive);
                }
                Ok(None) => {
                    if whole {
                        received.extend_from_slice(&self.buffer[..count]);
                    }
                    conn.received = received;
                }
                Err(_) if conn.reused && conn.first_byte_at.is_none() => {
                    return self.broken(at, checker, &check.place, Errno::CONNRESET);
                }
                Err(fault) => {
                    let detail = format!("{}: {}", check.place, fault.detail);
                    return self.failed(at, Fault { detail, ..fault });
                }
            }
        }
    }

    pub(super) fn answered(
        &mut self,
        at: u32,
        checker: &Arc<Checker>,
        complete: Complete,
        judged: Result<CheckResult, Destination>,
        keep: bool,
    ) {
        let Some(conn) = self.sockets.get(at) else { return };
        let probe = conn.probe;
        if complete.reusable && keep && !conn.ending && self.sockets.kept < self.limits.kept && judged.is_ok()
        {
            self.sockets.keep(at);
            self.probes.at(probe).kept = at;
        } else {
            self.sockets.recycle(at);
        }
        match judged {
            Ok(result) => self.finish(probe, result),
            Err(next) => self.send_away(probe, Arc::clone(checker), Some((next, 1))),
        }
    }

    /// The kernel says that a connection is of no more use.
    pub(super) fn broken(&mut self, at: u32, checker: &Arc<Checker>, place: &Place, error: Errno) {
        let Some(conn) = self.sockets.get(at) else { return };
        let (probe, reused) = (conn.probe, conn.reused && conn.first_byte_at.is_none());
        let unconnected = conn.connected_at.is_none();
        let doing = match unconnected {
            true => "connect to",
            false if conn.is_shaking_hands() => "shake hands over TLS with",
            false => "talk to",
        };
        let fault = net::fault(&error.into(), doing, place);
        // The peer has closed a kept connection just as it was used: once more, on a fresh one.
        if reused && fault.reason == Reason::ConnectionReset {
            self.sockets.close(at);
            let now = self.now();
            match address(checker) {
                Some(to) => self.open(probe, to, now),
                None => self.send_away(probe, Arc::clone(checker), None),
            }
            return;
        }
        // Another address of the same name may answer.
        if unconnected && has_others(checker) {
            self.sockets.close(at);
            self.send_away(probe, Arc::clone(checker), None);
            return;
        }
        self.failed(at, fault);
    }

    pub(super) fn failed(&mut self, at: u32, fault: Fault) {
        let now = self.now();
        let Some(conn) = self.sockets.get(at) else { return };
        let probe = conn.probe;
        let timings = timings(conn, self.probes.at(probe).began, now);
        self.sockets.close(at);
        self.finish(probe, CheckResult::failure(fault, timings));
    }

    /// The timer of a check has fired. A task ends by itself: it has the same timeout.
    fn time_out(&mut self, at: u32) {
        let probe = self.probes.at(at);
        let Doing::Asking(conn_at) = probe.doing else { return };
        let timeout = Duration::from_nanos(probe.timeout);
        let Some(checker) = probe.checker.clone() else { return };
        let Some(conn) = self.sockets.get(conn_at) else { return };
        let stage = match (conn.connected_at, conn.first_byte_at) {
            (None, _) => Stage::Connect,
            (Some(_), None) if conn.is_shaking_hands() => Stage::Tls,
            (Some(_), None) => Stage::FirstByte,
            (Some(_), Some(_)) => Stage::Answer,
        };
        let place = match &checker.kind {
            Kind::Http(check) => &check.place,
            Kind::Tcp(check) => &check.place,
            Kind::Exec(_) | Kind::Grpc(_) | Kind::Dns(_) | Kind::Tls(_) => return,
        };
        // Another address of the same name may answer: the next check begins there.
        if stage == Stage::Connect
            && let Host::Name(name) = &place.host
        {
            resolve::pass_on(name);
        }
        self.failed(conn_at, net::timed_out(stage, place, timeout));
    }

    fn finish(&mut self, at: u32, result: CheckResult) {
        let now = self.now();
        let began = self.origin + Duration::from_nanos(self.probes.at(at).began);
        self.probes.finish(at, now, result, began);
    }

    /// A check that a task has made comes home.
    pub(super) fn come_home(&mut self, id: ProbeId, result: CheckResult) {
        if self.probes.get(id).is_some_and(|probe| probe.doing == Doing::Away) {
            self.away.remove(&id.at);
            self.finish(id.at, result);
        }
    }

    fn send_away(&mut self, at: u32, checker: Arc<Checker>, redirected: Option<(Destination, u8)>) {
        let now = self.now();
        let id = self.probes.id(at);
        let probe = self.probes.at(at);
        probe.doing = Doing::Away;
        let timeout = Duration::from_nanos(probe.timeout);
        // Within a tick it has only just begun.
        let spent = Some(now.saturating_sub(probe.began)).filter(|it| *it >= TICK).unwrap_or(0);
        let spent = Duration::from_nanos(spent);
        self.departures.push(Departure { id, checker, redirected, timeout, spent });
    }
}
/// Whether the name that is asked has more than one address, as far as that is known.
fn has_others(checker: &Checker) -> bool {
    let place = match &checker.kind {
        Kind::Http(check) => &check.place,
        Kind::Tcp(check) => &check.place,
        Kind::Exec(_) | Kind::Grpc(_) | Kind::Dns(_) | Kind::Tls(_) => return false,
    };
    matches!(&place.host, Host::Name(name) if resolve::known(name).is_none_or(|it| it.len() > 1))
}

/// `CLOCK_BOOTTIME`: the scale of decisions, which goes on while the machine sleeps.
fn clock() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    Time::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
