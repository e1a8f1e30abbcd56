//! The probes of a shard, and when each is due. No socket, no clock: time comes in as nanoseconds since the shard
//! began.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{Counters, Finished, Registration, Start, wheel::Wheel};
use crate::{CheckResult, Checker};

/// Nanoseconds since the shard began.
pub(super) type Nanos = u64;

/// Length of a tick: what is due within it is started together (H10).
pub(super) const TICK: Nanos = 10_000_000;

/// A start later than this counts as late (O10).
const LATE: Nanos = 50_000_000;

/// No connection.
pub(super) const NONE: u32 = u32::MAX;

/// What a shard may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) in_flight: usize,
    pub(super) kept: usize,
}

/// Names a probe of a shard. The count tells it from earlier ones in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProbeId {
    pub(super) at: u32,
    pub(super) count: u32,
}

/// What a probe is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nothing is registered here.
    Free,
    /// Its timer tells when it is due.
    Waiting,
    /// It is due and waits for its turn.
    Due,
    /// A check is made on this connection; its timer tells when that is too late.
    Asking(u32),
    /// A check is made by a task.
    Away,
}

/// A registered probe. A hundred thousand of these are kept: mind its size.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) checker: Option<Arc<Checker>>,
    pub(super) token: u64,
    pub(super) period: Nanos,
    pub(super) timeout: Nanos,
    /// When the present, or else the next, check should begin.
    pub(super) due: Nanos,
    /// When the present one began.
    pub(super) began: Nanos,
    pub(super) doing: Doing,
    count: u32,
    /// The connection kept for the next check.
    pub(super) kept: u32,
    /// Asked for once more while one is under way.
    again: bool,
}

/// The probes of a shard.
#[derive(Debug)]
pub(super) struct Probes {
    probes: Vec<Probe>,
    free: Vec<u32>,
    pub(super) wheel: Wheel,
    pub(super) due: VecDeque<ProbeId>,
    pub(super) counters: Counters,
    pub(super) finished: Vec<Finished>,
    fired: Vec<u32>,
}

impl Probes {
    pub(super) fn new() -> Self {
        Self {
            probes: Vec::new(),
            free: Vec::new(),
            wheel: Wheel::new(),
            due: VecDeque::new(),
            counters: Counters::default(),
            finished: Vec::new(),
            fired: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, registration: Registration, now: Nanos) -> ProbeId {
        let period = nanos(registration.period.max(Duration::from_millis(1)));
        let first = match registration.start {
            Start::Now => 0,
            Start::After(delay) => nanos(delay),
            Start::Spread(key) => mix(key) % period,
            Start::SpreadAfter(key, delay) => nanos(delay).saturating_add(mix(key) % period),
        };
        let at = self.free.pop().unwrap_or_else(|| {
            self.probes.push(Probe::vacant());
            u32::try_from(self.probes.len() - 1).unwrap_or(NONE)
        });
        let probe = &mut self.probes[at as usize];
        *probe = Probe {
            checker: Some(registration.checker),
            token: registration.token,
            period,
            timeout: nanos(registration.timeout),
            due: now.saturating_add(first),
            doing: Doing::Waiting,
            count: probe.count,
            ..Probe::vacant()
        };
        let id = ProbeId { at, count: probe.count };
        self.counters.registered += 1;
        self.wait(at, now);
        id
    }

    /// Takes a probe away. Its connection, if it has one, is the caller's to close.
    pub(super) fn remove(&mut self, id: ProbeId) -> Option<(Doing, u32)> {
        let probe = self.get(id)?;
        let (doing, kept) = (probe.doing, probe.kept);
        let count = probe.count.wrapping_add(1);
        *probe = Probe { count, ..Probe::vacant() };
        self.wheel.unset(id.at);
        if matches!(doing, Doing::Asking(_) | Doing::Away) {
            self.counters.in_flight -= 1;
        }
        self.counters.registered -= 1;
        self.free.push(id.at);
        Some((doing, kept))
    }

    /// The probe of this name, unless it is gone.
    pub(super) fn get(&mut self, id: ProbeId) -> Option<&mut Probe> {
        self.probes.get_mut(id.at as usize).filter(|it| it.count == id.count && it.doing != Doing::Free)
    }

    /// The probe at a place that is known to hold one.
    pub(super) fn at(&mut self, at: u32) -> &mut Probe {
        &mut self.probes[at as usize]
    }

    /// Every connection that a probe asks on or keeps, and every place of a probe that is away.
    pub(super) fn id(&self, at: u32) -> ProbeId {
        ProbeId { at, count: self.probes[at as usize].count }
    }

    /// Makes a probe due now; while a check is under way: as soon as that is done.
    pub(super) fn trigger(&mut self, id: ProbeId, now: Nanos) {
        let Some(probe) = self.get(id) else { return };
        match probe.doing {
            Doing::Waiting => {
                probe.due = now;
                self.wheel.unset(id.at);
                self.wait(id.at, now);
            }
            Doing::Asking(_) | Doing::Away => probe.again = true,
            Doing::Due | Doing::Free => {}
        }
    }

    /// Asks in another rhythm from now on: the next check comes one new period after the start of the last.
    pub(super) fn set_period(&mut self, id: ProbeId, period: Duration, now: Nanos) {
        let Some(probe) = self.get(id) else { return };
        let old = std::mem::replace(&mut probe.period, nanos(period.max(Duration::from_millis(1))));
        if probe.doing == Doing::Waiting && old != probe.period {
            let last = probe.due.saturating_sub(old);
            probe.due = last.saturating_add(probe.period).max(now);
            self.wheel.unset(id.at);
            self.wait(id.at, now);
        }
    }

    /// Moves the wheel on. Probes that are due join the queue; checks that are overdue are handed to the caller.
    pub(super) fn advance(&mut self, now: Nanos, overdue: &mut Vec<u32>) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(now / TICK, &mut fired);
        for at in fired.drain(..) {
            if self.probes[at as usize].doing == Doing::Waiting {
                self.probes[at as usize].doing = Doing::Due;
                self.due.push_back(self.id(at));
            } else {
                overdue.push(at);
            }
        }
        self.fired = fired;
    }

    /// The next probe to start, unless none is due. Counts it as started.
    pub(super) fn take_due(&mut self, now: Nanos) -> Option<u32> {
        loop {
            let id = self.due.pop_front()?;
            let Some(probe) = self.get(id) else { continue };
            probe.began = now;
            let late = now.saturating_sub(probe.due) > LATE;
            let timeout_at = now.saturating_add(probe.timeout);
            self.wheel.set(id.at, timeout_at.div_ceil(TICK));
            self.counters.in_flight += 1;
            self.counters.started += 1;
            self.counters.late_starts += u64::from(late);
            return Some(id.at);
        }
    }

    /// A check that could not be begun, as this machine lacks something, goes back to the queue's end: those behind it
    /// may need none of it. Not longer than it may take: then `false`, and it ends.
    pub(super) fn put_back(&mut self, at: u32, now: Nanos) -> bool {
        let id = self.id(at);
        let probe = &mut self.probes[at as usize];
        if now.saturating_sub(probe.due) > probe.timeout {
            return false;
        }
        probe.doing = Doing::Due;
        self.wheel.unset(at);
        self.counters.in_flight -= 1;
        self.counters.started -= 1;
        self.counters.late_starts -= u64::from(probe.began.saturating_sub(probe.due) > LATE);
        self.due.push_back(id);
        true
    }

    /// A check has ended: its result is put by for delivery, and the probe waits for its next.
    pub(super) fn finish(&mut self, at: u32, now: Nanos, result: CheckResult, started_at: hale_health::Time) {
        let probe = &mut self.probes[at as usize];
        let late = Duration::from_nanos(probe.began.saturating_sub(probe.due));
        self.counters.in_flight -= 1;
        self.counters.prober_errors +=
            u64::from(result.reason().is_some_and(hale_health::Reason::is_prober_error));
        self.finished.push(Finished { token: probe.token, started_at, late, result });
        // On time: on the grid it began on. Later than a period: from now on.
        let next = probe.due.saturating_add(probe.period);
        probe.due = if probe.again { now } else { next.max(now) };
        probe.again = false;
        self.wheel.unset(at);
        self.wait(at, now);
    }

    fn wait(&mut self, at: u32, now: Nanos) {
        let probe = &mut self.probes[at as usize];
        if probe.due <= now {
            probe.doing = Doing::Due;
            self.due.push_back(self.id(at));
        } else {
            probe.doing = Doing::Waiting;
            self.wheel.set(at, probe.due.div_ceil(TICK));
        }
    }
}

impl Probe {
    const fn vacant() -> Self {
        Self {
            checker: None,
            token: 0,
            period: 0,
            timeout: 0,
            due: 0,
            began: 0,
            doing: Doing::Free,
            count: 0,
            kept: NONE,
            again: false,
        }
    }
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Spreads neighbouring numbers evenly (the finalizer of splitmix64).
const fn mix(key: u64) -> u64 {
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}
