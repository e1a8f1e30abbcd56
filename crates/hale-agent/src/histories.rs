//! What became of the checks of every probe, in series: filled here, kept by the store a full bucket at a time (H27, N14).
//!
//! A probe takes about 300 bytes here. Buckets of many probes end at different moments, so that what is to be written is
//! spread over five minutes: one row for a probe, at most. What is being filled is lost with a killed agent.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_api::outcomes::ProbeHistory;
use hale_model::{
    ProbeKind,
    event::{EventData, NewEvent},
    report::{OutcomeRecord, SeriesPiece},
    series::{Bucket, Checked, Series},
};
use jiff::Timestamp;

use crate::spool::Outcomes;

/// The most probes of which series are kept; of more none are.
const MOST: usize = 400_000;

type Filling = HashMap<String, Vec<OfProbe>>;

/// One probe.
struct OfProbe {
    probe: Option<ProbeKind>,
    series: Series,
    /// Since when a replica's probe fails, and whether that was counted. Of targets it is told.
    failing: Option<(u64, bool)>,
}

/// The series of a node.
pub(crate) struct Histories {
    filling: Mutex<Filling>,
    to: Arc<dyn Outcomes>,
}

/// Milliseconds since 1970.
fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or_default()
}

impl Histories {
    pub(crate) fn new(to: Arc<dyn Outcomes>) -> Self {
        Self { filling: Mutex::default(), to }
    }

    fn filling(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a series, and passes on what is full.
    fn change(
        &self,
        subject: &str,
        probe: Option<ProbeKind>,
        change: impl FnOnce(&mut OfProbe) -> [Option<Bucket>; 2],
    ) {
        let mut filling = self.filling();
        if !filling.contains_key(subject) {
            if filling.len() >= MOST {
                return;
            }
            filling.insert(subject.to_owned(), Vec::with_capacity(1));
        }
        let Some(probes) = filling.get_mut(subject) else { return };
        let at = probes.iter().position(|it| it.probe == probe).unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            (subject, probe.map(ProbeKind::as_str)).hash(&mut hasher);
            probes.push(OfProbe { probe, series: Series::new(hasher.finish()), failing: None });
            probes.len() - 1
        });
        let full = change(&mut probes[at]);
        drop(filling);
        for bucket in full.into_iter().flatten() {
            self.to.series(SeriesPiece { subject: subject.to_owned(), probe, bucket });
        }
    }

    /// Takes an outcome.
    pub(crate) fn outcome(&self, outcome: &OutcomeRecord) {
        let at = millis(outcome.at);
        let took = Duration::try_from_secs_f64(outcome.took_ms / 1000.0).unwrap_or_default();
        let checked = match outcome.reason {
            None => Checked::Success(took),
            Some(reason) if reason.is_prober_error() => Checked::Error,
            Some(_) => Checked::Failure,
        };
        self.change(&outcome.subject, outcome.probe, |it| {
            let full = it.series.outcome(at, checked);
            let spell = if outcome.probe.is_some() { it.spell(at, took, checked, outcome) } else { None };
            [full, spell]
        });
    }

    /// Takes what was told of a target: when its spells began and ended.
    pub(crate) fn event(&self, event: &NewEvent) {
        let at = millis(event.time);
        match &event.data {
            EventData::TargetProbeFailed(it) => {
                let after = it.since.map(|since| event.time.duration_since(since));
                let after = after.and_then(|it| Duration::try_from(it).ok()).unwrap_or_default();
                self.change(&event.subject, None, |it| [it.series.failed(at, after), None]);
            }
            EventData::TargetProbeRecovered(it) => {
                let after = Duration::try_from_secs_f64(it.down_for).unwrap_or_default();
                self.change(&event.subject, None, |it| [it.series.recovered(at, after), None]);
            }
            _ => {}
        }
    }

    /// A replica or target is no more.
    pub(crate) fn forget(&self, subject: &str) {
        self.filling().remove(subject);
    }

    /// Passes on all that there is.
    pub(crate) fn keep_all(&self) {
        let mut filling = self.filling();
        for (subject, probes) in filling.iter_mut() {
            for it in probes {
                if let Some(bucket) = it.series.take() {
                    self.to.series(SeriesPiece { subject: subject.clone(), probe: it.probe, bucket });
                }
            }
        }
    }

    /// Adds what is being filled to what is kept.
    pub(crate) fn complete(&self, subject: &str, history: &mut Vec<ProbeHistory>) {
        let filling = self.filling();
        for it in filling.get(subject).into_iter().flatten().filter(|it| !it.series.open().is_empty()) {
            let (open, mut text) = (it.series.open(), String::new());
            open.write(&mut text);
            let found = history.iter().position(|known| known.probe == it.probe).unwrap_or_else(|| {
                let (outcomes, runs, series) = (Vec::new(), Vec::new(), Vec::new());
                history.push(ProbeHistory { probe: it.probe, outcomes, runs, series });
                history.len() - 1
            });
            history[found].series.push((open.day(), text));
        }
    }
}

impl OfProbe {
    /// Whether a spell of a replica's probe begins or ends with an outcome.
    fn spell(
        &mut self,
        at: u64,
        took: Duration,
        checked: Checked,
        outcome: &OutcomeRecord,
    ) -> Option<Bucket> {
        let trips = outcome.consecutive >= outcome.threshold;
        let since = |began: u64| Duration::from_millis(at.saturating_sub(began)) + took;
        match (checked, self.failing) {
            (Checked::Failure, before) => {
                let (began, told) = before.unwrap_or((at, false));
                self.failing = Some((began, told || trips));
                (trips && !told).then(|| self.series.failed(at, since(began)))?
            }
            (Checked::Success(_), Some((began, told))) if trips || !told => {
                self.failing = None;
                told.then(|| self.series.recovered(at, since(began)))?
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use hale_model::{
        Reason,
        event::{TargetProbeFailed, TargetProbeRecovered},
        series::{text, total},
    };
    use hale_supervisor::runtime::BoxFuture;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<SeriesPiece>>);

    impl Outcomes for Kept {
        fn outcome(&self, _: OutcomeRecord) {}

        fn series(&self, piece: SeriesPiece) {
            self.0.lock().unwrap().push(piece);
        }

        fn forget(&self, _: &str) {}

        fn history(&self, _: String) -> BoxFuture<'_, Result<Vec<ProbeHistory>, String>> {
            Box::pin(std::future::ready(Ok(Vec::new())))
        }
    }

    fn outcome(
        probe: Option<ProbeKind>,
        second: i64,
        reason: Option<Reason>,
        consecutive: u32,
    ) -> OutcomeRecord {
        OutcomeRecord {
            subject: "api".into(),
            probe,
            incarnation: 0,
            at: Timestamp::from_second(1_700_000_000 + second).unwrap(),
            took_ms: 2.0,
            reason,
            detail: None,
            consecutive,
            threshold: 3,
        }
    }

    fn event(second: i64, data: EventData) -> NewEvent {
        let time = Timestamp::from_second(1_700_000_000 + second).unwrap();
        NewEvent { time, source: "/nodes/n".into(), subject: "api".into(), data }
    }

    fn all(histories: &Histories) -> Bucket {
        let mut history = Vec::new();
        histories.complete("api", &mut history);
        let days = history.iter().flat_map(|it| &it.series);
        let buckets: Vec<Bucket> = days.flat_map(|(day, data)| text::read(*day, data)).collect();
        total(&buckets, 0, u64::MAX)
    }

    #[test]
    fn the_spells_of_a_target_are_those_that_were_told() {
        let kept = Arc::new(Kept::default());
        let histories = Histories::new(Arc::clone(&kept) as _);
        for n in 0..3 {
            histories.outcome(&outcome(None, n * 10, Some(Reason::Timeout), n as u32 + 1));
        }
        assert_eq!(all(&histories).incidents, 0, "nothing was told");
        histories.event(&event(
            22,
            EventData::TargetProbeFailed(TargetProbeFailed {
                consecutive_failures: 3,
                last_status: 0,
                last_reason: Reason::Timeout,
                last_error: String::new(),
                since: Some(Timestamp::from_second(1_700_000_000).unwrap()),
                declaration: String::new(),
                about: Default::default(),
            }),
        ));
        let (prior_failure_count, down_for, about) = (3, 30.0, Default::default());
        let recovered = TargetProbeRecovered { prior_failure_count, down_for, about };
        histories.event(&event(30, EventData::TargetProbeRecovered(recovered)));
        let now = all(&histories);
        assert_eq!((now.failures, now.incidents, now.recoveries), (3, 1, 1));
        assert_eq!(now.mean_detect(), Some(Duration::from_secs(22)));
        assert_eq!(now.mean_recover(), Some(Duration::from_secs(30)));
        histories.keep_all();
        assert!(all(&histories).is_empty());
        assert_eq!(kept.0.lock().unwrap()[0].bucket.failures, 3);
        histories.outcome(&outcome(None, 40, None, 1));
        histories.forget("api");
        histories.keep_all();
        assert_eq!(kept.0.lock().unwrap().len(), 1, "what is gone is not kept");
    }

    #[test]
    fn the_spells_of_a_replicas_probe_are_counted_at_its_threshold() {
        let histories = Histories::new(Arc::new(Kept::default()));
        let liveness = Some(ProbeKind::Liveness);
        let failed =
            |second, count| histories.outcome(&outcome(liveness, second, Some(Reason::Timeout), count));
        failed(0, 1);
        histories.outcome(&outcome(liveness, 10, None, 3));
        for n in 0..5 {
            failed(20 + n * 10, n as u32 + 1);
        }
        histories.outcome(&outcome(liveness, 70, None, 3));
        let now = all(&histories);
        assert_eq!((now.incidents, now.recoveries), (1, 1));
        assert_eq!(now.mean_detect(), Some(Duration::from_millis(20_002)));
        assert_eq!(now.mean_recover(), Some(Duration::from_millis(50_002)));
    }

    #[test]
    fn a_full_bucket_is_kept() {
        let kept = Arc::new(Kept::default());
        let histories = Histories::new(Arc::clone(&kept) as _);
        for n in 0..90 {
            histories.outcome(&outcome(None, n * 10, None, 1));
        }
        let kept = kept.0.lock().unwrap();
        assert!((2..=3).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept[1].bucket.successes, 30);
    }
}
