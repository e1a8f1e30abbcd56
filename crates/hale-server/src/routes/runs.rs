//! The runs of a responder, and what a person decides of them (R11, R12).

use axum::{
    Json,
    extract::{FromRef, Path, Request, State},
};
use hale_api::{
    Code,
    runs::{AlertList, Run, RunDecision, RunDetail, RunPage, RunQuery},
};
use hale_store::cluster::{Change, Write};
use http::Uri;

use super::actions::LONGEST_TEXT;
use crate::{
    access::Access,
    asker::Asker,
    problems::{Answer, Refusal, json, query},
    runs::{Desk, RunsError},
    surface::{Route, Surface},
};

/// The most runs of a page.
const MOST: u32 = 1000;

/// What can be said of a run that waits for a person.
const VERBS: [&str; 2] = ["approve", "reject"];

pub(crate) fn routes<S>(surface: Surface<S>) -> Surface<S>
where
    S: Clone + Send + Sync + 'static,
    Desk: FromRef<S>,
{
    let see = |path, about| Route::get(path, Access::See, about).refuses(&[Code::Unavailable]);
    surface
        .route(
            see("/api/v1/runs", "The runs of the responder that runs here, the newest first.")
                .query::<RunQuery>()
                .answers::<RunPage>(200),
            list,
        )
        .route(
            see("/api/v1/runs/{id}", "One run, with its alert and the ends of its outputs.")
                .answers::<RunDetail>(200)
                .refuses(&[Code::NotFound]),
            one,
        )
        .route(
            Route::post(
                "/api/v1/runs/{id}/{verb}",
                Access::Act,
                "Says that a run that waits for a person goes on, or does not.",
            )
            .words("verb", VERBS)
            .body::<RunDecision>()
            .answers::<Run>(200)
            .refuses(&[Code::NotFound, Code::NotApplicable, Code::Unavailable]),
            decide,
        )
        .route(
            see("/api/v1/alerts", "The newest alerts of the responder, and what became of each.")
                .answers::<AlertList>(200),
            alerts,
        )
}

impl From<RunsError> for Refusal {
    fn from(error: RunsError) -> Self {
        let code = match &error {
            RunsError::NotFound => Code::NotFound,
            RunsError::NotApplicable(_) => Code::NotApplicable,
            RunsError::Unavailable(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

fn unknown(id: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no run {id:?}; `hale runs` lists what there is"))
}

async fn list(State(desk): State<Desk>, uri: Uri) -> Answer<Json<RunPage>> {
    let asked: RunQuery = query(&uri)?;
    if asked.limit.is_some_and(|it| it == 0 || it > MOST) {
        return Err(Refusal::new(Code::BadRequest, format!("limit is 1 to {MOST}")));
    }
    match &desk.runs {
        Some(runs) => Ok(Json(runs.list(asked).await?)),
        None => Ok(Json(RunPage::default())),
    }
}

async fn one(State(desk): State<Desk>, Path(id): Path<String>) -> Answer<Json<RunDetail>> {
    let Some(runs) = &desk.runs else { return Err(unknown(&id)) };
    runs.run(&id).await?.map(Json).ok_or_else(|| unknown(&id))
}

async fn alerts(State(desk): State<Desk>) -> Answer<Json<AlertList>> {
    match &desk.runs {
        Some(runs) => Ok(Json(runs.alerts().await?)),
        None => Ok(Json(AlertList::default())),
    }
}

async fn decide(
    State(desk): State<Desk>,
    Path((id, verb)): Path<(String, String)>,
    request: Request,
) -> Answer<Json<Run>> {
    if !VERBS.contains(&verb.as_str()) {
        let detail = format!("{verb:?} can't be asked for; there are approve, reject");
        return Err(Refusal::new(Code::NotFound, detail));
    }
    let asker = Asker::of(request.extensions())?;
    let asked: RunDecision = json(request).await?;
    let (by, reason) = (asker.name_for(asked.by.as_deref()), asked.reason.trim());
    if [&asked.by.as_deref().unwrap_or_default(), &reason].iter().any(|it| it.len() > LONGEST_TEXT) {
        return Err(Refusal::new(
            Code::BadRequest,
            format!("by and reason are at most {LONGEST_TEXT} bytes"),
        ));
    }
    let runs = desk.runs.as_ref();
    let runs = runs.ok_or_else(|| Refusal::new(Code::NotApplicable, "no responder runs here"))?;
    if runs.run(&id).await?.is_none() {
        return Err(unknown(&id));
    }
    record(&desk, &asker, &by, &verb, &id, reason).await?;
    let decided = runs.decide(&id, verb == "approve", &by, reason).await;
    decided.map(Json).map_err(|error| match error {
        RunsError::NotFound => unknown(&id),
        other => other.into(),
    })
}

/// Puts a decision on record, before it is given on: what can't be recorded is not done.
async fn record(desk: &Desk, asker: &Asker, by: &str, verb: &str, id: &str, reason: &str) -> Answer<()> {
    let detail = if reason.is_empty() { Vec::new() } else { vec![reason.to_owned()] };
    // It is logged in any case.
    let record = asker.audit(by, verb, format!("runs/{id}"), detail);
    if let Some(store) = &desk.record {
        let changes = vec![Change::Audit(Box::new(record))];
        store.write(Write { changes, guards: Vec::new() }).await?;
    }
    Ok(())
}
