//! All responders of a process as one: started, asked and ended together.

use std::{path::PathBuf, sync::Arc};

use hale_api::{
    Client,
    runs::{AlertList, Run, RunDetail, RunPage, RunQuery, RunState},
};
use hale_model::spec::Responder;
use hale_responder::{
    book::BookError,
    desk::DecideError,
    driver::{self, DecisionError, Handle, Options, Settings, Tell},
    metrics::Metrics,
};
use hale_server::{Runs, RunsError, control::BoxFuture};
use tokio::sync::Mutex;

use crate::failure::Failure;

/// What all of them share.
pub(crate) struct Shared<'a> {
    /// The data directory: each has one of its own in it.
    pub(crate) dir: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) tell: Arc<dyn Tell>,
    pub(crate) own_hale: Option<Client>,
    pub(crate) no_root: bool,
    pub(crate) allow_users: &'a [String],
}

/// The responders.
pub(crate) struct Responders {
    all: Vec<Handle>,
    /// Whether they have been ended.
    ended: Mutex<bool>,
}

impl Responders {
    /// Starts all, or none.
    ///
    /// # Errors
    /// One can't be started; those before it have been ended then.
    pub(crate) async fn start(responders: Vec<Arc<Responder>>, shared: Shared<'_>) -> Result<Self, Failure> {
        let mut started = Self { all: Vec::new(), ended: Mutex::new(false) };
        for responder in responders {
            let name = responder.name.clone();
            let begun = driver::start(Options {
                dir: shared.dir.join("responders").join(&name),
                responder,
                settings: shared.settings,
                no_root: shared.no_root,
                allow_users: (!shared.allow_users.is_empty())
                    .then(|| shared.allow_users.iter().cloned().collect()),
                metrics: shared.metrics.clone(),
                tell: Arc::clone(&shared.tell),
                own_hale: shared.own_hale.clone(),
            })
            .await;
            match begun {
                Ok(handle) => started.all.push(handle),
                Err(error) => {
                    started.give_up().await;
                    return Err(Failure::failed(format!("can't start the responder {name}: {error}")));
                }
            }
        }
        Ok(started)
    }

    /// Whether none is ending, and none has failed.
    pub(crate) fn alive(&self) -> Result<(), String> {
        for handle in &self.all {
            handle.standing().borrow().alive()?;
            if handle.has_failed() {
                return Err(format!("the responder {} has stopped working; see its log", handle.name()));
            }
        }
        Ok(())
    }

    /// Whether all are ready; else why not, a reason a line.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let mut reasons: Vec<String> = Vec::new();
        for handle in &self.all {
            if let Err(why) = handle.standing().borrow().ready() {
                // One responder needs no name; of several each reason says whose it is.
                let whose = if self.all.len() > 1 { format!("{}: ", handle.name()) } else { String::new() };
                reasons.extend(why.lines().map(|line| format!("{whose}{line}")));
            }
            if handle.has_failed() {
                reasons.push(format!("the responder {} has stopped working; see its log", handle.name()));
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("\n")) }
    }

    /// Ends programs at once.
    pub(crate) fn hurry(&self) {
        self.all.iter().for_each(Handle::hurry);
    }

    /// Ends all at once: something else could not be started.
    pub(crate) async fn give_up(&self) {
        self.hurry();
        self.shut_down("a failed start").await;
    }

    /// R13: returns when all have ended.
    pub(crate) async fn shut_down(&self, signal: &str) {
        let mut ended = self.ended.lock().await;
        if std::mem::replace(&mut *ended, true) {
            return;
        }
        self.all.iter().for_each(Handle::shut_down);
        for handle in &self.all {
            let told = handle.ended().await;
            tracing::info!(
                responder = handle.name(),
                signal,
                in_flight = told.in_flight,
                completed = told.completed,
                interrupted = told.interrupted,
                "the responder has ended"
            );
        }
    }
}

fn unavailable(error: BookError) -> RunsError {
    RunsError::Unavailable(error.to_string())
}

impl Runs for Responders {
    fn list(&self, query: RunQuery) -> BoxFuture<'_, Result<RunPage, RunsError>> {
        Box::pin(async move {
            let mut page = RunPage::default();
            let limit = query.limit.unwrap_or(100) as usize;
            let mut more = false;
            for handle in &self.all {
                let one = handle.runs(&query).await.map_err(unavailable)?;
                more |= one.next.is_some();
                page.runs.extend(one.runs);
            }
            page.runs.sort_by(|a, b| b.id.cmp(&a.id));
            more |= page.runs.len() > limit;
            page.runs.truncate(limit);
            page.next = more.then(|| page.runs.last().map(|it| it.id.clone())).flatten();
            Ok(page)
        })
    }

    fn run<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<RunDetail>, RunsError>> {
        Box::pin(async move {
            for handle in &self.all {
                if let Some(found) = handle.run(id).await.map_err(unavailable)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })
    }

    fn alerts(&self) -> BoxFuture<'_, Result<AlertList, RunsError>> {
        Box::pin(async move {
            let mut list = AlertList::default();
            for handle in &self.all {
                list.alerts.extend(handle.alerts().await.map_err(unavailable)?.alerts);
            }
            list.alerts
                .sort_by(|a, b| (b.alert.received_at, &b.alert.id).cmp(&(a.alert.received_at, &a.alert.id)));
            list.alerts.truncate(1000);
            Ok(list)
        })
    }

    fn decide<'a>(
        &'a self,
        id: &'a str,
        approve: bool,
        by: &'a str,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<Run, RunsError>> {
        Box::pin(async move {
            for handle in &self.all {
                if handle.run(id).await.map_err(unavailable)?.is_none() {
                    continue;
                }
                return match handle.decide(id, approve, by, reason).await {
                    Ok(run) => Ok(run),
                    Err(DecisionError::Desk(error)) if error != DecideError::Full => {
                        said_before(handle, id, approve, error.to_string()).await
                    }
                    Err(error) => Err(RunsError::Unavailable(error.to_string())),
                };
            }
            Err(RunsError::NotFound)
        })
    }
}

/// Who says again what was said already gets the run as it is.
async fn said_before(handle: &Handle, id: &str, approve: bool, why: String) -> Result<Run, RunsError> {
    let Some(RunDetail { run, .. }) = handle.run(id).await.map_err(unavailable)? else {
        return Err(RunsError::NotFound);
    };
    let said = run.decided_by.is_some() && approve == (run.state != RunState::Rejected);
    if said { Ok(run) } else { Err(RunsError::NotApplicable(why)) }
}
