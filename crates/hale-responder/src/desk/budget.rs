//! How much one cluster may have in an hour: runs, and what they cost (R7).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use hale_health::{RestartWindow, Time};
use hale_model::spec::ResponderLimits;

const HOUR: Duration = Duration::from_hours(1);

/// The most costs that are kept apart of one cluster; beyond that the two oldest count as one, at the later's time.
const MOST_COSTS: usize = 1024;

#[derive(Debug)]
struct Budget {
    runs: Option<RestartWindow>,
    costs: VecDeque<(Time, f64)>,
    told: bool,
}

/// The budgets of all clusters.
#[derive(Debug)]
pub(super) struct Budgets {
    runs: Option<u32>,
    cost: Option<f64>,
    clusters: BTreeMap<String, Budget>,
}

impl Budgets {
    /// Nothing spent.
    pub(super) const fn new(limits: &ResponderLimits) -> Self {
        Self { runs: limits.runs_per_hour, cost: limits.cost_per_hour, clusters: BTreeMap::new() }
    }

    fn of(&mut self, cluster: &str) -> &mut Budget {
        let runs = self.runs;
        self.clusters.entry(cluster.to_owned()).or_insert_with(|| Budget {
            runs: runs.map(|limit| RestartWindow::new(limit, HOUR)),
            costs: VecDeque::new(),
            told: false,
        })
    }

    /// A program was started, then. Told in the order of time.
    pub(super) fn started(&mut self, cluster: &str, at: Time) {
        if let Some(runs) = &mut self.of(cluster).runs {
            runs.record(at);
        }
    }

    /// A program told what it cost, at its end. What is no amount counts nothing.
    pub(super) fn cost(&mut self, cluster: &str, at: Time, cost: f64) {
        if self.cost.is_none() || !cost.is_finite() || cost <= 0.0 {
            return;
        }
        let costs = &mut self.of(cluster).costs;
        costs.push_back((at, cost));
        while costs.front().is_some_and(|(then, _)| at.since(*then) >= HOUR) {
            costs.pop_front();
        }
        if costs.len() > MOST_COSTS
            && let Some((_, oldest)) = costs.pop_front()
            && let Some((_, next)) = costs.front_mut()
        {
            *next += oldest;
        }
    }

    /// When there is room again in a cluster's budget: `None` where there is some now, or never will be.
    pub(super) fn frees_at(&self, cluster: &str, now: Time) -> Option<Time> {
        match self.exhausted(cluster, now) {
            Some((_, Some(at))) => Some(at),
            _ => None,
        }
    }

    /// Why a cluster may have no run now, and until when.
    fn exhausted(&self, cluster: &str, now: Time) -> Option<(String, Option<Time>)> {
        let Some(budget) = self.clusters.get(cluster) else {
            // Nothing spent; all the same a budget of nothing is exhausted.
            let nothing = self.runs == Some(0) || self.cost.is_some_and(|it| it <= 0.0);
            return nothing.then(|| ("its budget is nothing".to_owned(), None));
        };
        let runs = budget.runs.as_ref().filter(|it| it.is_full(now));
        let runs = runs.map(|it| (format!("{} runs in an hour", it.limit()), it.frees_at(now)));
        let costs = self.cost.and_then(|limit| over(&budget.costs, limit, now));
        match (runs, costs) {
            (Some((a, at)), Some((b, then))) => {
                Some((format!("{a}, and {b}"), at.zip(then).map(|(at, then)| at.max(then))))
            }
            (one, other) => one.or(other),
        }
    }

    /// Whether a cluster may have a run now; with it, for the first time in a spell, why it may not.
    pub(super) fn allows(&mut self, cluster: &str, now: Time) -> (bool, Option<String>) {
        let Some((why, _)) = self.exhausted(cluster, now) else { return (true, None) };
        let first = !std::mem::replace(&mut self.of(cluster).told, true);
        (false, first.then_some(why))
    }

    /// A spell is over when there is room and nothing waits for it.
    pub(super) fn settle(&mut self, now: Time, waits: impl Fn(&str) -> bool) {
        let told = self.clusters.iter().filter(|(_, it)| it.told).map(|(name, _)| name.clone());
        let over: Vec<String> = told.filter(|it| !waits(it) && self.exhausted(it, now).is_none()).collect();
        for cluster in over {
            self.of(&cluster).told = false;
        }
    }
}

/// What was spent of the last hour, if that is all or more.
fn over(costs: &VecDeque<(Time, f64)>, limit: f64, now: Time) -> Option<(String, Option<Time>)> {
    let within = || costs.iter().filter(|(at, _)| now.since(*at) < HOUR);
    let spent: f64 = within().map(|(_, cost)| cost).sum();
    if spent < limit {
        return None;
    }
    let mut left = spent;
    let frees = within().find(|(_, cost)| {
        left -= cost;
        left < limit
    });
    Some((format!("{spent} of {limit} cost units in an hour"), frees.map(|(at, _)| *at + HOUR)))
}
