//! Diagnostics: asked for, taken, answered, read (K9, K13).

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use hale_api::kube::{
    Diagnostics, DiagnosticsAccepted, DiagnosticsQuery, DiagnosticsRequest, DiagnosticsResult,
    PendingDiagnostics,
};
use hale_model::cluster::{DiagnosticsRecord, Role};
use http::{StatusCode, Uri};

use super::{base, find_agent, kube, large, large_json, not_yours, one, own, write};
use crate::{
    access::Access,
    api::Api,
    asker::Asker,
    kube::Kube,
    problems::{Answer, json, query},
    surface::{Route, Surface},
};

pub(super) fn routes(surface: Surface) -> Surface {
    answering(asking(surface))
}

/// What people ask.
fn asking(surface: Surface) -> Surface {
    surface
        .route(
            write(Route::post(
                "/api/v1/deployment-objects/{id}/diagnostics",
                Access::Act,
                "Asks for diagnostics of a deployment object.",
            ))
            .body::<DiagnosticsRequest>()
            .answers::<DiagnosticsAccepted>(202),
            ask,
        )
        .route(
            write(Route::post(
                "/api/v1/replicas/{name}/diagnostics",
                Access::Act,
                "Asks for diagnostics of a replica, or of a target, on a node.",
            ))
            .answers::<DiagnosticsAccepted>(202),
            ask_replica,
        )
        .route(
            base(Route::get(
                "/api/v1/diagnostics",
                Access::See,
                "Requests for diagnostics, newest first, without their results.",
            ))
            .query::<DiagnosticsQuery>()
            .answers::<Vec<Diagnostics>>(200),
            all,
        )
        .route(
            one(Route::get(
                "/api/v1/diagnostics/{id}",
                Access::SeeOrAgent,
                "A request for diagnostics, with its result once there is one.",
            ))
            .answers::<Diagnostics>(200),
            get,
        )
}

/// What agents take and answer.
fn answering(surface: Surface) -> Surface {
    surface
        .route(
            one(Route::get(
                "/api/v1/agents/{id}/diagnostics/pending",
                Access::SeeOrAgent,
                "Requests that an agent can take now, oldest first.",
            ))
            .answers::<PendingDiagnostics>(200),
            pending,
        )
        .route(
            write(Route::post(
                "/api/v1/diagnostics/{id}/claim",
                Access::Agent,
                "Takes a request: there are two minutes to post its result.",
            ))
            .answers::<Diagnostics>(200),
            claim,
        )
        .route(
            write(Route::post(
                "/api/v1/diagnostics/{id}/result",
                Access::Agent,
                "Posts the result of a request.",
            ))
            .body::<DiagnosticsResult>()
            .needs_body()
            .answers::<Diagnostics>(200),
            post,
        )
}

async fn ask(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<String>,
    request: Request,
) -> Answer<Response> {
    let asked: DiagnosticsRequest = json(request).await?;
    let accepted = kube(&api)?.ask(&id, &asked, &asker).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
}

async fn ask_replica(State(api): State<Api>, asker: Asker, Path(name): Path<String>) -> Answer<Response> {
    let control = std::sync::Arc::clone(&api.parts.control);
    let accepted = kube(&api)?.ask_replica(control, &name, &asker).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
}

async fn all(State(api): State<Api>, uri: Uri) -> Answer<Json<Vec<Diagnostics>>> {
    let asked: DiagnosticsQuery = query(&uri)?;
    Ok(Json(kube(&api)?.all_diagnostics(&asked).await?))
}

/// A request that the caller may see: of an agent, one that was asked of it.
async fn seen(kube: &Kube, asker: &Asker, id: &str) -> Answer<DiagnosticsRecord> {
    let record = kube.request(id).await;
    if asker.caller.role != Role::Agent {
        return record;
    }
    let snapshot = kube.snapshot();
    let own = own(&snapshot.kube, &asker.caller).ok_or_else(not_yours)?;
    // Of one that has expired its own agent may be told so; whether another's exists, nobody is.
    let kept = snapshot.kube.diagnostics.get(id);
    if kept.is_none_or(|it| it.agent_id != own.id) {
        return Err(not_yours());
    }
    record
}

async fn get(State(api): State<Api>, asker: Asker, Path(id): Path<String>) -> Answer<Response> {
    let kube = kube(&api)?;
    seen(kube, &asker, &id).await?;
    large(&kube.diagnostics(&id).await?)
}

async fn pending(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<Json<PendingDiagnostics>> {
    let kube = kube(&api)?;
    let agent = find_agent(&kube.snapshot().kube, &asker.caller, &id)?.id.clone();
    Ok(Json(kube.pending(&agent).await?))
}

async fn claim(State(api): State<Api>, asker: Asker, Path(id): Path<String>) -> Answer<Json<Diagnostics>> {
    let kube = kube(&api)?;
    seen(kube, &asker, &id).await?;
    Ok(Json(kube.claim(&id).await?))
}

async fn post(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<String>,
    request: Request,
) -> Answer<Json<Diagnostics>> {
    let kube = kube(&api)?;
    // Whose it is first: a stranger's result is not even read.
    seen(kube, &asker, &id).await?;
    let result: DiagnosticsResult = large_json(request).await?;
    Ok(Json(kube.post(&id, &result).await?))
}
