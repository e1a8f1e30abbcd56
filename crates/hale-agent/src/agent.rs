//! An agent as a whole: what is told of the node goes to a server, and what that one wants is carried out.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hale_health::Status;
use hale_supervisor::{clock::Clock, supervisor::SupervisorHandle};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    asks::Asks,
    desired::{self, Desk, View},
    drains::Drains,
    link::{Connector, Ends, Identity, Leave, Link, LinkState, Parts},
    metrics::LinkMetrics,
    reports::Reports,
    resources::{self, Sample, Usages},
    targets::Targets,
};

/// How long a goodbye may take at most, with whatever is left to tell before it.
const GOODBYE: Duration = Duration::from_secs(5);

/// What an agent stands on. The supervisor's sink is `reports`, its drain is `drains`.
pub struct AgentOptions {
    /// Who it is.
    pub identity: Identity,
    /// What it can run, where that changes (a container engine comes and goes): it registers anew then. Absent: always
    /// what its identity says.
    pub runtimes: Option<watch::Receiver<Vec<String>>>,
    /// How servers are reached.
    pub connector: Arc<dyn Connector>,
    /// The longest from beat to beat.
    pub heartbeat: Duration,
    /// What runs replicas.
    pub supervisor: SupervisorHandle,
    /// What probes targets.
    pub targets: Targets,
    /// Where supervisor and targets report to.
    pub reports: Arc<Reports>,
    /// Whom the supervisor asks before a stop.
    pub drains: Drains,
    /// What every instance uses.
    pub usages: Usages,
    /// What is counted.
    pub metrics: LinkMetrics,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where the last desired state is kept, and replicas' logs are.
    pub data_dir: PathBuf,
    /// Whether the last desired state is kept there, to go on by it without a server (S4).
    pub keep_desired: bool,
    /// See [`first_version`].
    pub first_version: u64,
}

/// Starts agents.
#[derive(Debug)]
pub struct Agent;

/// A running agent.
pub struct AgentHandle {
    leave: mpsc::Sender<Leave>,
    reload: watch::Sender<u64>,
    link: watch::Receiver<LinkState>,
    view: watch::Receiver<Arc<View>>,
    running: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl Agent {
    /// Starts one: goes on by the last desired state if one was kept, then looks for a server.
    pub async fn start(options: AgentOptions) -> AgentHandle {
        let (acknowledged, heard) = watch::channel(0);
        let (mut desk, view) = Desk::new(desired::Options {
            supervisor: options.supervisor.clone(),
            targets: options.targets.clone(),
            dir: options.keep_desired.then(|| options.data_dir.clone()),
            boot_id: options.identity.boot_id.clone(),
            heard,
        });
        let mut others = vec![tokio::spawn(pass_on(options.targets.statuses(), options.supervisor.clone()))];
        desk.resume().await;
        let (words, said) = mpsc::channel(desired::WAITING);
        others.push(tokio::spawn(desk.run(said)));
        let (sample, samples) = watch::channel(Arc::new(Sample::default()));
        let looking = resources::look_again(sample, options.data_dir.clone(), options.usages);
        others.push(tokio::spawn(looking));
        let (leave, leaving) = mpsc::channel(1);
        let (reload, reloads) = watch::channel(0);
        let (state, link) = watch::channel(LinkState::default());
        let asks = Asks {
            supervisor: options.supervisor.clone(),
            targets: options.targets.clone(),
            reports: Arc::clone(&options.reports),
            data_dir: options.data_dir,
            tails: Asks::tails(),
        };
        let fixed = || watch::channel(options.identity.runtimes.clone()).1;
        let parts = Parts {
            runtimes: options.runtimes.unwrap_or_else(fixed),
            identity: options.identity,
            connector: options.connector,
            heartbeat: options.heartbeat,
            supervisor: options.supervisor,
            targets: options.targets,
            reports: options.reports,
            drains: options.drains,
            asks,
            samples,
            metrics: options.metrics,
            clock: options.clock,
        };
        let ends = Ends { view: view.clone(), words, leave: leaving, reload: reloads, state, acknowledged };
        let running = tokio::spawn(Link::new(parts, ends, options.first_version).run());
        AgentHandle { leave, reload, link, view, running, others }
    }
}

impl AgentHandle {
    /// How the connection to a server stands.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<LinkState> {
        self.link.clone()
    }

    /// Whether a desired state has been loaded, from the kept file or from a server (N11).
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.view.borrow().loaded
    }

    /// Something that answers [`Self::is_loaded`] from elsewhere.
    pub fn loaded(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let view = self.view.clone();
        move || view.borrow().loaded
    }

    /// Tokens and certificates are to be read anew: an agent that waits for its next attempt makes it now.
    pub fn reload(&self) {
        self.reload.send_modify(|it| *it += 1);
    }

    /// Tells what is left to tell, says goodbye to the server, and ends. `away`: how long until it is back, while its
    /// replicas run on, in whole seconds, rounded up; zero: nobody is to wait for it; `None`: it has stopped them, and
    /// nothing is here any more. Replicas are left as they are.
    pub async fn leave(self, reason: &str, away: Option<Duration>) {
        let (done, said) = oneshot::channel();
        let leave = Leave {
            reason: reason.to_owned(),
            away_seconds: away.map_or(0, whole_seconds),
            stopped: away.is_none(),
            done,
        };
        let goodbye = async {
            if self.leave.send(leave).await.is_ok() {
                let _ = said.await;
            }
        };
        if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
            tracing::warn!("the goodbye took too long");
        }
        self.running.abort();
        self.others.iter().for_each(JoinHandle::abort);
    }
}

/// Rounded up: half a second away is not the same as never back.
fn whole_seconds(time: Duration) -> u32 {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Tells the supervisor how targets are, for the workloads that depend on them (H21).
async fn pass_on(mut statuses: watch::Receiver<Arc<BTreeMap<String, Status>>>, supervisor: SupervisorHandle) {
    let mut told: BTreeMap<String, Status> = BTreeMap::new();
    while statuses.changed().await.is_ok() {
        let now = Arc::clone(&statuses.borrow_and_update());
        let changed = now.iter().filter(|(name, status)| told.get(*name) != Some(*status));
        for (name, status) in changed {
            if supervisor.set_dependency(name, Some(*status)).await.is_err() {
                return;
            }
        }
        for name in told.keys().filter(|name| !now.contains_key(*name)) {
            if supervisor.set_dependency(name, None).await.is_err() {
                return;
            }
        }
        told.clone_from(&now);
    }
}

/// Where the versions of this run of an agent begin (N8): above all that an earlier run gave, whatever became of the
/// machine's clock or of the directory. The number of the run is kept in the directory, and is never below the seconds
/// since 1970. One that can't be kept, because the disk is full, does not keep an agent from starting: the clock goes on
/// being counted from.
#[must_use]
pub fn first_version(dir: &Path) -> u64 {
    let path = dir.join("run-number");
    let before = std::fs::read_to_string(&path).ok().and_then(|it| it.trim().parse().ok()).unwrap_or(0);
    let seconds = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    let number = seconds.max(before + 1);
    let new = path.with_extension("new");
    let kept = std::fs::write(&new, number.to_string()).and_then(|()| std::fs::rename(&new, &path));
    if let Err(error) = kept {
        tracing::error!(path = %path.display(), %error, "can't keep the number of this run: the clock counts alone");
    }
    number << VERSIONS_PER_RUN
}

/// So many bits of versions in a second of a run; what goes beyond goes into the next second's.
const VERSIONS_PER_RUN: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_later_run_are_higher_even_if_the_clock_went_back() {
        let dir = tempfile::tempdir().unwrap();
        let first = first_version(dir.path());
        let second = first_version(dir.path());
        assert!(second > first);
        std::fs::write(dir.path().join("run-number"), "99999999999").unwrap();
        assert_eq!(first_version(dir.path()), 100_000_000_000 << VERSIONS_PER_RUN);
        let gone = dir.path().join("gone");
        assert!(first_version(&gone) > 1 << 50, "a directory that takes nothing");
    }
}
