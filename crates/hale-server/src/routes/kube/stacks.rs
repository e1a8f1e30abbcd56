//! Stacks and deployment objects: what is wanted, and how it is (K1, K8, K13).

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use hale_api::{
    Code,
    kube::{
        DeploymentHealth, DeploymentHistory, DeploymentObject, DeploymentObjectRequest, Stack, StackHealth,
        StackPatch, StackRequest, StatusQuery,
    },
};
use hale_model::cluster::{DeploymentObjectRecord, KubeAgentRecord, Role, StackRecord};
use http::{StatusCode, Uri};

use super::{base, kube, large, large_json, not_yours, one, own, write};
use crate::{
    access::Access,
    api::Api,
    asker::Asker,
    auth::Caller,
    cluster::snapshot::KubeRecords,
    kube::{stacks, view},
    list::{self, ListQuery},
    problems::{Answer, query, required_json},
    surface::{Route, Surface},
};

const ALL: &str = "/api/v1/stacks";
const ONE: &str = "/api/v1/stacks/{id}";
const OBJECTS: &str = "/api/v1/stacks/{id}/deployment-objects";
const OBJECT: &str = "/api/v1/deployment-objects/{id}";

pub(super) fn routes(surface: Surface) -> Surface {
    let surface = surface
        .route(
            base(Route::get(ALL, Access::See, "The stacks, by name."))
                .query::<ListQuery>()
                .answers::<Vec<Stack>>(200),
            all,
        )
        .route(
            write(Route::post(ALL, Access::Admin, "Makes a stack, or finds the one that is just so."))
                .body::<StackRequest>()
                .needs_body()
                .answers::<Stack>(200)
                .answers::<Stack>(201),
            create,
        )
        .route(one(Route::get(ONE, Access::See, "A stack, by id or name.")).answers::<Stack>(200), get)
        .route(
            write(Route::patch(ONE, Access::Admin, "Gives a stack other labels."))
                .body::<StackPatch>()
                .needs_body()
                .answers::<Stack>(200),
            change,
        )
        .route(
            write(Route::delete(ONE, Access::Admin, "Takes a stack away, with all that hangs on it.")),
            delete,
        )
        .route(
            one(Route::get("/api/v1/stacks/{id}/health", Access::See, "How a stack is."))
                .query::<StatusQuery>()
                .answers::<StackHealth>(200),
            health,
        );
    objects(surface, one, write)
}

fn objects(surface: Surface, one: impl Fn(Route) -> Route, write: impl Fn(Route) -> Route) -> Surface {
    surface
        .route(
            one(Route::get(
                OBJECTS,
                Access::See,
                "The deployment objects of a stack, without their manifests.",
            ))
            .query::<ListQuery>()
            .answers::<Vec<DeploymentObject>>(200),
            of_stack,
        )
        .route(
            write(Route::post(
                OBJECTS,
                Access::Admin,
                "Gives a stack new manifests; they supersede those before.",
            ))
            .body::<DeploymentObjectRequest>()
            .needs_body()
            .answers::<DeploymentObject>(200)
            .answers::<DeploymentObject>(201)
            .refuses(&[Code::InvalidDocument]),
            push,
        )
        .route(
            one(Route::get(OBJECT, Access::SeeOrAgent, "A deployment object, with its manifests."))
                .answers::<DeploymentObject>(200),
            object,
        )
        .route(
            write(Route::delete(
                OBJECT,
                Access::Admin,
                "Takes a deployment object away; the one before is current.",
            )),
            delete_object,
        )
        .route(
            one(Route::get(
                "/api/v1/deployment-objects/{id}/health",
                Access::SeeOrAgent,
                "How a deployment object is: the worst of what the agents say.",
            ))
            .answers::<DeploymentHealth>(200),
            object_health,
        )
        .route(
            one(Route::get(
                "/api/v1/deployment-objects/{id}/history",
                Access::See,
                "How a deployment object was: the last changes of its status, by agent.",
            ))
            .answers::<DeploymentHistory>(200),
            history,
        )
}

async fn all(State(api): State<Api>, uri: Uri) -> Answer<Response> {
    list::piece(&uri, kube(&api)?.stacks(), |it| &it.name)
}

async fn create(State(api): State<Api>, asker: Asker, request: Request) -> Answer<Response> {
    let asked: StackRequest = required_json(request).await?;
    let (stack, made) = kube(&api)?.create_stack(&asked, &asker).await?;
    Ok((if made { StatusCode::CREATED } else { StatusCode::OK }, Json(stack)).into_response())
}

async fn get(State(api): State<Api>, Path(id): Path<String>) -> Answer<Json<Stack>> {
    let snapshot = kube(&api)?.snapshot();
    Ok(Json(view::stack(&snapshot.kube, stacks::find(&snapshot.kube, &id)?)))
}

async fn change(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<String>,
    request: Request,
) -> Answer<Json<Stack>> {
    let patch: StackPatch = required_json(request).await?;
    Ok(Json(kube(&api)?.change_stack(&id, &patch, &asker).await?))
}

async fn delete(State(api): State<Api>, asker: Asker, Path(id): Path<String>) -> Answer<StatusCode> {
    kube(&api)?.delete_stack(&id, &asker).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn health(State(api): State<Api>, Path(id): Path<String>, uri: Uri) -> Answer<Json<StackHealth>> {
    let asked: StatusQuery = query(&uri)?;
    let snapshot = kube(&api)?.snapshot();
    let stack = stacks::find(&snapshot.kube, &id)?;
    Ok(Json(view::stack_health(&snapshot.kube, stack, asked.status)))
}

async fn of_stack(State(api): State<Api>, Path(id): Path<String>, uri: Uri) -> Answer<Response> {
    // A stack keeps few: all of them are one piece, newest first.
    let _all: ListQuery = query(&uri)?;
    Ok(Json(kube(&api)?.objects_of(&id)?).into_response())
}

async fn push(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<String>,
    request: Request,
) -> Answer<Response> {
    let asked: DeploymentObjectRequest = large_json(request).await?;
    let (object, made) = kube(&api)?.create_object(&id, &asked, &asker).await?;
    let mut response = large(&object)?;
    *response.status_mut() = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok(response)
}

/// An object that the caller may see: of an agent, one that it is given.
fn seen<'a>(
    kube: &'a KubeRecords,
    caller: &Caller,
    id: &str,
) -> Answer<(&'a DeploymentObjectRecord, &'a StackRecord, Option<&'a KubeAgentRecord>)> {
    if caller.role != Role::Agent {
        let (object, stack) = stacks::find_object(kube, id)?;
        return Ok((object, stack, None));
    }
    let agent = own(kube, caller).ok_or_else(not_yours)?;
    let (object, stack) = stacks::find_object(kube, id).map_err(|_| not_yours())?;
    if !agent.is_given(stack) {
        return Err(not_yours());
    }
    Ok((object, stack, Some(agent)))
}

async fn object(State(api): State<Api>, asker: Asker, Path(id): Path<String>) -> Answer<Response> {
    let kube = kube(&api)?;
    seen(&kube.fresh().await.kube, &asker.caller, &id)?;
    large(&kube.object(&id).await?)
}

async fn delete_object(State(api): State<Api>, asker: Asker, Path(id): Path<String>) -> Answer<StatusCode> {
    kube(&api)?.delete_object(&id, &asker).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn object_health(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<Json<DeploymentHealth>> {
    let snapshot = kube(&api)?.snapshot();
    let (object, stack, only) = seen(&snapshot.kube, &asker.caller, &id)?;
    Ok(Json(view::object_health(&snapshot.kube, stack, object, only)))
}

async fn history(State(api): State<Api>, Path(id): Path<String>) -> Answer<Json<DeploymentHistory>> {
    let snapshot = kube(&api)?.snapshot();
    let (object, _) = stacks::find_object(&snapshot.kube, &id)?;
    Ok(Json(view::history(&snapshot.kube, object)))
}
