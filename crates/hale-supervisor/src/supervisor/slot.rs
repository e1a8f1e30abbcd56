//! What the driver itself knows of one replica: where it runs and what was told of it last. What it means is the
//! machine's.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use hale_health::{Exit, Generation, Incarnation, Input, Time, Watchdog};
use hale_model::{
    event::{Forensics, Instance},
    report::EndpointReport,
    spec::Workload,
};
use jiff::Timestamp;

use super::{
    assign::{Assignment, Wish},
    traces::Traced,
};
use crate::{
    process::Masker,
    runtime::{InstanceId, Started},
};

/// How many outcomes of a run are kept for forensics.
const RECENT: usize = 30;

/// One replica.
pub(super) struct Slot {
    /// `web-0`.
    pub(super) name: String,
    /// The number of its placement, as it is told. A run that was granted a later one has been started under an
    /// earlier, and its runtime knows it by that.
    pub(super) generation: Generation,
    /// What it was placed with; as its workload is declared when absent.
    pub(super) spec: Option<Arc<Workload>>,
    /// What is wished of it beside running, as it was placed.
    pub(super) wish: Wish,
    /// When it is to be ended unless it is told otherwise until then.
    pub(super) stop_at: Option<Time>,
    /// What takes its place once nothing of it is left.
    pub(super) next: Option<Box<Assignment>>,
    /// Its last run.
    pub(super) run: Option<Run>,
    /// What was told of its endpoint last.
    pub(super) told: Option<EndpointReport>,
    /// What was kept of an instance that ended, until its restart is told.
    pub(super) forensics: Option<Box<Forensics>>,
    /// What its changes are traced by.
    pub(super) traced: Traced,
}

/// One run.
pub(super) struct Run {
    pub(super) id: InstanceId,
    /// What it was started with; a changed declaration takes effect at the next start.
    pub(super) spec: Arc<Workload>,
    pub(super) ports: BTreeMap<String, u16>,
    /// When its runtime was told at its start to end it, and with which grace (S9).
    pub(super) stop_at: Option<(Time, std::time::Duration)>,
    /// What came of the start, once known.
    pub(super) started: Option<Started>,
    pub(super) started_at: Option<Timestamp>,
    /// An end that was heard of before the start was.
    pub(super) early: Early,
    /// Its last outcomes, newest last, in one line each.
    pub(super) recent: VecDeque<String>,
    /// What the process says of itself (H9).
    pub(super) status_text: Option<String>,
    /// What it says by itself, as outcomes.
    pub(super) watchdog: Watchdog,
    /// What it had said before it was asked for, to be fed next.
    pub(super) said: Vec<Input>,
    /// Which of its probes are asked now.
    pub(super) probing: [bool; 3],
    /// What it had told an earlier driver, where it was started by one.
    pub(super) notified: BTreeMap<String, String>,
    /// It could not be started.
    pub(super) failed: bool,
    /// Its end was hurried.
    pub(super) hurried: bool,
}

/// An end that was heard of before the start was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Early {
    pub(super) exit: Option<(Exit, Time)>,
    pub(super) gone: bool,
    /// How its runtime said that it is.
    pub(super) health: Option<(bool, String)>,
}

impl Slot {
    pub(super) fn new(name: String, generation: Generation) -> Self {
        let wish = Wish::default();
        Self {
            name,
            generation,
            spec: None,
            wish,
            stop_at: None,
            next: None,
            run: None,
            told: None,
            forensics: None,
            traced: Traced::default(),
        }
    }

    /// The run of this number, if it is the last one.
    pub(super) fn run_of(&mut self, incarnation: Incarnation) -> Option<&mut Run> {
        self.run.as_mut().filter(|run| run.id.incarnation == incarnation)
    }

    /// Which run an event is about.
    pub(super) fn instance(&self, workload: &str, node: &str, runtime: &str) -> Instance {
        let run = self.run.as_ref();
        let started = run.and_then(|run| run.started.as_ref());
        Instance {
            workload: workload.to_owned(),
            node: node.to_owned(),
            runtime: runtime.to_owned(),
            pid: started.and_then(|it| it.pid),
            container_id: started.and_then(|it| it.container_id.clone()),
            generation: self.generation.0,
            incarnation: run.map_or(0, |run| run.id.incarnation.0),
        }
    }
}

impl Run {
    pub(super) const fn new(id: InstanceId, spec: Arc<Workload>, ports: BTreeMap<String, u16>) -> Self {
        let incarnation = id.incarnation;
        Self {
            id,
            spec,
            ports,
            started: None,
            started_at: None,
            early: Early { exit: None, gone: false, health: None },
            recent: VecDeque::new(),
            status_text: None,
            watchdog: Watchdog::new(incarnation),
            said: Vec::new(),
            probing: [false; 3],
            notified: BTreeMap::new(),
            failed: false,
            hurried: false,
            stop_at: None,
        }
    }

    /// Takes what the replica was told in confidence out of what is shown of it (N4).
    pub(super) fn masker(&self) -> Arc<Masker> {
        let around = self.started.as_ref().and_then(|started| started.surroundings.as_ref());
        around.map(|around| Arc::clone(&around.masker)).unwrap_or_default()
    }

    pub(super) fn remember(&mut self, line: String) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }
}
