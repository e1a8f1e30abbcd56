//! What runs replicas on a node: processes and containers, as one.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use hale_container::{ContainerOptions, ContainerRuntime};
use hale_supervisor::{
    process::ProcessRuntime,
    runtime::{InstanceId, Runtime, Usage},
    runtimes::Runtimes,
};
use tokio::sync::watch;

/// How often it is looked whether a container engine answers.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// So many looks in vain, and there is none.
const MISSED: u32 = 10;

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
    /// `--allow-user`; empty: any.
    pub(crate) allow_users: &'a [String],
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
            allow_users: (!told.allow_users.is_empty()).then(|| told.allow_users.iter().cloned().collect()),
            publish: told.publish,
            end_leftovers: told.end_leftovers,
            keeper: Some(process.outside()),
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

    /// The runtimes that a server may place on here, as that changes: an engine counts as soon as it answers, and until it
    /// has not answered for a while, so that its restart moves nobody.
    pub(crate) async fn watch(&self) -> watch::Receiver<Vec<String>> {
        let (process, own) = (self.process.name(), self.container.name());
        let names = move |engine: bool| {
            let mut names = vec![process.to_owned()];
            names.extend(engine.then(|| own.to_owned()));
            names
        };
        let container = Arc::clone(&self.container);
        // An engine that hangs keeps no agent from its start.
        let mut there = tokio::time::timeout(LOOK_EVERY, container.answers()).await.unwrap_or(false);
        let (tell, told) = watch::channel(names(there));
        tokio::spawn(async move {
            let mut missed = 0;
            while !tell.is_closed() {
                tokio::time::sleep(LOOK_EVERY).await;
                missed = if container.answers().await { 0 } else { missed + 1 };
                let now = missed == 0 || (there && missed < MISSED);
                if now != there {
                    there = now;
                    tracing::info!(engine = there, "what this node can run has changed");
                    tell.send_replace(names(there));
                }
            }
        });
        told
    }

    /// How many containers with a label somebody else made; the error says why that can't be told.
    pub(crate) async fn count_labelled(&self, label: (&str, Option<&str>)) -> Result<usize, String> {
        self.container.count_labelled(label).await
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
