//! What `hale up` declared before and declares otherwise now: it goes before its only node is there (N19).

use std::time::Duration;

use hale_model::{
    cluster::{Owner, PlacementState, WorkloadRecord},
    document::Document,
};
use hale_store::cluster::{Change, Key, Kind, Write};
use tokio::time::{sleep, timeout};

use super::{
    Cluster,
    desired::{DesiredError, guard, remove},
    following,
    snapshot::Snapshot,
};

/// How long to wait until its placements are withdrawn. Without that it would be updated, one replica after the other.
const WITHDRAWN: Duration = Duration::from_secs(2);

impl Cluster {
    /// Takes away what `hale up` had declared and these documents lack, or have otherwise. Nothing of it runs any more:
    /// declared anew by [`Self::apply`], it begins as it is now, where an update would begin with what it was. What a
    /// person stopped or paused stays, with that.
    ///
    /// # Errors
    /// The database takes nothing.
    pub async fn forget_stale(&self, documents: &[Document]) -> Result<(), DesiredError> {
        let names = self
            .commit(|snapshot| {
                let (mut write, mut names) = (Write::default(), Vec::new());
                for it in snapshot.workloads.values().filter(|it| it.owner == Owner::Up) {
                    match documents.iter().find(|new| new.kind == "Workload" && new.name == it.name) {
                        None => remove(snapshot, Kind::Workload, &it.name, &mut write)?,
                        Some(new) if is_stale(snapshot, it, new)? => {
                            write.guards.push(guard(snapshot, Kind::Workload, &it.name));
                            write.changes.push(Change::Delete(Key::new(Kind::Workload, &it.name)));
                        }
                        Some(_) => continue,
                    }
                    names.push(it.name.clone());
                }
                Ok((write, names))
            })
            .await?;
        let withdrawn = async {
            while names.iter().any(|it| has_wanted(&self.shared.feed.current(), it)) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(WITHDRAWN, withdrawn).await.is_err() {
            tracing::debug!(?names, "what was declared otherwise is not withdrawn yet");
        }
        Ok(())
    }
}

fn is_stale(snapshot: &Snapshot, it: &WorkloadRecord, new: &Document) -> Result<bool, DesiredError> {
    let held = it.stopped.is_some() || !it.stopped_replicas.is_empty() || !it.pauses.is_empty();
    let (new, _) = following::with_number(snapshot, new)?;
    Ok(!held && new.digest != it.document.digest)
}

fn has_wanted(snapshot: &Snapshot, workload: &str) -> bool {
    snapshot.placements_of(workload).any(|it| it.record.state == PlacementState::Wanted)
}
