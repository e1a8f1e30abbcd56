//! What takes time: starting, draining, examining. Each in a task of its own, which reports back.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use hale_health::{Incarnation, ProbeKind, Time};
use hale_model::{event::Forensics, spec::Probe};
use tokio::sync::oneshot;

use super::{
    core::{Back, World},
    handle::SupervisorError,
    slot::Run,
    unit::Unit,
};
use crate::{
    prober::{Ask, Asked},
    process::Masker,
    runtime::{InstanceId, Launch, Started},
};

/// The most that forensics may hold, bytes (H25).
const FORENSICS_BYTES: usize = 256 * 1024;

/// Starts a run of a replica.
pub(super) fn spawn(unit: &mut Unit, world: &World, ordinal: u32, incarnation: Incarnation) {
    let spec = Arc::clone(unit.spec_of(ordinal));
    let slot = unit.slot(ordinal);
    let id = InstanceId { replica: slot.name.clone(), generation: slot.generation, incarnation };
    let ports = world.ports.assign(&slot.name, &spec.ports);
    let known = ports.as_ref().cloned().unwrap_or_default();
    let stop = &spec.policy.stop;
    let stop_at = slot.stop_at.map(|at| (at + stop.drain, stop.grace));
    slot.run = Some(Run { stop_at, ..Run::new(id.clone(), Arc::clone(&spec), known) });
    let (runtime, back) = (Arc::clone(&world.runtime), world.back.clone());
    tokio::spawn(async move {
        let result = match ports {
            Ok(ports) => runtime.start(Launch { id: id.clone(), workload: spec, ports, stop_at }).await,
            Err(error) => Err(error),
        };
        // An error means that the supervisor is gone.
        let _ = back.send(Back::Started { id, result }).await;
    });
}

/// What a probe of a run asks.
pub(super) fn ask(run: &Run, started: &Started, probe: &Probe, kind: ProbeKind) -> Ask {
    Ask {
        id: run.id.clone(),
        kind,
        probe: probe.clone(),
        workload: Arc::clone(&run.spec),
        started: started.clone(),
        ports: run.ports.clone(),
        first_after: Duration::ZERO,
        spread: false,
    }
}

/// Makes checks once, now.
pub(super) fn check_now(
    world: &World,
    asks: Vec<Ask>,
    answer: oneshot::Sender<Result<Vec<Asked>, SupervisorError>>,
) {
    let (prober, back) = (Arc::clone(&world.prober), world.back.clone());
    tokio::spawn(async move {
        let asked = join_all(asks.into_iter().map(|ask| prober.ask_once(ask))).await;
        let _ = back.send(Back::CheckedNow { asked, answer }).await;
    });
}

/// Waits until nobody sends traffic to a run any more, or until `until`, when its machine goes on by itself.
pub(super) fn drain(world: &World, id: InstanceId, until: Time) {
    let (drain, clock, back) = (Arc::clone(&world.drain), Arc::clone(&world.clock), world.back.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = drain.drained(&id) => {
                let _ = back.send(Back::Drained { id }).await;
            }
            () = clock.sleep_until(until) => {}
        }
    });
}

/// The same for one that is no replica any more; at `until` it is told, too.
pub(super) fn drain_stray(world: &World, id: InstanceId, until: Time) {
    let (drain, clock, back) = (Arc::clone(&world.drain), Arc::clone(&world.clock), world.back.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = drain.drained(&id) => {}
            () = clock.sleep_until(until) => {}
        }
        let _ = back.send(Back::StrayDrained { id }).await;
    });
}

/// Keeps what a run is doing, bounded in time and size and with secrets masked (H25).
pub(super) fn examine(world: &World, run: &Run, limit: Duration, ended: bool) {
    let (runtime, clock, back) = (Arc::clone(&world.runtime), Arc::clone(&world.clock), world.back.clone());
    let (id, outcomes) = (run.id.clone(), run.recent.iter().cloned().collect::<Vec<_>>());
    let until = clock.now() + limit;
    tokio::spawn(async move {
        let mut forensics = tokio::select! {
            forensics = runtime.examine(&id, limit) => forensics,
            () = clock.sleep_until(until) => {
                Forensics { missing: vec![format!("nothing could be had within {limit:?}")], ..Forensics::default() }
            }
        };
        forensics.probe_outcomes = outcomes;
        let forensics = Box::new(bounded(forensics));
        let _ = back.send(Back::Examined { id, forensics, ended }).await;
    });
}

/// Without secrets, and cut to size: what is oldest goes.
fn bounded(mut forensics: Forensics) -> Forensics {
    let masker = Masker::default();
    for lines in [&mut forensics.log_tail, &mut forensics.probe_outcomes] {
        lines.iter_mut().for_each(|line| *line = masker.line(line));
    }
    let size = |lines: &[String]| lines.iter().map(|line| line.len() + 4).sum::<usize>();
    let rest = size(&forensics.probe_outcomes) + size(&forensics.waiting_in) + size(&forensics.missing);
    let mut room = FORENSICS_BYTES.saturating_sub(rest);
    let kept = forensics.log_tail.iter().rev().take_while(|line| {
        let fits = line.len() + 4 <= room;
        room = room.saturating_sub(line.len() + 4);
        fits
    });
    let dropped = forensics.log_tail.len() - kept.count();
    if dropped > 0 {
        forensics.log_tail.drain(..dropped);
        forensics.missing.push(format!("{dropped} older lines of output"));
    }
    forensics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forensics_keep_the_newest_lines_and_no_secret() {
        let tail = (0..1000).map(|n| format!("{n} password=x {}", "y".repeat(1000))).collect();
        let kept = bounded(Forensics { log_tail: tail, ..Forensics::default() });
        let size: usize = kept.log_tail.iter().map(String::len).sum();
        assert!(size < FORENSICS_BYTES && size > FORENSICS_BYTES / 2);
        assert!(kept.log_tail.last().is_some_and(|line| line.starts_with("999 password=***")));
        assert_eq!(kept.missing.len(), 1);
    }
}
