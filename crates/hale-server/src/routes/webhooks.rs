//! Webhooks (S22).

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use hale_api::{
    Code,
    webhooks::{ReplayRequest, Webhook, WebhookMade, WebhookRequest, WebhookTested},
};
use http::StatusCode;

use crate::{
    access::Access,
    api::Api,
    auth::Caller,
    problems::{Answer, Refusal, json},
    surface::{Route, Surface},
    webhooks::{Book, BookError},
};

pub(super) fn routes(surface: Surface) -> Surface {
    let admin = |route: Route| route.refuses(&[Code::NotFound, Code::Unavailable, Code::NotApplicable]);
    let all = "/api/v1/webhooks";
    let one = "/api/v1/webhooks/{name}";
    surface
        .route(
            admin(Route::get(all, Access::See, "The webhooks, by name.")).answers::<Vec<Webhook>>(200),
            list,
        )
        .route(admin(Route::get(one, Access::See, "One webhook.")).answers::<Webhook>(200), get)
        .route(
            admin(Route::post(all, Access::Admin, "Makes a webhook, or changes the one of its name."))
                .body::<WebhookRequest>()
                .answers::<WebhookMade>(200)
                .answers::<WebhookMade>(201),
            put,
        )
        .route(
            admin(Route::delete(one, Access::Admin, "Takes a webhook away, with what waits for it.")),
            delete,
        )
        .route(
            admin(Route::post(
                "/api/v1/webhooks/{name}/{verb}",
                Access::Admin,
                "Pauses or resumes a webhook, sends it one message (`test`), or what was given up again.",
            ))
            .words("verb", ["pause", "resume", "replay", "test"])
            .body::<ReplayRequest>()
            .answers::<Webhook>(200)
            .answers::<WebhookTested>(200),
            act,
        )
}

impl From<BookError> for Refusal {
    fn from(error: BookError) -> Self {
        let code = match &error {
            BookError::NotFound(_) => Code::NotFound,
            BookError::Bad(_) => Code::BadRequest,
            BookError::Unavailable(_) => Code::Unavailable,
            BookError::Key(_) => Code::NotApplicable,
        };
        Self::new(code, error.to_string())
    }
}

fn book(api: &Api) -> Answer<&Book> {
    let none = || Refusal::new(Code::NotApplicable, "this hale has no webhooks");
    api.parts.webhooks.as_ref().ok_or_else(none)
}

fn caller(request: &Request) -> Answer<String> {
    let caller = request.extensions().get::<Caller>();
    caller.map(|it| it.name.clone()).ok_or_else(|| Refusal::new(Code::Unauthorized, "no token"))
}

async fn list(State(api): State<Api>) -> Answer<Json<Vec<Webhook>>> {
    Ok(Json(book(&api)?.list()))
}

async fn get(State(api): State<Api>, Path(name): Path<String>) -> Answer<Json<Webhook>> {
    Ok(Json(book(&api)?.get(&name)?))
}

async fn put(State(api): State<Api>, request: Request) -> Answer<Response> {
    let by = caller(&request)?;
    let asked: WebhookRequest = json(request).await?;
    let made = book(&api)?.put(&asked, &by).await?;
    let status = if made.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(made)).into_response())
}

async fn delete(State(api): State<Api>, Path(name): Path<String>, request: Request) -> Answer<StatusCode> {
    book(&api)?.delete(&name, &caller(&request)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn act(
    State(api): State<Api>,
    Path((name, verb)): Path<(String, String)>,
    request: Request,
) -> Answer<Response> {
    let by = caller(&request)?;
    let asked: ReplayRequest = json(request).await?;
    let book = book(&api)?;
    if verb != "replay" && !asked.events.is_empty() {
        return Err(Refusal::new(Code::BadRequest, "only a replay is told events"));
    }
    Ok(match verb.as_str() {
        "pause" | "resume" => Json(book.pause(&name, verb == "pause", &by).await?).into_response(),
        "replay" => Json(book.replay(&name, &asked, &by).await?).into_response(),
        "test" => Json(book.test(&name).await?).into_response(),
        _ => {
            let detail = format!("{verb:?} can't be asked for; there are pause, resume, replay, test");
            return Err(Refusal::new(Code::NotFound, detail));
        }
    })
}
