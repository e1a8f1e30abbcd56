//! What a driver remembers of its replicas beyond its own end (N6), and keeping it in files.
//!
//! Whoever goes on reads it on the same boot, after the end of a process and not of a machine: nothing is synced to the
//! disk, and what another boot kept is worth no more than the number of the last start.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use hale_health::{Generation, Memento};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{runtime::BoxFuture, supervisor::Wish};

/// What is remembered of one replica.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The number of its placement, as it was told last.
    pub generation: Generation,
    /// The digest of its declaration.
    pub digest: String,
    /// Tells whether a declaration takes another instance than the one that runs.
    pub instance: u64,
    /// What was wished of it beside running.
    pub wish: Wish,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
    /// The signal it is stopped with.
    pub stop_signal: i32,
    /// From that signal to SIGKILL, milliseconds.
    pub grace_ms: u64,
    /// All that was decided of it.
    pub machine: Memento,
}

/// Where a driver keeps what it remembers.
pub trait Mementos: Send + Sync + 'static {
    /// Keeps this of a replica, in the place of what was kept before. Called in the dispatcher's task: it must not
    /// block; of several that wait the last counts.
    fn save(&self, replica: &str, kept: Kept);

    /// The replica is no more.
    fn forget(&self, replica: &str);

    /// All that was kept, by replica. Asked once, before anything is saved.
    fn load(&self) -> BoxFuture<'static, Vec<(String, Kept)>>;

    /// Completes when everything that was saved before is kept.
    fn flush(&self) -> BoxFuture<'static, ()>;
}

/// What is in a file.
#[derive(Serialize, Deserialize)]
struct Stored {
    boot: String,
    kept: Kept,
}

/// Keeps each replica in a small file of its own, written by a thread. No more wait than there are replicas.
#[derive(Debug)]
pub struct FileMementos {
    dir: PathBuf,
    boot: String,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By replica; `None`: its file is to go.
    changes: HashMap<String, Option<Kept>>,
    flushes: Vec<oneshot::Sender<()>>,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What is in it is replaced whole; a panic elsewhere leaves it right.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileMementos {
    /// Keeps them in `state/` of a data directory, made if need be, for nobody else to see.
    ///
    /// # Errors
    /// The directory can't be made, or the kernel refuses a thread.
    pub fn open(data: &Path) -> io::Result<Arc<Self>> {
        Self::open_on(data, hale_keeper::procfs::boot_id())
    }

    /// The same, on a boot of this name.
    ///
    /// # Errors
    /// As [`FileMementos::open`].
    pub fn open_on(data: &Path, boot: String) -> io::Result<Arc<Self>> {
        let dir = data.join("state");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let shared = Arc::<Shared>::default();
        let (writer, to, of) = (Arc::clone(&shared), dir.clone(), boot.clone());
        thread::Builder::new().name("mementos".to_owned()).spawn(move || write_all(&writer, &to, &of))?;
        Ok(Arc::new(Self { dir, boot, shared }))
    }

    fn change(&self, replica: &str, kept: Option<Kept>) {
        self.shared.lock().changes.insert(replica.to_owned(), kept);
        self.shared.news.notify_one();
    }
}

impl Drop for FileMementos {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.news.notify_one();
    }
}

impl Mementos for FileMementos {
    fn save(&self, replica: &str, kept: Kept) {
        self.change(replica, Some(kept));
    }

    fn forget(&self, replica: &str) {
        self.change(replica, None);
    }

    fn load(&self) -> BoxFuture<'static, Vec<(String, Kept)>> {
        let (dir, boot) = (self.dir.clone(), self.boot.clone());
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || read_all(&dir, &boot)).await;
            read.unwrap_or_default()
        })
    }

    fn flush(&self) -> BoxFuture<'static, ()> {
        let (done, wait) = oneshot::channel();
        self.shared.lock().flushes.push(done);
        self.shared.news.notify_one();
        Box::pin(async move {
            // An error means that the writer is gone, and everything with it.
            let _ = wait.await;
        })
    }
}

/// The writer: takes what waits, writes it, until nobody is left who could save.
fn write_all(shared: &Shared, dir: &Path, boot: &str) {
    let mut failed = false;
    loop {
        let mut waiting = shared.lock();
        while waiting.changes.is_empty() && waiting.flushes.is_empty() {
            if waiting.over {
                return;
            }
            waiting = shared.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let changes = std::mem::take(&mut waiting.changes);
        let flushes = std::mem::take(&mut waiting.flushes);
        drop(waiting);
        for (replica, kept) in changes {
            let done = match kept {
                Some(kept) => write(dir, &replica, &Stored { boot: boot.to_owned(), kept }),
                None => remove(dir, &replica),
            };
            match done {
                Ok(()) => failed = false,
                // Said once per spell: every replica would say the same.
                Err(error) if !std::mem::replace(&mut failed, true) => {
                    let path = dir.display();
                    tracing::warn!(replica, %error, "can't keep in {path} what the next agent has to know");
                }
                Err(_) => {}
            }
        }
        for flush in flushes {
            let _ = flush.send(());
        }
    }
}

fn path_of(dir: &Path, replica: &str) -> PathBuf {
    dir.join(format!("{replica}.json"))
}

/// Writes beside and renames: a reader sees the old one or the new one.
fn write(dir: &Path, replica: &str, stored: &Stored) -> io::Result<()> {
    let text = serde_json::to_vec(stored)?;
    let beside = dir.join(format!("{replica}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&text)?;
    fs::rename(&beside, path_of(dir, replica))
}

fn remove(dir: &Path, replica: &str) -> io::Result<()> {
    match fs::remove_file(path_of(dir, replica)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_all(dir: &Path, boot: &str) -> Vec<(String, Kept)> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let read = |path: &Path| {
        let replica = path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
        match serde_json::from_slice::<Stored>(&fs::read(path).ok()?) {
            Ok(Stored { boot: of, kept }) if of == boot => Some((replica, kept)),
            Ok(Stored { kept, .. }) => {
                let machine = kept.machine.only_number();
                Some((replica, Kept { machine, wish: Wish::default(), ..kept }))
            }
            Err(error) => {
                tracing::warn!(%error, "passed over {}: it is damaged", path.display());
                None
            }
        }
    };
    entries.filter_map(|entry| read(&entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use hale_health::{
        Arrival, Found, Incarnation, Phase, ReplicaPolicy, Resumed, Time, Workload, WorkloadPolicy,
    };

    use super::*;

    /// What is kept of a replica that has been started once.
    fn kept() -> Kept {
        let mut machine = Workload::new(WorkloadPolicy::default(), ReplicaPolicy::default(), 1);
        machine.set_replicas(Time::ZERO, 1, &mut Vec::new());
        Kept {
            generation: Generation(7),
            machine: machine.replica(0).unwrap().memento(),
            ports: BTreeMap::from([("http".to_owned(), 20_001)]),
            ..Kept::default()
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_there_for_the_next_and_the_last_word_counts() {
        let dir = tempfile::tempdir().unwrap();
        let first = FileMementos::open(dir.path()).unwrap();
        first.save("web-0", Kept::default());
        first.save("web-0", kept());
        first.save("web-1", kept());
        first.forget("web-1");
        first.flush().await;
        let next = FileMementos::open(dir.path()).unwrap();
        assert_eq!(next.load().await, [("web-0".to_owned(), kept())]);
        let mode =
            std::os::unix::fs::MetadataExt::mode(&fs::metadata(dir.path().join("state/web-0.json")).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn of_another_boot_only_the_number_of_the_last_start_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let first = FileMementos::open_on(dir.path(), "one".to_owned()).unwrap();
        first.save("web-0", kept());
        first.flush().await;
        fs::write(dir.path().join("state/web-1.json"), "{\"boot\": \"tw").unwrap();
        let all = FileMementos::open_on(dir.path(), "two".to_owned()).unwrap().load().await;
        assert_eq!(all.len(), 1, "what is damaged is passed over");
        assert_eq!(
            (all[0].1.machine.phase(), all[0].1.machine.incarnation()),
            (Phase::Pending, Incarnation(1))
        );
    }

    #[test]
    fn a_memento_of_an_earlier_release_may_lack_anything() {
        let text = r#"{"boot": "x", "kept": {"generation": 3, "machine": {"incarnation": 4}}}"#;
        let stored: Stored = serde_json::from_str(text).unwrap();
        assert_eq!(stored.kept.machine.incarnation(), Incarnation(4));
        let found = Found {
            incarnation: Incarnation(4),
            started_at: Time::ZERO,
            stopping: false,
            exit: None,
            gone: false,
        };
        let mut machine = Workload::new(WorkloadPolicy::default(), ReplicaPolicy::default(), 1);
        let resumed = Some(Resumed { memento: Some(stored.kept.machine), found: Some(found) });
        machine.arrive(0, Arrival { resumed, ..Arrival::default() });
        machine.set_replicas(Time::ZERO, 1, &mut Vec::new());
    }
}
