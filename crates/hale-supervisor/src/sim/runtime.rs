//! The scripted runtime.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_health::{Exit, Time};
use hale_model::event::Forensics;
use tokio::sync::{mpsc, watch};

use crate::{
    clock::Clock,
    runtime::{
        AdoptedInstance, BoxFuture, InstanceId, Launch, Runtime, RuntimeEvent, SpawnError, Started, Usage,
    },
};

/// Events that wait for the driver. When so many do, instances wait with telling theirs; none is lost.
const QUEUE: usize = 4096;

const SIGKILL: i32 = 9;

/// What an instance does.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// The start fails so.
    pub start_error: Option<SpawnError>,
    /// How long a start takes, whether it fails or not.
    pub start_takes: Duration,
    /// After so long it ends by itself; `None`: it runs until it is stopped.
    pub run_for: Option<Duration>,
    /// How it ends by itself.
    pub exit: Exit,
    /// Whether only SIGKILL ends it.
    pub ignore_signals: bool,
    /// From the stop signal to its end.
    pub stop_takes: Duration,
    /// From its end to nothing being left of it.
    pub gone_after: Duration,
    /// Whether it can't be ended at all: `StopFailed` is told at the end of each grace.
    pub unkillable: bool,
    /// How long examining it takes.
    pub examine_takes: Duration,
}

impl Default for Script {
    /// Starts at once, runs until it is stopped, ends at once then.
    fn default() -> Self {
        Self {
            start_error: None,
            start_takes: Duration::ZERO,
            run_for: None,
            exit: Exit::code(0),
            ignore_signals: false,
            stop_takes: Duration::ZERO,
            gone_after: Duration::ZERO,
            unkillable: false,
            examine_takes: Duration::ZERO,
        }
    }
}

impl Script {
    /// Ends by itself after `after`, so.
    #[must_use]
    pub fn exits(after: Duration, exit: Exit) -> Self {
        Self { run_for: Some(after), exit, ..Self::default() }
    }

    /// Can't be started.
    #[must_use]
    pub fn start_error(code: &'static str, detail: &str) -> Self {
        Self { start_error: Some(SpawnError { code, detail: detail.to_owned() }), ..Self::default() }
    }
}

/// One start that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which run.
    pub id: InstanceId,
    /// When it was asked for.
    pub at: Time,
    /// Digest of the workload it was asked with.
    pub digest: String,
    /// How many other instances of this replica were not yet gone then. Anything but 0 breaks a promise (H17).
    pub beside: usize,
}

/// A runtime that does as it is told.
pub struct SimRuntime {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// To whoever took the events last.
    events: Mutex<Option<mpsc::Sender<RuntimeEvent>>>,
}

#[derive(Default)]
struct State {
    scripts: HashMap<String, Script>,
    once: HashMap<String, VecDeque<Script>>,
    alive: HashMap<InstanceId, Instance>,
    /// What is told to a successor, until it is forgotten.
    records: HashMap<InstanceId, AdoptedInstance>,
    starts: Vec<Start>,
    stops: Vec<(InstanceId, i32, Duration)>,
    next_pid: u32,
}

struct Instance {
    script: Script,
    /// When and how it is to end.
    end: watch::Sender<Option<(Time, Exit)>>,
}

impl SimRuntime {
    /// A runtime where everything starts at once and runs until it is stopped.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default(), events: Mutex::default() })
    }

    /// From now on, each start of this replica or of replicas of this workload does so. A replica's own script comes
    /// before its workload's.
    pub fn script(&self, name: &str, script: Script) {
        self.lock().scripts.insert(name.to_owned(), script);
    }

    /// The next start of this replica that has no script queued before does so, once.
    pub fn script_once(&self, replica: &str, script: Script) {
        self.lock().once.entry(replica.to_owned()).or_default().push_back(script);
    }

    /// Ends the running instance of a replica now. Returns whether there was one.
    pub fn kill(&self, replica: &str, exit: Exit) -> bool {
        let now = self.clock.now();
        let state = self.lock();
        let mut found = false;
        for (_, instance) in state.alive.iter().filter(|(id, _)| id.replica == replica) {
            instance.end.send_replace(Some((now, exit)));
            found = true;
        }
        found
    }

    /// The running instance of a replica says this over its notify socket (H9).
    pub async fn notify(&self, replica: &str, name: &str, value: &str) {
        let ids: Vec<_> = self.lock().alive.keys().filter(|id| id.replica == replica).cloned().collect();
        for id in ids {
            self.record(&id, |record| drop(record.notified.insert(name.into(), value.into())));
            self.tell(RuntimeEvent::Notify {
                id,
                name: name.into(),
                value: value.into(),
                at: self.clock.now(),
            })
            .await;
        }
    }

    /// Every start that was asked for, in order.
    pub fn starts(&self) -> Vec<Start> {
        self.lock().starts.clone()
    }

    /// The starts of one replica, in order.
    pub fn starts_of(&self, replica: &str) -> Vec<Start> {
        self.lock().starts.iter().filter(|start| start.id.replica == replica).cloned().collect()
    }

    /// Every stop that was asked for, in order: which, signal, grace.
    pub fn stops(&self) -> Vec<(InstanceId, i32, Duration)> {
        self.lock().stops.clone()
    }

    /// How many instances are not gone.
    pub fn alive(&self) -> usize {
        self.lock().alive.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, id: &InstanceId, change: impl FnOnce(&mut AdoptedInstance)) {
        if let Some(record) = self.lock().records.get_mut(id) {
            change(record);
        }
    }

    /// Whether anybody has heard it.
    async fn tell(&self, event: RuntimeEvent) -> bool {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match events {
            // An error means that nobody listens any more.
            Some(events) => events.send(event).await.is_ok(),
            None => false,
        }
    }

    fn admit(&self, launch: &Launch) -> Script {
        let at = self.clock.now();
        let mut state = self.lock();
        let replica = &launch.id.replica;
        let once = state.once.get_mut(replica).and_then(VecDeque::pop_front);
        let script = once
            .or_else(|| state.scripts.get(replica).cloned())
            .or_else(|| state.scripts.get(&launch.workload.name).cloned())
            .unwrap_or_default();
        let beside = state.alive.keys().filter(|id| id.replica == *replica).count();
        let digest = launch.workload.digest.clone();
        state.starts.push(Start { id: launch.id.clone(), at, digest, beside });
        script
    }

    fn live(self: Arc<Self>, id: InstanceId, script: Script) -> u32 {
        let end = script.run_for.map(|run_for| (self.clock.now() + run_for, script.exit));
        let (end, ends) = watch::channel(end);
        let mut state = self.lock();
        state.next_pid += 1;
        let pid = 10_000 + state.next_pid;
        state.alive.insert(id.clone(), Instance { script: script.clone(), end });
        drop(state);
        tokio::spawn(self.run(id, script, ends));
        pid
    }

    async fn run(
        self: Arc<Self>,
        id: InstanceId,
        script: Script,
        mut ends: watch::Receiver<Option<(Time, Exit)>>,
    ) {
        let exit = loop {
            let end = *ends.borrow_and_update();
            let due = async {
                match end {
                    Some((at, exit)) => {
                        self.clock.sleep_until(at).await;
                        exit
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                exit = due => {
                    if !(script.unkillable && exit.signal == Some(SIGKILL)) {
                        break exit;
                    }
                    let detail = "a thread of it does not come back from the kernel".into();
                    self.tell(RuntimeEvent::StopFailed { id: id.clone(), detail }).await;
                    if ends.changed().await.is_err() {
                        return;
                    }
                }
                changed = ends.changed() => if changed.is_err() { return },
            }
        };
        let at = self.clock.now();
        self.record(&id, |record| record.exit = Some((exit, at)));
        self.tell(RuntimeEvent::Exited { id: id.clone(), exit, at }).await;
        self.clock.sleep_until(at + script.gone_after).await;
        self.lock().alive.remove(&id);
        self.record(&id, |record| record.gone = true);
        if self.tell(RuntimeEvent::Gone { id: id.clone() }).await {
            self.lock().records.remove(&id);
        }
    }
}

/// The runtime as the driver holds it.
impl Runtime for Arc<SimRuntime> {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Started, SpawnError>> {
        let script = self.admit(&launch);
        Box::pin(async move {
            self.clock.sleep_until(self.clock.now() + script.start_takes).await;
            if let Some(error) = script.start_error {
                return Err(error);
            }
            let (id, ports) = (launch.id, launch.ports);
            let pid = Self::clone(self).live(id.clone(), script);
            let started = Started {
                pid: Some(pid),
                container_id: None,
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                ports: BTreeMap::new(),
                surroundings: None,
            };
            let record = AdoptedInstance {
                id: id.clone(),
                started: started.clone(),
                started_at: self.clock.now(),
                started_wall: Some(self.clock.wall()),
                ports,
                stopping: false,
                exit: None,
                gone: false,
                notified: BTreeMap::new(),
            };
            self.lock().records.insert(id, record);
            Ok(started)
        })
    }

    fn stop(&self, id: &InstanceId, signal: i32, grace: Duration) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.stops.push((id.clone(), signal, grace));
        let Some(instance) = state.alive.get(id) else {
            drop(state);
            let (runtime, id) = (Self::clone(self), id.clone());
            tokio::spawn(async move { runtime.tell(RuntimeEvent::Gone { id }).await });
            return;
        };
        let script = &instance.script;
        let deaf = script.ignore_signals || script.unkillable || script.stop_takes > grace;
        let end = if deaf && signal != SIGKILL {
            (now + grace, Exit::signal(SIGKILL))
        } else {
            (now + script.stop_takes, Exit::signal(signal))
        };
        instance.end.send_modify(|current| {
            if script.unkillable || current.is_none_or(|(at, _)| end.0 < at) {
                *current = Some(end);
            }
        });
        if let Some(record) = state.records.get_mut(id) {
            record.stopping = true;
        }
    }

    fn events(&self) -> Option<mpsc::Receiver<RuntimeEvent>> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.as_ref().is_some_and(|events| !events.is_closed()) {
            return None;
        }
        let (tell, told) = mpsc::channel(QUEUE);
        *events = Some(tell);
        Some(told)
    }

    fn adopt(&self) -> BoxFuture<'_, Vec<AdoptedInstance>> {
        let records = self.lock().records.values().cloned().collect();
        Box::pin(std::future::ready(records))
    }

    fn forget(&self, id: &InstanceId) {
        self.lock().records.remove(id);
    }

    fn examine(&self, id: &InstanceId, limit: Duration) -> BoxFuture<'_, Forensics> {
        let takes =
            self.lock().alive.get(id).map_or(Duration::ZERO, |instance| instance.script.examine_takes);
        let until = self.clock.now() + takes.min(limit);
        Box::pin(async move {
            self.clock.sleep_until(until).await;
            Forensics { memory_bytes: Some(1 << 20), ..Forensics::default() }
        })
    }

    fn usage(&self, _: &InstanceId) -> Option<Usage> {
        None
    }

    fn log_files(&self, _: &str) -> Vec<PathBuf> {
        Vec::new()
    }
}
