//! What many checks come to: how many failed, and how long those that did not took.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

/// So many of the latest durations are remembered; beyond that quantiles are those of the latest.
const REMEMBERED: usize = 100_000;

/// Counts checks.
#[derive(Debug, Default)]
pub(super) struct Summary {
    checks: u64,
    failed: u64,
    took: VecDeque<Duration>,
    sum: Duration,
    succeeded: u64,
    least: Option<Duration>,
    most: Duration,
}

/// The summary as programs read it. Durations are those of the checks that succeeded, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Checks that ended.
    pub(super) checks: u64,
    /// Of these, how many failed.
    pub(super) failed: u64,
    /// The failed ones in percent.
    pub(super) loss_percent: f64,
    pub(super) min_ms: Option<f64>,
    pub(super) avg_ms: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) max_ms: Option<f64>,
}

impl Summary {
    /// Takes a check; `None`: it failed.
    pub(super) fn add(&mut self, took: Option<Duration>) {
        self.checks += 1;
        let Some(took) = took else {
            self.failed += 1;
            return;
        };
        if self.took.len() >= REMEMBERED {
            self.took.pop_front();
        }
        self.took.push_back(took);
        self.succeeded += 1;
        self.sum += took;
        self.least = Some(self.least.map_or(took, |it| it.min(took)));
        self.most = self.most.max(took);
    }

    pub(super) const fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) const fn checks(&self) -> u64 {
        self.checks
    }

    pub(super) fn figures(&self) -> Figures {
        let mut sorted: Vec<Duration> = self.took.iter().copied().collect();
        sorted.sort_unstable();
        // The nearest rank: a value that was measured.
        let rank = |percent: usize| {
            let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(at).copied().map(super::millis)
        };
        let any = self.succeeded > 0;
        let percent = if self.checks == 0 { 0.0 } else { self.failed as f64 * 100.0 / self.checks as f64 };
        Figures {
            checks: self.checks,
            failed: self.failed,
            loss_percent: (percent * 100.0).round() / 100.0,
            min_ms: self.least.map(super::millis),
            avg_ms: any.then(|| super::millis(self.sum.div_f64(self.succeeded as f64))),
            p50_ms: rank(50),
            p95_ms: rank(95),
            max_ms: any.then(|| super::millis(self.most)),
        }
    }
}

impl Figures {
    /// `3 checks, 1 failed (33.3 %)  min 0.2  avg 0.3  p50 0.3  p95 0.4  max 0.4 ms`.
    pub(super) fn line(&self) -> String {
        let Self { checks, failed, loss_percent, .. } = self;
        let mut line = format!("{checks} check{}, {failed} failed", if *checks == 1 { "" } else { "s" });
        if *failed > 0 {
            line += &format!(" ({loss_percent:.1} %)");
        }
        let named = [
            ("min", self.min_ms),
            ("avg", self.avg_ms),
            ("p50", self.p50_ms),
            ("p95", self.p95_ms),
            ("max", self.max_ms),
        ];
        for (name, value) in named {
            line += &value.map_or_else(String::new, |it| format!("  {name} {it:.1}"));
        }
        if self.min_ms.is_some() {
            line += " ms";
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut summary = Summary::default();
        for ms in (1..=100).rev() {
            summary.add(Some(Duration::from_millis(ms)));
        }
        summary.add(None);
        let figures = summary.figures();
        assert_eq!((figures.checks, figures.failed, figures.loss_percent), (101, 1, 0.99));
        assert_eq!((figures.min_ms, figures.p50_ms, figures.p95_ms), (Some(1.0), Some(50.0), Some(95.0)));
        assert_eq!((figures.avg_ms, figures.max_ms), (Some(50.5), Some(100.0)));
    }

    #[test]
    fn nothing_that_succeeded_has_no_times() {
        let mut summary = Summary::default();
        summary.add(None);
        assert_eq!(summary.figures().line(), "1 check, 1 failed (100.0 %)");
        assert_eq!(Summary::default().figures().line(), "0 checks, 0 failed");
    }
}
