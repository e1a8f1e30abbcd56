//! Two runtimes as one.

use std::{sync::Arc, time::Duration};

use hale_health::{Exit, Generation, Incarnation};
use hale_model::spec::Workload;
use hale_supervisor::{
    clock::{BootClock, Clock},
    runtime::{
        AdoptedInstance, BoxFuture, InstanceId, Launch, Runtime, RuntimeEvent, SpawnError, Started, Usage,
    },
    runtimes::Runtimes,
    sim::{SimRuntime, workload},
};
use tokio::sync::mpsc;

/// A scripted runtime under another name.
struct Named(&'static str, Arc<SimRuntime>);

impl Runtime for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Started, SpawnError>> {
        self.1.start(launch)
    }

    fn stop(&self, id: &InstanceId, signal: i32, grace: Duration) {
        self.1.stop(id, signal, grace);
    }

    fn events(&self) -> Option<mpsc::Receiver<RuntimeEvent>> {
        self.1.events()
    }

    fn examine(&self, id: &InstanceId, limit: Duration) -> BoxFuture<'_, hale_model::event::Forensics> {
        self.1.examine(id, limit)
    }

    fn adopt(&self) -> BoxFuture<'_, Vec<AdoptedInstance>> {
        self.1.adopt()
    }

    fn usage(&self, id: &InstanceId) -> Option<Usage> {
        self.1.usage(id)
    }

    fn log_files(&self, replica: &str) -> Vec<std::path::PathBuf> {
        self.1.log_files(replica)
    }
}

fn launch(it: Workload) -> Launch {
    let replica = it.replica_name(0);
    let id = InstanceId { replica, generation: Generation(1), incarnation: Incarnation(1) };
    Launch { id, workload: Arc::new(it), ports: Default::default(), stop_at: None }
}

#[tokio::test]
async fn an_instance_stays_with_the_runtime_its_workload_names() {
    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let (one, other) = (SimRuntime::new(Arc::clone(&clock)), SimRuntime::new(clock));
    let all: Vec<Arc<dyn Runtime>> =
        vec![Arc::new(Named("container", Arc::clone(&one))), Arc::new(Named("process", Arc::clone(&other)))];
    let runtimes = Runtimes::new(all);
    let mut events = runtimes.events().unwrap();
    let web = launch(workload("web", 1));
    let id = web.id.clone();
    runtimes.start(web).await.unwrap();
    assert_eq!((one.alive(), other.alive()), (0, 1));
    runtimes.stop(&id, 15, Duration::ZERO);
    let exited = events.recv().await.unwrap();
    assert!(matches!(exited, RuntimeEvent::Exited { exit, .. } if exit != Exit::code(1)), "{exited:?}");
    assert_eq!(events.recv().await, Some(RuntimeEvent::Gone { id: id.clone() }));
    assert_eq!(other.stops().len(), 1);
    assert!(one.stops().is_empty());
    // One that nobody knows is told gone again.
    runtimes.stop(&id, 15, Duration::ZERO);
    assert_eq!(events.recv().await, Some(RuntimeEvent::Gone { id }));
}

#[tokio::test]
async fn a_workload_whose_runtime_is_not_there_is_told_so() {
    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let all: Vec<Arc<dyn Runtime>> = vec![Arc::new(Named("container", SimRuntime::new(clock)))];
    let error = Runtimes::new(all).start(launch(workload("web", 1))).await.unwrap_err();
    assert_eq!(error.code, "runtime_unavailable");
    assert!(error.detail.contains("process"), "{error}");
}
