//! What runs a replica, seen from the driver: start it, stop it, hear of its end.
//!
//! A runtime decides nothing. It is told what to start and what to stop, and tells what happened. The driver knows
//! no more of it than this trait, so that processes and containers (and a scripted one in tests) are alike to it.

use std::{
    collections::BTreeMap, future::Future, net::IpAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration,
};

use hale_health::{Exit, Generation, Incarnation, Time};
use hale_model::{event::Forensics, spec::Workload};
use jiff::Timestamp;
use tokio::sync::mpsc;

pub use hale_check::{Commands, Inside, Ran, RanEnd};

use crate::process::Masker;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Names one run of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstanceId {
    /// Workload and ordinal: `web-0`.
    pub replica: String,
    /// The number of its placement.
    pub generation: Generation,
    /// The number of its start.
    pub incarnation: Incarnation,
}

/// One start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Which run this is.
    pub id: InstanceId,
    /// What it is a replica of.
    pub workload: Arc<Workload>,
    /// Ports by name, each a number the replica may bind.
    pub ports: BTreeMap<String, u16>,
    /// When it is to be ended unless it is told otherwise until then, and with which grace: as by [`Runtime::stop_at`],
    /// but from the first moment on. A runtime that can't do that is told again once it runs.
    pub stop_at: Option<(Time, Duration)>,
}

/// What came of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its main process, where there is one.
    pub pid: Option<u32>,
    /// Its container, where there is one.
    pub container_id: Option<String>,
    /// Where it is reached.
    pub address: IpAddr,
    /// Its ports by name as they are reached, where that is only known now; empty: those of its [`Launch`].
    pub ports: BTreeMap<String, u16>,
    /// What commands of its `exec` checks run in (H8), where those are processes of this machine.
    pub surroundings: Option<Arc<Surroundings>>,
}

/// What a command beside a replica runs in: as the replica itself does.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// The whole environment. Holds secrets: never shown.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub working_dir: PathBuf,
    /// User and group by number; the agent's own when absent.
    pub user: Option<(u32, u32)>,
    /// Takes the secrets of the environment out of what is shown of a check (N4).
    pub masker: Arc<Masker>,
    /// What runs the commands, where that is not this process: then all of the above but the masker is its affair.
    pub inside: Option<Inside>,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("env", &format_args!("{} variables", self.env.len()))
            .field("working_dir", &self.working_dir)
            .field("user", &self.user)
            .field("inside", &self.inside)
            .finish()
    }
}

/// Why a start failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct SpawnError {
    /// A stable word for it: `not_found`, `not_executable`, `no_such_user`, `not_allowed`, `no_such_directory`,
    /// `env_file`, `port_unavailable`, `limits`, `runtime_unavailable`, `internal`; of a container also
    /// `image_not_found`, `image_pull_denied`, `registry_unreachable`, `image_pull_failed`, `image_missing`,
    /// `no_such_container`, `create_failed`.
    pub code: &'static str,
    /// What was tried, on what, and what came back.
    pub detail: String,
}

/// What a runtime tells by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum RuntimeEvent {
    /// The main process ended. Others of the instance may be left: [`Self::Gone`] follows.
    Exited {
        /// Which run.
        id: InstanceId,
        /// How it ended.
        exit: Exit,
        /// When, on the driver's scale.
        at: Time,
    },
    /// Nothing of the instance is left, and nothing of it can come back.
    Gone {
        /// Which run.
        id: InstanceId,
    },
    /// The instance could not be ended; the runtime goes on trying, and tells [`Self::Gone`] if it succeeds.
    StopFailed {
        /// Which run.
        id: InstanceId,
        /// What is left of it.
        detail: String,
    },
    /// The instance reported over its notify socket: one `NAME=value` line (H9).
    Notify {
        /// Which run.
        id: InstanceId,
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// When, on the driver's scale.
        at: Time,
    },
    /// The runtime itself checks the instance, and says how it is (N5): told on every change, and after adoption.
    Health {
        /// Which run.
        id: InstanceId,
        /// Whether it is well.
        healthy: bool,
        /// Who says so, and what was seen.
        detail: String,
        /// When, on the driver's scale.
        at: Time,
    },
    /// Something that is asked for has less effect here than one would think.
    Warning {
        /// Which run.
        id: InstanceId,
        /// A stable word for it.
        code: &'static str,
        /// What, why, and what to do instead.
        detail: String,
    },
    /// The kernel killed something of the instance for want of memory; if that was its main process, its end follows.
    OutOfMemory {
        /// Which run.
        id: InstanceId,
    },
}

/// An instance that an earlier driver left, or its record (N6).
#[derive(Debug, Clone)]
pub struct AdoptedInstance {
    /// Which run, as it was started.
    pub id: InstanceId,
    /// Where it is; what commands beside it run in is asked for by [`Runtime::surroundings`].
    pub started: Started,
    /// When it was started, on the driver's scale.
    pub started_at: Time,
    /// The same by the wall clock.
    pub started_wall: Option<Timestamp>,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
    /// Whether its stop goes on.
    pub stopping: bool,
    /// How and when its main process ended, if it has.
    pub exit: Option<(Exit, Time)>,
    /// Whether nothing of it is left.
    pub gone: bool,
    /// What it last said over its notify socket, by variable (H9).
    pub notified: BTreeMap<String, String>,
}

/// What an instance uses now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Resident memory of all its processes, bytes.
    pub memory_bytes: u64,
    /// CPU time used so far by all its processes.
    pub cpu: Duration,
    /// How many processes it has.
    pub processes: u32,
}

/// What runs replicas.
pub trait Runtime: Send + Sync + 'static {
    /// Its name in status and events: `process`, `container`.
    fn name(&self) -> &'static str;

    /// The name of what runs this workload, where there are several.
    fn name_for(&self, _: &Workload) -> &'static str {
        self.name()
    }

    /// Starts a replica. Returns once it is running (its program is executing) or has failed to.
    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Started, SpawnError>>;

    /// Begins to end an instance: the signal to all of its process group, then after `grace` SIGKILL to everything
    /// left of it. Returns at once; [`RuntimeEvent::Exited`] and [`RuntimeEvent::Gone`] tell the rest. A second call
    /// with a shorter grace hurries. An instance that is gone already is told gone again.
    fn stop(&self, id: &InstanceId, signal: i32, grace: Duration);

    /// The replica is not wanted any more: ends its instance as [`Self::stop`] does, or, where somebody else made it, lets
    /// it be and tells it gone.
    fn release(&self, id: &InstanceId, signal: i32, grace: Duration) {
        self.stop(id, signal, grace);
    }

    /// What happens by itself. Can be taken once; `None` after.
    fn events(&self) -> Option<mpsc::Receiver<RuntimeEvent>>;

    /// What the instance is doing right now, within `limit` of time: memory, open files, threads, log tail (H25).
    /// Parts that can't be had are named in it.
    fn examine(&self, id: &InstanceId, limit: Duration) -> BoxFuture<'_, Forensics>;

    /// What earlier drivers left: what runs, and what has ended while nobody was there. Asked once, before anything is
    /// started; what happens to these instances later is told as of any other.
    fn adopt(&self) -> BoxFuture<'_, Vec<AdoptedInstance>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    /// What commands beside an adopted instance run in: as it would be started now. May read a few small files.
    fn surroundings(&self, _: &Launch) -> Option<Arc<Surroundings>> {
        None
    }

    /// Ends an instance at this moment by itself, with its stop signal and this grace, even if the driver is dead by then;
    /// `None`: not at all. The last word counts.
    fn stop_at(&self, _: &InstanceId, _: Option<Time>, _: Duration) {}

    /// The record of an adopted instance that is gone is no longer needed.
    fn forget(&self, _: &InstanceId) {}

    /// What the instance uses now; `None` when that can't be told.
    fn usage(&self, id: &InstanceId) -> Option<Usage>;

    /// Where the output of a replica is kept, newest file first; empty when there is none.
    fn log_files(&self, replica: &str) -> Vec<PathBuf>;
}
