//! One workload and its replicas as decisions see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hale_health::{Phase, Time};
use hale_model::{
    cluster::{ObservedRecord, PlacementRecord, WorkloadRecord},
    document::Document,
    spec::Workload as Declared,
};
use jiff::Timestamp;

/// What a replica takes of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Thousandths of a CPU.
    pub(crate) cpu: u64,
    /// Bytes.
    pub(crate) memory: u64,
    /// Ports of the machine that are fixed in the declaration.
    pub(crate) ports: Vec<u16>,
}

/// A declaration, read once.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) digest: String,
    pub(crate) declared: Arc<Declared>,
    pub(crate) features: BTreeSet<String>,
    pub(crate) demand: Demand,
}

impl Spec {
    /// `None`: this release does not understand it.
    pub(crate) fn read(document: &Document) -> Option<Self> {
        let declared = document.workload()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "CPUs are few and positive"
        )]
        let cpu = (declared.resources.cpu.unwrap_or_default() * 1000.0).ceil() as u64;
        let ports = declared.fixed_ports().collect();
        let demand = Demand { cpu, memory: declared.resources.memory.unwrap_or_default(), ports };
        Some(Self { digest: document.digest.clone(), features: document.features(), declared, demand })
    }

    pub(crate) fn runtime(&self) -> &'static str {
        self.declared.run.runtime()
    }

    pub(crate) fn min_available(&self) -> u32 {
        self.declared.together.min_available(self.declared.replicas)
    }

    /// Milliseconds from the receipt of its node's last beat until it has ended there for certain (S9): `stopAfter`,
    /// drain and grace on a clock that may be 10 % slow, and 2 s.
    pub(crate) fn fence_ms(&self) -> Option<u64> {
        let stop = self.declared.policy.stop;
        let whole =
            self.declared.disconnect.stop_after?.saturating_add(stop.drain).saturating_add(stop.grace);
        let millis = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
        Some(millis.saturating_add(millis.div_ceil(10)).saturating_add(2000))
    }
}

/// One placement.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) record: PlacementRecord,
    pub(crate) observed: Option<Box<ObservedRecord>>,
    pub(crate) demand: Demand,
    /// Since when it is ready without a break, as far as is known here.
    pub(crate) ready_since: Option<Time>,
    /// Since when it is not: the clock of its progress deadline.
    pub(crate) unready_since: Time,
    /// Whether it has been ready.
    pub(crate) proven: bool,
    /// Since when it is known here.
    pub(crate) placed: Time,
    /// Whether it was ready for so long that its former moves do not count any more (S8).
    pub(crate) forgiven: bool,
}

impl Slot {
    pub(crate) fn new(now: Time, record: PlacementRecord, demand: Demand) -> Self {
        Self {
            record,
            observed: None,
            demand,
            ready_since: None,
            unready_since: now,
            proven: false,
            placed: now,
            forgiven: false,
        }
    }

    pub(crate) fn phase(&self) -> Option<Phase> {
        self.observed.as_ref().map(|it| it.phase)
    }

    pub(crate) fn ready(&self) -> bool {
        self.observed.as_ref().is_some_and(|it| it.ready)
    }

    /// Whether an instance of it runs, as far as is known.
    pub(crate) fn serving(&self) -> bool {
        self.observed.as_ref().is_some_and(|it| it.serving || it.ready)
    }

    /// Whether it has ended on purpose.
    pub(crate) fn ended(&self) -> bool {
        self.phase() == Some(Phase::Stopped)
    }
}

/// A workload.
#[derive(Debug, Default)]
pub(crate) struct Workload {
    /// Absent: it is not wanted any more.
    pub(crate) record: Option<Box<WorkloadRecord>>,
    /// Absent: it is not wanted, or not understood by this release.
    pub(crate) spec: Option<Arc<Spec>>,
    /// Generations by ordinal.
    pub(crate) replicas: BTreeMap<u32, BTreeSet<u64>>,
    pub(crate) wake: Option<Time>,
    /// Replicas that no node takes, and why.
    pub(crate) nowhere: BTreeMap<u32, String>,
    /// What was told of it once and is not told again while it lasts.
    pub(crate) told: BTreeSet<String>,
    /// How far an update has come: its declaration, how many replicas are through, since when.
    pub(crate) progress: Option<(String, u32, Time)>,
}

impl Workload {
    /// How many replicas are wanted.
    pub(crate) fn desired(&self) -> u32 {
        match (&self.record, &self.spec) {
            (Some(_), Some(spec)) => spec.declared.replicas,
            _ => 0,
        }
    }

    /// Whether a person wants this replica not to run.
    pub(crate) fn stopped(&self, ordinal: u32) -> bool {
        self.record
            .as_ref()
            .is_some_and(|it| it.stopped.is_some() || it.stopped_replicas.contains_key(&ordinal))
    }

    /// Whether a person has paused all of this replica (H24).
    pub(crate) fn paused(&self, ordinal: u32, wall: Timestamp) -> bool {
        self.record.as_ref().is_some_and(|it| {
            it.pauses.iter().any(|pause| {
                pause.probe.is_none()
                    && pause.ordinal.is_none_or(|it| it == ordinal)
                    && pause.until.is_none_or(|until| wall < until)
            })
        })
    }
}
