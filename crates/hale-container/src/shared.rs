//! What all parts of the runtime share.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
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
    link::{Engine, Link, SharedLink},
    logs::Writer,
    options::ContainerOptions,
    record::Records,
    table::{Live, Stage, Table},
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

    /// Looks for an engine, once: while runs are in one, for that one.
    pub(crate) async fn find_engine(&self) -> Result<Engine, String> {
        self.link.find(self.holding()).await
    }

    /// The socket of the engine that has runs of ours, as far as is known: by this runtime, or by the records of an earlier
    /// one.
    fn holding(&self) -> Option<PathBuf> {
        let live = |live: &Live| live.stage != Stage::Ended && live.container.is_some();
        if let Some(last) = self.link.last()
            && self.table.all().iter().any(|(_, it)| live(it))
        {
            return Some(last);
        }
        self.records.load().into_iter().filter(|it| it.ended.is_none()).find_map(|it| it.socket)
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

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixListener,
    };

    use hale_health::{Exit, Generation, Incarnation};

    use super::*;
    use crate::record::{Ended, Record};

    /// An engine that says who it is, and nothing else.
    fn engine(at: &Path) {
        let listener = UnixListener::bind(at).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut asked = Vec::new();
                let mut bytes = [0; 1024];
                while !asked.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut bytes) {
                        Ok(0) | Err(_) => break,
                        Ok(read) => asked.extend_from_slice(&bytes[..read]),
                    }
                }
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                let _ = stream.write_all(format!("{head}\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes());
            }
        });
    }

    #[tokio::test]
    async fn while_a_run_is_in_an_engine_no_other_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first.sock"), dir.path().join("second.sock"));
        engine(&second);
        let other = Link::new(Some(second.to_str().unwrap().to_owned())).find(None).await.unwrap();
        assert_eq!(other.socket, second);
        let shared = || Shared::new(ContainerOptions::new(dir.path()), mpsc::channel(1).0);
        assert_eq!(shared().holding(), None);

        // As an earlier agent noted it, whose engine is away now.
        let id = InstanceId { replica: "w-0".into(), generation: Generation(1), incarnation: Incarnation(1) };
        let record = Record { socket: Some(first.clone()), ..Record::new(&id) };
        shared().records.save(&record);
        assert_eq!(shared().holding(), Some(first.clone()));
        let why = shared().find_engine().await.unwrap_err();
        assert!(why.contains("first.sock") && why.contains("--container-host"), "{why}");
        engine(&first);
        assert_eq!(shared().find_engine().await.unwrap().socket, first);
        // Who says which means it.
        let host = Some(second.to_str().unwrap().to_owned());
        let said = ContainerOptions { host, ..ContainerOptions::new(dir.path()) };
        let said = Shared::new(said, mpsc::channel(1).0);
        assert_eq!(said.find_engine().await.unwrap().socket, second);

        // What has ended holds nothing; what this runtime knows of does, whatever the records say.
        let ended = Ended::new(Exit::code(0), Timestamp::UNIX_EPOCH);
        shared().records.save(&Record { ended: Some(ended), ..record });
        let it = shared();
        assert_eq!(it.holding(), None);
        it.link.set(crate::link::State::Up(other));
        it.table.enter(id.clone(), Live { container: Some("abc".into()), ..Live::new() });
        assert_eq!(it.holding(), Some(second));
        it.table.with(&id, |live| live.stage = Stage::Ended);
        assert_eq!(it.holding(), None);
    }
}
