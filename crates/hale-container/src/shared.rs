//! What all parts of the runtime share.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hale_health::Time;
use hale_supervisor::{
    clock::{BootClock, Clock},
    process::Masker,
    runtime::{InstanceId, RuntimeEvent, SpawnError, Surroundings},
};
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, mpsc},
    time::sleep,
};

use crate::{
    error::CallError,
    exec::ContainerCommands,
    facts::Facts,
    image::Pulls,
    link::{Link, SharedLink},
    logs::Writer,
    options::ContainerOptions,
    record::Records,
    table::Table,
    warnings::Warned,
};

/// How long a question to the engine may take.
pub(crate) const CALL: Duration = Duration::from_secs(10);

/// How long it may take to make, start or remove a container: much goes on then, and slow disks are met.
pub(crate) const WORK: Duration = Duration::from_secs(60);

/// Containers that are started at once; more only make each slower.
const STARTS: usize = 8;

/// How often an engine is asked again that names a state between two others, and the pause before.
const BETWEEN_STATES: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Everything.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: Weak<Self>,
    pub(crate) options: ContainerOptions,
    pub(crate) link: SharedLink,
    pub(crate) table: Table,
    pub(crate) records: Records,
    pub(crate) pulls: Pulls,
    pub(crate) writer: Writer,
    pub(crate) starts: Semaphore,
    pub(crate) warned: Warned,
    /// Which container of somebody else each replica has, or had last. Small: an entry goes with its container's next
    /// replica, or when it is let be.
    pub(crate) claims: Mutex<HashMap<String, String>>,
    tell: mpsc::Sender<RuntimeEvent>,
    owner: OnceLock<String>,
    /// The last run of each replica that ended: its record goes when the next has begun.
    last: Mutex<HashMap<String, InstanceId>>,
    /// Whether what an earlier driver left is known: before that nothing unknown is removed.
    pub(crate) settled: AtomicBool,
}

impl Shared {
    pub(crate) fn new(options: ContainerOptions, tell: mpsc::Sender<RuntimeEvent>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            link: Arc::new(Link::new(options.host.clone())),
            table: Table::default(),
            records: Records::new(&options.data_dir),
            pulls: Pulls::default(),
            writer: Writer::start(&options.data_dir, options.logs),
            starts: Semaphore::new(STARTS),
            warned: Warned::default(),
            claims: Mutex::default(),
            tell,
            owner: OnceLock::new(),
            last: Mutex::default(),
            settled: AtomicBool::new(false),
            options,
        })
    }

    /// Whose containers are ours.
    pub(crate) fn owner(&self) -> Result<&str, SpawnError> {
        if let Some(owner) = self.owner.get() {
            return Ok(owner);
        }
        let failed = |error| SpawnError {
            code: "internal",
            detail: format!("can't write to {}: {error}", self.dir().join("containers").display()),
        };
        let owner = self.records.owner().map_err(failed)?;
        Ok(self.owner.get_or_init(|| owner))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// Tells the driver; waits while it does not keep up. Nothing is lost but with the driver itself.
    pub(crate) async fn tell(&self, event: RuntimeEvent) {
        let _ = self.tell.send(event).await;
    }

    /// A remark in the log of a replica.
    pub(crate) fn say(&self, id: &InstanceId, text: &str) {
        self.writer.remark(&id.replica, text);
    }

    /// One container as it is now; `None`: there is none.
    pub(crate) async fn inspect(&self, container: &str) -> Result<Option<Facts>, CallError> {
        let mut tries = BETWEEN_STATES;
        loop {
            let found = self
                .link
                .call(CALL, |docker| {
                    let container = container.to_owned();
                    async move { docker.inspect_container(&container, None).await }
                })
                .await;
            match found {
                Ok(found) => return Ok(Some(Facts::of(found))),
                Err(error) if error.is_not_found() => return Ok(None),
                // Podman's word for one that has ended and is not cleaned up yet, which Docker does not have.
                Err(error) if tries > 0 && error.to_string().contains("unknown variant `stopped`") => {
                    tries -= 1;
                    sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What commands of its checks run in, and what may not be shown of it.
    pub(crate) fn surroundings(&self, id: &InstanceId, masker: Masker) -> Arc<Surroundings> {
        let masker = Arc::new(masker);
        self.table.with(id, |live| live.masker = Arc::clone(&masker));
        let inside = ContainerCommands::inside(Weak::clone(&self.me), id.clone());
        Arc::new(Surroundings { masker, inside: Some(inside), ..Surroundings::default() })
    }

    /// Takes note that a run is the last of its replica that ended; the record of the one before it goes.
    pub(crate) fn remember_last(&self, id: &InstanceId) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = last.insert(id.replica.clone(), id.clone()).filter(|before| before != id) {
            self.records.remove(&before);
        }
    }

    /// The next run of a replica has begun: what its driver knows by now of the one before is kept by itself.
    pub(crate) fn forget_last(&self, replica: &str) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(replica);
        if let Some(before) = last {
            self.records.remove(&before);
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }
}

/// A moment of the wall clock on the driver's scale.
pub(crate) fn moment(at: Timestamp) -> Time {
    let (now, wall) = (BootClock.now(), BootClock.wall());
    let ago = wall.duration_since(at);
    match Duration::try_from(ago) {
        Ok(ago) => {
            Time::from_nanos(now.as_nanos().saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX)))
        }
        // The clocks of engine and agent are the same; what lies ahead was a step of it.
        Err(_) => now,
    }
}
