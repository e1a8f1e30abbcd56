//! What the API needs from a responder: its runs (R11, R12).

use std::sync::Arc;

use axum::{Router, extract::FromRef};
use hale_api::runs::{AlertList, Run, RunDetail, RunPage, RunQuery};
use hale_store::Store;

use crate::{
    TokenSet,
    access::Access,
    api::{self, Api},
    control::BoxFuture,
    gate::Gate,
    routes,
    surface::{Route, Surface},
};

/// The runs of a responder, seen from the API.
pub trait Runs: Send + Sync + 'static {
    /// Those that are asked for, the newest first. `limit` has been looked at: 1 to 1,000, or absent for 100.
    ///
    /// # Errors
    /// [`RunsError::Unavailable`]: they can't be read now.
    fn list(&self, query: RunQuery) -> BoxFuture<'_, Result<RunPage, RunsError>>;

    /// One of them, with its alert and the ends of its outputs; `None`: there is none of this id.
    ///
    /// # Errors
    /// [`RunsError::Unavailable`]: it can't be read now.
    fn run<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<RunDetail>, RunsError>>;

    /// The newest alerts, and what became of each.
    ///
    /// # Errors
    /// [`RunsError::Unavailable`]: they can't be read now.
    fn alerts(&self) -> BoxFuture<'_, Result<AlertList, RunsError>>;

    /// A person says that a run that waits for one goes on, or does not (R11); the run as it stands then. Who says again
    /// what was said already gets the run as it is.
    ///
    /// # Errors
    /// [`RunsError::NotFound`]: there is none of this id. [`RunsError::NotApplicable`]: it does not wait for a person, or
    /// the other was said already. [`RunsError::Unavailable`]: it can't be written down now; nothing was decided then.
    fn decide<'a>(
        &'a self,
        id: &'a str,
        approve: bool,
        by: &'a str,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<Run, RunsError>>;
}

/// Why a question about runs is not answered, or a decision not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunsError {
    /// There is no such run.
    #[error("there is no such run; `hale runs` lists what there is")]
    NotFound,
    /// It can't be decided: why.
    #[error("{0}")]
    NotApplicable(String),
    /// The responder can't answer now: why.
    #[error("{0}")]
    Unavailable(String),
}

/// What the routes of runs are answered from.
#[derive(Clone)]
pub(crate) struct Desk {
    /// `None`: no responder runs here.
    pub(crate) runs: Option<Arc<dyn Runs>>,
    /// Where it is put on record who decides what (S26); `None`: in the log and with the run alone.
    pub(crate) record: Option<Store>,
}

impl FromRef<Api> for Desk {
    fn from_ref(api: &Api) -> Self {
        Self { runs: api.parts.runs.clone(), record: Some(api.parts.store.clone()) }
    }
}

/// The routes of runs alone, and `/healthz`: what a responder without a server serves on the socket of its data
/// directory, for `hale runs`.
///
/// ```no_run
/// # async fn serve(dir: &std::path::Path, runs: std::sync::Arc<dyn hale_server::Runs>) -> std::io::Result<()> {
/// use hale_server::{Limits, Listeners, TokenSet};
///
/// let end = tokio_util::sync::CancellationToken::new();
/// let token = hale_server::cli_token(dir)?;
/// let tokens = TokenSet::new().with("cli", &token, hale_model::cluster::Role::Admin);
/// let listeners = Listeners { socket: Some(hale_server::bind_socket(dir)?), ..Listeners::default() };
/// let router = hale_server::runs_router(runs, tokens);
/// hale_server::serve(router, listeners, Limits::default(), end).await;
/// # Ok(())
/// # }
/// ```
pub fn runs_router(runs: Arc<dyn Runs>, tokens: TokenSet) -> Router {
    let surface = routes::runs::routes(Surface::<Desk>::new(&Gate::new(tokens)));
    let about = "Whether this process answers.";
    let surface = surface
        .route(Route::get("/healthz", Access::Open, about).text(200, "text/plain"), routes::health::healthz);
    api::finished(surface.router, false).with_state(Desk { runs: Some(runs), record: None })
}
