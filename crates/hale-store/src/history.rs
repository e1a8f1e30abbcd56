//! Where the histories of probes stand: the last hundred outcomes whole, all of them in runs (H27).

use std::collections::HashMap;

use hale_api::outcomes::OutcomeRun;
use hale_model::report::OutcomeRecord;

use crate::{
    plan::clean,
    rows::{OutcomeRow, RunRow, probe_column},
};

/// How many outcomes of a probe are kept whole (H27).
const WHOLE: u64 = 100;

/// The most histories remembered; those of more are read again.
const MOST: usize = 200_000;

/// Names the history of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ProbeKey {
    pub(crate) subject: String,
    pub(crate) probe: &'static str,
}

impl ProbeKey {
    pub(crate) fn of(outcome: &OutcomeRecord) -> Self {
        Self { subject: clean(&outcome.subject), probe: probe_column(outcome.probe) }
    }
}

/// Where the history of one probe stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Probe {
    /// The number of its last outcome.
    pub(crate) seq: u64,
    /// The run that belongs to.
    pub(crate) run: Option<(u64, OutcomeRun)>,
    /// Runs begun in this batch.
    new_runs: u32,
}

impl Probe {
    pub(crate) fn new(seq: u64, run: Option<(u64, OutcomeRun)>) -> Self {
        Self { seq, run, new_runs: 0 }
    }

    /// Adds an outcome; what is to be written for it.
    pub(crate) fn add(&mut self, outcome: &OutcomeRecord, last_run: &mut u64) -> (OutcomeRow, RunRow) {
        let key = ProbeKey::of(outcome);
        self.seq += 1;
        let same = |run: &OutcomeRun| run.incarnation == outcome.incarnation && run.reason == outcome.reason;
        let (id, run) = match self.run.take() {
            Some((id, mut run)) if same(&run) => {
                run.count += 1;
                run.until = outcome.at;
                run.slowest_ms = run.slowest_ms.max(outcome.took_ms);
                (id, run)
            }
            _ => {
                *last_run += 1;
                self.new_runs += 1;
                let run = OutcomeRun {
                    incarnation: outcome.incarnation,
                    reason: outcome.reason,
                    count: 1,
                    from: outcome.at,
                    until: outcome.at,
                    slowest_ms: outcome.took_ms,
                };
                (*last_run, run)
            }
        };
        self.run = Some((id, run.clone()));
        let mut outcome = outcome.clone();
        outcome.subject.clone_from(&key.subject);
        outcome.detail = outcome.detail.as_deref().map(clean);
        let row = OutcomeRow { seq: self.seq, slot: self.seq % WHOLE, outcome };
        (row, RunRow { id, subject: key.subject, probe: key.probe, run })
    }
}

/// What the writer remembers of histories between batches.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    known: HashMap<ProbeKey, Probe>,
    /// Runs begun since those of a probe were last trimmed.
    new_runs: HashMap<ProbeKey, u32>,
}

impl Probes {
    pub(crate) fn get(&self, key: &ProbeKey) -> Option<&Probe> {
        self.known.get(key)
    }

    /// Learns from a batch that was committed. Where other servers write as well, only how much there is to trim.
    pub(crate) fn learn(&mut self, probes: HashMap<ProbeKey, Probe>, removed: &[String], alone: bool) {
        if !removed.is_empty() {
            self.known.retain(|key, _| !removed.contains(&key.subject));
            self.new_runs.retain(|key, _| !removed.contains(&key.subject));
        }
        if self.known.len() > MOST {
            self.known.clear();
        }
        for (key, mut probe) in probes {
            let new = std::mem::take(&mut probe.new_runs);
            if new > 0 {
                *self.new_runs.entry(key.clone()).or_default() += new;
            }
            if alone {
                self.known.insert(key, probe);
            }
        }
    }

    /// Probes with so many new runs that theirs should be trimmed, at most `most`.
    pub(crate) fn with_many_runs(&mut self, many: u32, most: usize) -> Vec<ProbeKey> {
        let probes: Vec<ProbeKey> = self
            .new_runs
            .iter()
            .filter(|(_, new)| **new >= many)
            .map(|(key, _)| key.clone())
            .take(most)
            .collect();
        for key in &probes {
            self.new_runs.remove(key);
        }
        probes
    }
}
