//! Containers that somebody else made, as many as there are: counted, and told to the server (N5).

use std::{collections::BTreeMap, time::Duration};

use hale_server::cluster::{
    Cluster,
    desired::Person,
    following::{Label, MOST_ADOPTED},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::runs::Runs;

/// How often they are counted.
const EVERY: Duration = Duration::from_secs(2);

/// Counts until `end`. Costs nothing while no workload asks for it.
pub(super) fn start(cluster: Cluster, runs: Runs, end: CancellationToken) {
    tokio::spawn(async move {
        let mut news = cluster.follow();
        let mut said = BTreeMap::new();
        let work = async {
            loop {
                let all = cluster.following();
                for (name, (label, known)) in &all {
                    count(&cluster, &runs, (name, label, *known), &mut said).await;
                }
                news.mark_unchanged();
                if all.is_empty() {
                    if news.changed().await.is_err() {
                        return;
                    }
                } else {
                    // A change of what is declared is no reason to wait for the next turn.
                    let _ = timeout(EVERY, news.changed()).await;
                    sleep(EVERY / 10).await;
                }
            }
        };
        end.run_until_cancelled(work).await;
    });
}

/// An engine that can't be asked changes nothing: what was known holds.
async fn count(
    cluster: &Cluster,
    runs: &Runs,
    (name, label, known): (&str, &Label, u32),
    said: &mut BTreeMap<String, usize>,
) {
    let Ok(found) = runs.count_labelled((&label.0, label.1.as_deref())).await else { return };
    let most = usize::try_from(MOST_ADOPTED).unwrap_or(usize::MAX);
    if found > most && said.insert(name.to_owned(), found) != Some(found) {
        tracing::warn!(
            workload = name,
            found,
            most,
            "more containers have its label than one workload adopts; the last by name are left out"
        );
    }
    let found = u32::try_from(found).unwrap_or(u32::MAX).min(MOST_ADOPTED);
    if found == known {
        return;
    }
    let by = Person { reason: format!("{found} containers have its label"), ..Person::new("hale up") };
    if let Err(error) = cluster.found(name, found, &by).await {
        tracing::warn!(workload = name, %error, "the number of containers was not taken over; it is tried again");
    }
}
