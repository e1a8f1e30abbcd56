//! Taking up probes step by step (N18): node by node, or by share of workloads, and a node's own default budget.

use std::{sync::Arc, time::Duration};

use hale_health::Mode;
use hale_model::spec::Workload;

/// What a node makes of the probes of its workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HealthProbes {
    /// They are made and acted on.
    #[default]
    On,
    /// They are made, decided on and recorded; nothing is restarted or gated for them (H27).
    Observe,
    /// None are made: a workload with probes is as one without.
    Off,
}

/// How far a node goes with what workloads declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Introduction {
    /// What becomes of probes.
    pub health_probes: HealthProbes,
    /// For so many of a hundred workloads, picked by their name, the same on every node; the rest goes without probes.
    pub percent: u8,
    /// The restart budget of workloads that say nothing of it (H16); hale's own default when absent.
    pub max_restarts: Option<u32>,
    /// Its window, the same way.
    pub restart_window: Option<Duration>,
}

impl Default for Introduction {
    fn default() -> Self {
        Self { health_probes: HealthProbes::On, percent: 100, max_restarts: None, restart_window: None }
    }
}

impl Introduction {
    /// Whether a workload of this name is among those that probes are taken up for.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        share_of(name) < u64::from(self.percent)
    }

    /// A workload as this node runs it.
    #[must_use]
    pub fn introduce(&self, workload: Arc<Workload>) -> Arc<Workload> {
        let probes = if self.includes(&workload.name) { self.health_probes } else { HealthProbes::Off };
        let restart = &workload.policy.restart;
        let max_restarts = self.max_restarts.filter(|_| !restart.max_restarts_given);
        let window = self.restart_window.filter(|_| !restart.window_given);
        if probes == HealthProbes::On && max_restarts.is_none() && window.is_none() {
            return workload;
        }
        let mut it = Workload::clone(&workload);
        match probes {
            HealthProbes::On => {}
            HealthProbes::Observe => it.policy.mode = Mode::Observe,
            HealthProbes::Off => {
                (it.startup, it.liveness, it.readiness) = (None, None, None);
                (it.policy.startup, it.policy.liveness, it.policy.readiness) = (None, None, None);
            }
        }
        it.policy.restart.max_restarts = max_restarts.unwrap_or(it.policy.restart.max_restarts);
        it.policy.restart.window = window.unwrap_or(it.policy.restart.window);
        Arc::new(it)
    }
}

/// A number below a hundred, the same for the same name in every release (FNV-1a).
fn share_of(name: &str) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix);
    // The low bits alone change little from one short name to the next.
    (hash ^ (hash >> 32)) % 100
}

#[cfg(test)]
mod tests {
    use hale_health::{ProbeKind, ProbeTiming};

    use super::*;
    use crate::sim::{with_probe, workload};

    #[test]
    fn a_share_of_the_workloads_is_the_same_share_everywhere_and_only_grows() {
        let names: Vec<String> = (0..1000).map(|number| format!("service-{number}")).collect();
        let of = |percent| {
            let it = Introduction { percent, ..Introduction::default() };
            names.iter().filter(|name| it.includes(name)).collect::<Vec<_>>()
        };
        assert!((200..300).contains(&of(25).len()), "{}", of(25).len());
        assert!(of(25).iter().all(|name| of(60).contains(name)));
        assert_eq!((of(0).len(), of(100).len()), (0, 1000));
        assert_eq!(["web", "db", "api"].map(share_of), ["web", "db", "api"].map(share_of));
    }

    #[test]
    fn a_budget_of_the_node_is_for_those_that_have_none_of_their_own() {
        let it = Introduction {
            max_restarts: Some(3),
            restart_window: Some(Duration::from_secs(60)),
            ..Introduction::default()
        };
        let mut own = workload("own", 1);
        own.policy.restart.max_restarts_given = true;
        let own = it.introduce(Arc::new(own)).policy.restart.clone();
        assert_eq!((own.max_restarts, own.window), (10, Duration::from_secs(60)));
        assert_eq!(it.introduce(Arc::new(workload("web", 1))).policy.restart.max_restarts, 3);
    }

    #[test]
    fn without_probes_it_is_as_one_that_never_had_any() {
        let timing = ProbeTiming::default_for(ProbeKind::Liveness);
        let web = Arc::new(with_probe(workload("web", 1), ProbeKind::Liveness, timing));
        let off = Introduction { health_probes: HealthProbes::Off, ..Introduction::default() };
        let plain = Workload { digest: web.digest.clone(), ..workload("web", 1) };
        assert_eq!(*off.introduce(Arc::clone(&web)), plain);
        let observe = Introduction { health_probes: HealthProbes::Observe, ..Introduction::default() };
        assert_eq!(observe.introduce(Arc::clone(&web)).policy.mode, Mode::Observe);
        assert!(Arc::ptr_eq(&Introduction::default().introduce(Arc::clone(&web)), &web));
    }
}
