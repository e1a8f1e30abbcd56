//! What is kept of each run on disk: enough to know of it while the engine can't be asked, and how it ended when the
//! driver did not hear of it (N6).
//!
//! One small file per run, written before its container is made, replaced whole, removed once the driver has no more use
//! for it. The engine's word counts more wherever it can be had.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
};

use hale_health::{Exit, Generation, Incarnation};
use hale_supervisor::runtime::InstanceId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) replica: String,
    pub(crate) generation: u64,
    pub(crate) incarnation: u64,
    /// The container, once it is known.
    #[serde(default)]
    pub(crate) container: Option<String>,
    /// Whether somebody else made it.
    #[serde(default)]
    pub(crate) adopted: bool,
    /// Whether the image's own check counts.
    #[serde(default)]
    pub(crate) healthcheck: bool,
    /// The signal that ends it.
    #[serde(default = "sigterm")]
    pub(crate) stop_signal: i32,
    /// Where its engine listens.
    #[serde(default)]
    pub(crate) socket: Option<PathBuf>,
    #[serde(default)]
    pub(crate) pid: Option<u32>,
    #[serde(default)]
    pub(crate) address: Option<IpAddr>,
    #[serde(default)]
    pub(crate) ports: BTreeMap<String, u16>,
    /// When it was started, as the engine tells: with the container it names the run of one that is started again.
    #[serde(default)]
    pub(crate) started: Option<Timestamp>,
    /// How and when it ended.
    #[serde(default)]
    pub(crate) ended: Option<Ended>,
    /// Whether a stop was asked for.
    #[serde(default)]
    pub(crate) stopping: bool,
}

const fn sigterm() -> i32 {
    15
}

/// How and when a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    #[serde(default)]
    pub(crate) code: Option<i32>,
    #[serde(default)]
    pub(crate) signal: Option<i32>,
    #[serde(default)]
    pub(crate) oom: bool,
    pub(crate) at: Timestamp,
}

impl Ended {
    pub(crate) const fn new(exit: Exit, at: Timestamp) -> Self {
        Self { code: exit.code, signal: exit.signal, oom: exit.oom, at }
    }

    pub(crate) const fn exit(&self) -> Exit {
        Exit { code: self.code, signal: self.signal, oom: self.oom }
    }
}

impl Record {
    pub(crate) fn new(id: &InstanceId) -> Self {
        Self {
            replica: id.replica.clone(),
            generation: id.generation.0,
            incarnation: id.incarnation.0,
            container: None,
            adopted: false,
            healthcheck: false,
            stop_signal: sigterm(),
            socket: None,
            pid: None,
            address: None,
            ports: BTreeMap::new(),
            started: None,
            ended: None,
            stopping: false,
        }
    }

    pub(crate) fn id(&self) -> InstanceId {
        InstanceId {
            replica: self.replica.clone(),
            generation: Generation(self.generation),
            incarnation: Incarnation(self.incarnation),
        }
    }
}

/// The directory of all.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("containers") }
    }

    /// Whether containers were ever asked for here.
    pub(crate) fn exist(&self) -> bool {
        self.dir.is_dir()
    }

    /// Whose containers are ours: a number of this directory's own, made once.
    pub(crate) fn owner(&self) -> io::Result<String> {
        let path = self.dir.join("owner");
        if let Ok(owner) = fs::read_to_string(&path) {
            let owner = owner.trim();
            if owner.len() == 32 && owner.bytes().all(|it| it.is_ascii_hexdigit()) {
                return Ok(owner.to_owned());
            }
        }
        fs::create_dir_all(&self.dir)?;
        let mut bytes = [0; 16];
        io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
        let owner: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.write(&path, owner.as_bytes())?;
        Ok(owner)
    }

    /// Keeps one. A disk that does not take it costs what is said in the log, never a start.
    pub(crate) fn save(&self, record: &Record) {
        let path = self.path(&record.id());
        let saved = serde_json::to_vec(record).map_err(io::Error::from).and_then(|it| self.write(&path, &it));
        if let Err(error) = saved {
            tracing::error!(path = %path.display(), %error, "can't keep the record of a container: a later agent may not know how it ended");
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(bytes)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    pub(crate) fn remove(&self, id: &InstanceId) {
        let _ = fs::remove_file(self.path(id));
    }

    /// One, if it can be read.
    pub(crate) fn load_one(&self, id: &InstanceId) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.path(id)).ok()?).ok()
    }

    /// All that can be read.
    pub(crate) fn load(&self) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let files = entries.flatten().map(|it| it.path());
        let records = files.filter(|path| path.extension().is_some_and(|it| it == "json")).filter_map(|path| {
            let read = fs::read(&path).map_err(io::Error::other);
            match read.and_then(|it| serde_json::from_slice(&it).map_err(io::Error::from)) {
                Ok(record) => Some(record),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the record of a container can't be read");
                    None
                }
            }
        });
        records.collect()
    }

    fn path(&self, id: &InstanceId) -> PathBuf {
        self.dir.join(format!("{}.{}.{}.json", id.replica, id.generation.0, id.incarnation.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_there_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path());
        assert!(!records.exist() && records.load().is_empty());
        let id =
            InstanceId { replica: "web-0".into(), generation: Generation(2), incarnation: Incarnation(5) };
        let mut record = Record::new(&id);
        record.container = Some("abc".into());
        record.ended = Some(Ended::new(Exit::signal(9), Timestamp::UNIX_EPOCH));
        records.save(&record);
        assert_eq!(records.load(), [record.clone()]);
        assert_eq!(records.load()[0].ended.unwrap().exit(), Exit::signal(9));
        fs::write(dir.path().join("containers/torn.json"), "{").unwrap();
        assert_eq!(records.load(), [record]);
        records.remove(&id);
        assert!(records.load().is_empty());
    }

    #[test]
    fn a_directory_has_one_owner_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let owner = Records::new(dir.path()).owner().unwrap();
        assert_eq!(owner.len(), 32);
        assert_eq!(Records::new(dir.path()).owner().unwrap(), owner);
    }
}
