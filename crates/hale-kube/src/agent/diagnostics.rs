//! Answering requests for diagnostics (K9): taken, collected, posted; a few at a time.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hale_api::{ClientError, kube::DiagnosticsResult};
use hale_health::{Backoff, Chance};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{Shared, Told, link::Asked, outbox::AGAIN};
use crate::diagnose;

/// Requests that wait to be taken. More are left at the server.
pub(super) const WAITING: usize = 64;

/// Requests that are worked on at one time.
const AT_ONCE: usize = 3;

/// How long posting a result is tried: the claim runs out then (K9).
const POSTED_WITHIN: Duration = Duration::from_secs(100);

/// Why nothing is collected.
const DISABLED: &str = "diagnostics_disabled";

/// Answers until the end.
pub(super) async fn run(shared: Arc<Shared>, mut asked: mpsc::Receiver<Asked>) {
    let end = shared.end.clone();
    let mut working: JoinSet<String> = JoinSet::new();
    let mut at_work = BTreeSet::new();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            Some(done) = working.join_next() => {
                match done {
                    Ok(id) => drop(at_work.remove(&id)),
                    // Its id is not known any more: the server gives it again, and it is another piece of work then.
                    Err(error) => {
                        tracing::error!(%error, "collecting diagnostics ended badly");
                        at_work.clear();
                    }
                }
            }
            one = asked.recv(), if working.len() < AT_ONCE => {
                let Some((id, object)) = one else { return };
                // The stream and an asking may both tell of it.
                if at_work.insert(id.clone()) {
                    working.spawn(answer(Arc::clone(&shared), id, object));
                }
            }
        }
    }
}

async fn answer(shared: Arc<Shared>, id: String, object: String) -> String {
    let session = shared.servers.registered().await;
    match session.client.claim_diagnostics(&id).await {
        Ok(_) => {}
        Err(ClientError::Refused(problem)) => {
            tracing::debug!(request = id, %problem, "somebody else has taken it");
            return id;
        }
        Err(error) => {
            tracing::warn!(request = id, %error, "a request for diagnostics can't be taken");
            return id;
        }
    }
    let began = Instant::now();
    let result = result(&shared, &object).await;
    let completed = matches!(result, DiagnosticsResult::Completed { .. });
    let took = began.elapsed();
    let posted = post(&shared, &id, &result, began).await;
    tracing::info!(
        request = id,
        deployment_object = object,
        completed,
        posted,
        ?took,
        "diagnostics answered"
    );
    shared.metrics.diagnosed(completed && posted);
    id
}

async fn result(shared: &Shared, object: &str) -> DiagnosticsResult {
    if !shared.options.diagnostics {
        return DiagnosticsResult::Failed { error: DISABLED.to_owned() };
    }
    let (answer, family) = oneshot::channel();
    let told = shared.told.send(Told::Family(object.to_owned(), answer)).await;
    let family = match (told, family.await) {
        (Ok(()), Ok(Some(family))) => family,
        _ => {
            let error = "the agent is not given this deployment object".to_owned();
            return DiagnosticsResult::Failed { error };
        }
    };
    let bundle = diagnose::collect(&shared.cluster, &family, &shared.options.collect, Timestamp::now()).await;
    DiagnosticsResult::Completed { result: Box::new(bundle) }
}

/// Posts until it is taken, is refused, or nobody waits for it any more.
async fn post(shared: &Shared, id: &str, result: &DiagnosticsResult, began: Instant) -> bool {
    let mut backoff = Backoff::new();
    let mut chance = Chance::new(Shared::seed());
    while began.elapsed() < POSTED_WITHIN {
        let session = shared.servers.registered().await;
        match session.client.post_diagnostics_result(id, result).await {
            Ok(_) => return true,
            Err(
                error @ (ClientError::Unreachable(_) | ClientError::Timeout(_) | ClientError::Protocol(_)),
            ) => {
                tracing::warn!(request = id, %error, "the result can't be posted; trying again");
                sleep(backoff.next(&AGAIN, chance.draw())).await;
            }
            Err(error) => {
                tracing::warn!(request = id, %error, "the server does not take the result");
                return false;
            }
        }
    }
    false
}
