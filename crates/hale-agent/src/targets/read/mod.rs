//! Reading lists of targets, each by a task of its own (N12).
//!
//! A list comes from somebody else: it may be slow, endless, huge or no list at all. One look takes at most
//! [`LONGEST`] and [`list::MAX_BYTES`], and whatever goes wrong is told as that; the last list that could be read stays.

mod file;
mod srv;
mod url;

use std::{sync::Arc, time::Duration};

use hale_model::{
    list,
    spec::{ListEntry, ListSource, TargetList},
};
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};

use super::kept::Kept;

/// The longest one look at a list may take.
const LONGEST: Duration = Duration::from_secs(10);

/// What a look at a list brought.
pub(super) struct Read {
    /// Of this target.
    pub(super) name: String,
    /// Tells one reading of a name from an earlier one.
    pub(super) reading: u64,
    /// Whether it is what an earlier run had read.
    pub(super) from_before: bool,
    /// The entries, or why there are none to be had.
    pub(super) found: Result<Vec<ListEntry>, String>,
}

/// A list that is read again and again, until this is dropped.
pub(super) struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads a list until the reader is dropped; what has not changed is told once, and
/// first what an earlier run had read (`before`). `None`: whoever is asked does not read
/// it (the server tells who serves a service).
pub(super) fn start(
    name: &str,
    reading: u64,
    from: &TargetList,
    before: Option<(Kept, String)>,
    to: mpsc::Sender<Read>,
) -> Option<Reader> {
    if matches!(from.source, ListSource::Service(_)) {
        return None;
    }
    let (name, from) = (name.to_owned(), from.clone());
    Some(Reader(tokio::spawn(async move {
        if let Some((kept, declaration)) = before {
            let of = name.clone();
            let read = tokio::task::spawn_blocking(move || kept.read(&of, &declaration)).await;
            if let Ok(Some(entries)) = read {
                let before = Read { name: name.clone(), reading, from_before: true, found: Ok(entries) };
                if to.send(before).await.is_err() {
                    return;
                }
            }
        }
        let mut last = None;
        loop {
            let looked = tokio::time::timeout(LONGEST, look(&from.source)).await;
            let looked =
                looked.unwrap_or_else(|_| Err(format!("no whole list within {} s", LONGEST.as_secs())));
            let seen = looked.as_ref().map(Looked::digest).map_err(Clone::clone);
            if last.as_ref() != Some(&seen) {
                let found = match looked {
                    Ok(looked) => looked.entries().await,
                    Err(why) => Err(why),
                };
                last = Some(seen);
                if to.send(Read { name: name.clone(), reading, from_before: false, found }).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(from.refresh).await;
        }
    })))
}

/// What came.
enum Looked {
    /// A list in the form of Prometheus.
    Text(Vec<u8>),
    /// From elsewhere.
    Entries(Vec<ListEntry>),
}

impl Looked {
    fn digest(&self) -> [u8; 32] {
        match self {
            Self::Text(text) => Sha256::digest(text).into(),
            Self::Entries(entries) => {
                let mut hash = Sha256::new();
                for entry in entries {
                    hash.update((entry.address.len() as u64).to_be_bytes());
                    hash.update(&entry.address);
                }
                hash.finalize().into()
            }
        }
    }

    async fn entries(self) -> Result<Vec<ListEntry>, String> {
        match self {
            Self::Entries(entries) => Ok(entries),
            // A long one takes its time: not on the thread of others.
            Self::Text(text) => tokio::task::spawn_blocking(move || list::parse(&text))
                .await
                .unwrap_or_else(|error| Err(format!("reading it failed: {error}"))),
        }
    }
}

async fn look(source: &ListSource) -> Result<Looked, String> {
    match source {
        ListSource::Url { url, ca_file } => url::read(url, ca_file.as_deref()).await.map(Looked::Text),
        ListSource::File(path) => {
            let path = Arc::new(path.clone());
            let read = tokio::task::spawn_blocking(move || file::read(&path)).await;
            read.unwrap_or_else(|error| Err(format!("reading it failed: {error}"))).map(Looked::Text)
        }
        ListSource::Srv { name, server } => {
            srv::read(name, server.clone(), LONGEST).await.map(Looked::Entries)
        }
        ListSource::Service(name) => Err(format!("the server tells who serves {name}")),
    }
}
