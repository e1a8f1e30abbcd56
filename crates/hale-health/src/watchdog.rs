//! Checks that are pushed instead of pulled: the `sd_notify` protocol (H9).

use std::time::Duration;

use crate::{Incarnation, Input, Outcome, ProbeKind, ProbeTiming, Reason, Time, Verdict};

/// What a process says over its notify socket, turned into the inputs that a pulled check would give.
///
/// - `READY=1` is success of startup and, from then on, of readiness, once per period; before it readiness fails as
///   `not_ready`. Startup has no failures, only its deadline.
/// - `WATCHDOG=1` is a liveness success and sets the timer back. A period without one is a liveness failure, then the
///   next period counts. `WATCHDOG=trigger` is one at once. `WATCHDOG_USEC=` changes the interval.
/// - `EXTEND_TIMEOUT_USEC=` gives a startup more time, and the watchdog too.
/// - `STOPPING=1` takes it out of traffic and ends the watchdog.
/// - `STATUS=` is kept for the status.
#[derive(Debug, Clone)]
pub struct Watchdog {
    incarnation: Incarnation,
    startup: bool,
    readiness: Option<Timer>,
    liveness: Option<Timer>,
    ready: bool,
    stopping: bool,
    status: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Timer {
    every: Duration,
    next: Time,
}

impl Watchdog {
    /// Of one start. Nothing is watched until [`Watchdog::start`]; what is said earlier is kept.
    #[must_use]
    pub const fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            startup: false,
            readiness: None,
            liveness: None,
            ready: false,
            stopping: false,
            status: None,
        }
    }

    /// Begins a probe of kind `notify`; answers [`crate::Decision::StartProbe`].
    pub fn start(
        &mut self,
        now: Time,
        kind: ProbeKind,
        timing: &ProbeTiming,
        first_after: Duration,
        out: &mut Vec<Input>,
    ) {
        let every = timing.period.max(Duration::from_millis(1));
        match kind {
            ProbeKind::Startup => self.startup = true,
            ProbeKind::Readiness => self.readiness = Some(Timer { every, next: now + first_after }),
            ProbeKind::Liveness => self.liveness = Some(Timer { every, next: now + first_after + every }),
        }
        if self.ready && kind != ProbeKind::Liveness {
            self.say_ready(now, out);
        }
    }

    /// Ends one probe, or all.
    pub const fn stop(&mut self, only: Option<ProbeKind>) {
        if matches!(only, None | Some(ProbeKind::Startup)) {
            self.startup = false;
        }
        if matches!(only, None | Some(ProbeKind::Readiness)) {
            self.readiness = None;
        }
        if matches!(only, None | Some(ProbeKind::Liveness)) {
            self.liveness = None;
        }
    }

    /// Takes one `NAME=value` of the process. Names that mean nothing here are passed over.
    pub fn notify(&mut self, now: Time, name: &str, value: &str, out: &mut Vec<Input>) {
        match (name, value) {
            ("READY", "1") => {
                self.ready = true;
                self.say_ready(now, out);
            }
            ("STATUS", text) => {
                let end = text.floor_char_boundary(1024);
                self.status = text.get(..end).filter(|text| !text.is_empty()).map(str::to_owned);
            }
            ("STOPPING", "1") => {
                self.stopping = true;
                self.liveness = None;
                self.readiness = None;
                out.push(Input::Leaving { incarnation: self.incarnation });
            }
            ("WATCHDOG", "1") => {
                if let Some(timer) = &mut self.liveness {
                    timer.next = now + timer.every;
                    out.push(self.outcome(now, ProbeKind::Liveness, Verdict::Success));
                }
            }
            ("WATCHDOG", "trigger") => {
                if let Some(timer) = &mut self.liveness {
                    timer.next = now + timer.every;
                    let verdict =
                        Verdict::failure(Reason::Watchdog, "the process triggered its watchdog itself");
                    out.push(self.outcome(now, ProbeKind::Liveness, verdict));
                }
            }
            ("WATCHDOG_USEC", micros) => {
                if let (Some(timer), Some(every)) = (&mut self.liveness, micros_of(micros)) {
                    *timer = Timer { every, next: now + every };
                }
            }
            ("EXTEND_TIMEOUT_USEC", micros) => {
                let Some(by) = micros_of(micros) else { return };
                if let Some(timer) = &mut self.liveness {
                    timer.next = timer.next.max(now + by);
                }
                out.push(Input::ExtendStartup { incarnation: self.incarnation, by });
            }
            _ => {}
        }
    }

    /// Says what is due: a missed watchdog, a readiness that goes on.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Input>) {
        if let Some(timer) = &mut self.liveness
            && now >= timer.next
        {
            let detail = format!("no WATCHDOG=1 for {:.3}s", timer.every.as_secs_f64());
            timer.next = now + timer.every;
            out.push(self.outcome(now, ProbeKind::Liveness, Verdict::failure(Reason::Watchdog, detail)));
        }
        if let Some(timer) = &mut self.readiness
            && now >= timer.next
        {
            timer.next = now + timer.every;
            let verdict = if self.ready {
                Verdict::Success
            } else {
                Verdict::failure(Reason::NotReady, "the process has not said READY=1")
            };
            out.push(self.outcome(now, ProbeKind::Readiness, verdict));
        }
    }

    /// When [`Watchdog::tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        [self.liveness, self.readiness].into_iter().flatten().map(|timer| timer.next).min()
    }

    /// What the process said of itself last.
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// Whether it said that it is on its way out.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn say_ready(&mut self, now: Time, out: &mut Vec<Input>) {
        if std::mem::take(&mut self.startup) {
            out.push(self.outcome(now, ProbeKind::Startup, Verdict::Success));
        }
        if let Some(timer) = &mut self.readiness
            && now + timer.every > timer.next
        {
            timer.next = now + timer.every;
            out.push(self.outcome(now, ProbeKind::Readiness, Verdict::Success));
        }
    }

    const fn outcome(&self, now: Time, probe: ProbeKind, verdict: Verdict) -> Input {
        Input::Outcome(Outcome {
            incarnation: self.incarnation,
            probe,
            verdict,
            started_at: now,
            took: Duration::ZERO,
        })
    }
}

fn micros_of(text: &str) -> Option<Duration> {
    text.trim().parse().ok().filter(|micros| *micros > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timing(kind: ProbeKind) -> ProbeTiming {
        ProbeTiming { period: SECOND, ..ProbeTiming::default_for(kind) }
    }

    fn watching(kinds: &[ProbeKind]) -> Watchdog {
        let mut it = Watchdog::new(Incarnation(1));
        for kind in kinds {
            it.start(Time::ZERO, *kind, &timing(*kind), Duration::ZERO, &mut Vec::new());
        }
        it
    }

    fn words(inputs: &[Input]) -> Vec<String> {
        let word = |input: &Input| match input {
            Input::Outcome(outcome) => match &outcome.verdict {
                Verdict::Success => format!("{} ok", outcome.probe),
                Verdict::Failure { reason, .. } => format!("{} {reason}", outcome.probe),
            },
            Input::Leaving { .. } => "leaving".to_owned(),
            Input::ExtendStartup { by, .. } => format!("extend {by:?}"),
            other => format!("{other:?}"),
        };
        inputs.iter().map(word).collect()
    }

    fn said(it: &mut Watchdog, at: u64, name: &str, value: &str) -> Vec<String> {
        let mut out = Vec::new();
        it.notify(Time::from_millis(at), name, value, &mut out);
        words(&out)
    }

    fn ticked(it: &mut Watchdog, at: u64) -> Vec<String> {
        let mut out = Vec::new();
        it.tick(Time::from_millis(at), &mut out);
        words(&out)
    }

    #[test]
    fn a_ping_in_time_is_success_and_a_missed_one_a_failure_for_each_period() {
        let mut it = watching(&[ProbeKind::Liveness]);
        assert_eq!(said(&mut it, 900, "WATCHDOG", "1"), ["liveness ok"]);
        assert_eq!(it.next_deadline(), Some(Time::from_millis(1900)));
        assert!(ticked(&mut it, 1899).is_empty());
        assert_eq!(ticked(&mut it, 1900), ["liveness watchdog"]);
        assert_eq!(ticked(&mut it, 2900), ["liveness watchdog"]);
        assert_eq!(said(&mut it, 2950, "WATCHDOG", "trigger"), ["liveness watchdog"]);
    }

    #[test]
    fn ready_ends_startup_and_holds_readiness_up_once_per_period() {
        let mut it = watching(&[ProbeKind::Startup]);
        assert!(ticked(&mut it, 20_000).is_empty(), "startup has only its deadline");
        assert_eq!(said(&mut it, 100, "READY", "1"), ["startup ok"]);
        let mut out = Vec::new();
        it.start(
            Time::from_millis(100),
            ProbeKind::Readiness,
            &timing(ProbeKind::Readiness),
            Duration::ZERO,
            &mut out,
        );
        assert_eq!(words(&out), ["readiness ok"]);
        assert_eq!(ticked(&mut it, 1100), ["readiness ok"]);
    }

    #[test]
    fn before_ready_readiness_fails_and_a_word_said_early_is_kept() {
        let mut it = watching(&[ProbeKind::Readiness]);
        assert_eq!(ticked(&mut it, 0), ["readiness not_ready"]);
        assert_eq!(said(&mut it, 500, "READY", "1"), ["readiness ok"]);
        let mut early = Watchdog::new(Incarnation(1));
        assert!(said(&mut early, 0, "READY", "1").is_empty());
        let mut out = Vec::new();
        early.start(Time::ZERO, ProbeKind::Startup, &timing(ProbeKind::Startup), Duration::ZERO, &mut out);
        assert_eq!(words(&out), ["startup ok"]);
    }

    #[test]
    fn stopping_takes_it_out_and_ends_the_watchdog() {
        let mut it = watching(&[ProbeKind::Liveness, ProbeKind::Readiness]);
        assert_eq!(said(&mut it, 10, "STOPPING", "1"), ["leaving"]);
        assert!(it.is_stopping() && it.next_deadline().is_none());
        assert!(said(&mut it, 20, "WATCHDOG", "1").is_empty());
    }

    #[test]
    fn more_time_can_be_asked_for_and_the_interval_changed() {
        let mut it = watching(&[ProbeKind::Liveness]);
        assert_eq!(said(&mut it, 0, "EXTEND_TIMEOUT_USEC", "5000000"), ["extend 5s"]);
        assert_eq!(it.next_deadline(), Some(Time::from_secs(5)));
        said(&mut it, 0, "WATCHDOG_USEC", "200000");
        assert_eq!(it.next_deadline(), Some(Time::from_millis(200)));
        for nonsense in ["0", "-1", "soon", ""] {
            assert!(said(&mut it, 0, "EXTEND_TIMEOUT_USEC", nonsense).is_empty());
        }
    }

    #[test]
    fn status_is_kept_short_and_what_is_unknown_is_passed_over() {
        let mut it = watching(&[]);
        said(&mut it, 0, "STATUS", &"é".repeat(2000));
        assert_eq!(it.status().map(str::len), Some(1024));
        said(&mut it, 0, "STATUS", "");
        assert_eq!(it.status(), None);
        assert!(said(&mut it, 0, "MAINPID", "1").is_empty() && said(&mut it, 0, "READY", "0").is_empty());
        assert!(
            said(&mut it, 0, "WATCHDOG_USEC", "5").is_empty()
                && said(&mut it, 0, "WATCHDOG", "trigger").is_empty()
        );
    }

    #[test]
    fn what_was_stopped_is_no_longer_watched() {
        let mut it = watching(&ProbeKind::ALL);
        it.stop(Some(ProbeKind::Startup));
        assert_eq!(said(&mut it, 0, "READY", "1"), ["readiness ok"]);
        it.stop(Some(ProbeKind::Readiness));
        it.stop(Some(ProbeKind::Liveness));
        assert_eq!(it.next_deadline(), None);
        it.stop(None);
    }
}
