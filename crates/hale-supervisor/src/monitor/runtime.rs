//! Components as a runtime: to start one is to call its restart function, to stop one is to look away.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hale_health::Exit;
use hale_model::event::Forensics;
use tokio::{sync::mpsc, task::JoinHandle};

use super::component::{Closure, Component, Told};
use crate::{
    clock::Clock,
    runtime::{BoxFuture, InstanceId, Launch, Runtime, RuntimeEvent, SpawnError, Started, Usage},
};

/// Ends that wait for the driver. When so many do, further ones wait in their own tasks.
const QUEUE: usize = 256;

/// The components of a program.
pub(super) struct Components {
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<String, Component>>,
    events: mpsc::Sender<RuntimeEvent>,
    taken: Mutex<Option<mpsc::Receiver<RuntimeEvent>>>,
}

impl Components {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (events, taken) = mpsc::channel(QUEUE);
        Self { clock, known: Mutex::default(), events, taken: Mutex::new(Some(taken)) }
    }

    pub(super) fn insert(&self, component: Component) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(component.name.clone(), component);
    }

    pub(super) fn remove(&self, name: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(super) fn get(&self, name: &str) -> Option<Component> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// Calls a function of the embedding program in a task of its own, so that one that panics or blocks harms nobody
/// else, and cuts it off at `limit`.
pub(super) async fn call(
    clock: &Arc<dyn Clock>,
    function: &Closure,
    limit: Duration,
) -> Result<Told, CutOff> {
    /// Ends the task when the caller is itself cut off.
    struct Guard(JoinHandle<Told>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let until = clock.now() + limit;
    let function = Arc::clone(function);
    let mut task = Guard(tokio::spawn(async move { function().await }));
    tokio::select! {
        told = &mut task.0 => told.map_err(|_| CutOff::Panicked),
        () = clock.sleep_until(until) => Err(CutOff::TimedOut),
    }
}

/// Why a function did not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CutOff {
    TimedOut,
    Panicked,
}

impl Runtime for Arc<Components> {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Started, SpawnError>> {
        let started = Started {
            pid: None,
            container_id: None,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: BTreeMap::new(),
            surroundings: None,
        };
        let component = self.get(&launch.workload.name);
        let first = launch.id.incarnation.0 <= 1;
        Box::pin(async move {
            let Some(component) = component else {
                let detail = format!("component {} is no longer there", launch.workload.name);
                return Err(SpawnError { code: "not_found", detail });
            };
            let Some(restart) = component.restart.as_ref().filter(|_| !first) else {
                return Ok(started);
            };
            let limit = component.restart_timeout;
            let (code, detail) = match call(&self.clock, restart, limit).await {
                Ok(Ok(())) => return Ok(started),
                Ok(Err(error)) => ("internal", error),
                Err(CutOff::TimedOut) => {
                    ("timeout", format!("its restart function did not return within {limit:?}"))
                }
                Err(CutOff::Panicked) => ("internal", "its restart function panicked".to_owned()),
            };
            Err(SpawnError { code, detail })
        })
    }

    fn stop(&self, id: &InstanceId, _: i32, _: Duration) {
        let (events, id, at) = (self.events.clone(), id.clone(), self.clock.now());
        tokio::spawn(async move {
            // An error means that nobody listens any more.
            let _ = events.send(RuntimeEvent::Exited { id: id.clone(), exit: Exit::code(0), at }).await;
            let _ = events.send(RuntimeEvent::Gone { id }).await;
        });
    }

    fn events(&self) -> Option<mpsc::Receiver<RuntimeEvent>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn examine(&self, _: &InstanceId, _: Duration) -> BoxFuture<'_, Forensics> {
        Box::pin(std::future::ready(Forensics::default()))
    }

    fn usage(&self, _: &InstanceId) -> Option<Usage> {
        None
    }

    fn log_files(&self, _: &str) -> Vec<PathBuf> {
        Vec::new()
    }
}
