//! Following the database: the newest snapshot, for everyone.
//!
//! While the database does not answer, what was read last goes on to be true (S4); who must know whether it is current
//! asks [`Feed::trouble`].

use std::{sync::Arc, time::Duration};

use hale_store::{Store, StoreError, cluster::Changes};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::snapshot::{Snapshot, Touched};

/// The most records read at once.
const TOGETHER: usize = 10_000;

/// How often the database is asked although nothing said that there is something new.
const EVERY: Duration = Duration::from_secs(1);

/// The snapshot, as it goes on.
#[derive(Debug)]
pub(crate) struct Feed {
    store: Store,
    current: watch::Sender<Arc<Snapshot>>,
    trouble: watch::Sender<Option<String>>,
}

impl Feed {
    /// Reads all there is; with it comes what is told to others of it.
    pub(crate) async fn open(store: Store) -> Result<(Self, Changes, Touched), StoreError> {
        let all = store.load().await?;
        let (snapshot, touched) = Snapshot::default().after(&all);
        let current = watch::Sender::new(Arc::new(snapshot));
        Ok((Self { store, current, trouble: watch::Sender::new(None) }, all, touched))
    }

    /// The newest.
    #[must_use]
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    /// Follows it.
    #[must_use]
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.subscribe()
    }

    /// Why it may not be current; `None`: it is.
    #[must_use]
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Waits until a revision is in it, for so long at most.
    pub(crate) async fn at_least(&self, revision: u64, at_most: Duration) -> Arc<Snapshot> {
        let mut follow = self.follow();
        let reached = follow.wait_for(|it| it.revision >= revision);
        match timeout(at_most, reached).await {
            Ok(Ok(snapshot)) => Arc::clone(&snapshot),
            _ => self.current(),
        }
    }

    /// Goes on until `end`. `told` is called with each change, after the snapshot that has it is out.
    pub(crate) async fn run(
        &self,
        end: CancellationToken,
        mut told: impl FnMut(&Arc<Snapshot>, &Changes, Touched),
    ) {
        let mut revision = self.store.follow_revision();
        loop {
            revision.mark_unchanged();
            let after = self.current.borrow().revision;
            match self.store.changes(after, TOGETHER).await {
                Ok(changes) => {
                    self.set_trouble(None);
                    let more = changes.records.len() >= TOGETHER;
                    self.take(&changes, &mut told);
                    if more {
                        continue;
                    }
                }
                Err(error) => self.set_trouble(Some(error.to_string())),
            }
            tokio::select! {
                changed = timeout(EVERY, revision.changed()) => if matches!(changed, Ok(Err(_))) {
                    // The store is closed: nothing comes any more.
                    sleep(EVERY).await;
                },
                () = end.cancelled() => return,
            }
        }
    }

    fn take(&self, changes: &Changes, told: &mut impl FnMut(&Arc<Snapshot>, &Changes, Touched)) {
        let old = self.current();
        if !changes.reset && changes.revision <= old.revision {
            return;
        }
        let (next, touched) = old.after(changes);
        let next = Arc::new(next);
        self.current.send_replace(Arc::clone(&next));
        told(&next, changes, touched);
    }

    fn set_trouble(&self, trouble: Option<String>) {
        self.trouble.send_if_modified(|known| {
            match (&known, &trouble) {
                (None, Some(detail)) => {
                    tracing::error!(
                        detail,
                        "the database does not answer: what was read last goes on to hold"
                    );
                }
                (Some(_), None) => tracing::info!("the database answers again"),
                _ => {}
            }
            let changed = *known != trouble;
            *known = trouble;
            changed
        });
    }
}
