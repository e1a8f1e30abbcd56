//! What runs replicas on a node: processes and containers, as one.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use hale_container::{ContainerOptions, ContainerRuntime};
use hale_supervisor::{
    process::ProcessRuntime,
    runtime::{InstanceId, Runtime, Usage},
    runtimes::Runtimes,
};

/// Both runtimes of a node.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    process: Arc<ProcessRuntime>,
    container: Arc<ContainerRuntime>,
    both: Arc<Runtimes>,
}

/// What is told of containers on the command line, and where their published ports are reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Containers<'a> {
    /// `--container-host`.
    pub(crate) host: Option<&'a str>,
    /// `--no-root`.
    pub(crate) no_root: bool,
    /// Where ports are published.
    pub(crate) publish: IpAddr,
    /// Whether what an earlier run left is ended.
    pub(crate) end_leftovers: bool,
}

impl Runs {
    /// Joins the two. No engine is looked for before a container is wanted.
    pub(crate) fn new(process: ProcessRuntime, data_dir: &Path, told: Containers<'_>) -> Self {
        let process = Arc::new(process);
        let container = Arc::new(ContainerRuntime::new(ContainerOptions {
            host: told.host.map(str::to_owned),
            no_root: told.no_root,
            publish: told.publish,
            end_leftovers: told.end_leftovers,
            ..ContainerOptions::new(data_dir)
        }));
        let all: Vec<Arc<dyn Runtime>> = vec![Arc::clone(&process) as _, Arc::clone(&container) as _];
        Self { process, container, both: Arc::new(Runtimes::new(all)) }
    }

    /// For the supervisor.
    pub(crate) fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.both) as _
    }

    /// What every replica uses.
    pub(crate) fn usages(&self) -> Vec<(InstanceId, Usage)> {
        let mut all = self.process.usages();
        all.extend(self.container.usages());
        all
    }

    /// The runtimes that a server may place on here. An engine that is only sought is told when it is missed.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = vec![self.process.name().to_owned()];
        if self.container.may_find_engine() {
            names.push(self.container.name().to_owned());
        }
        names
    }

    /// Whether the keeper can be asked. A missing container engine makes no node unready: it harms its containers alone.
    pub(crate) fn answers(&self) -> bool {
        self.process.answers()
    }

    /// Ends the keeper; see [`ProcessRuntime::shut_down`].
    pub(crate) async fn shut_down(&self, grace: Duration, limit: Duration) {
        self.process.shut_down(grace, limit).await;
    }
}
