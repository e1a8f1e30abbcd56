//! What a person wants done (C12, H24). Every one of these is on the audit record (S26) before it is given on.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use hale_api::{
    Code,
    operation::{ActionRequest, Operation, OperationState, Verb},
};
use hale_store::cluster::{Change, Write};
use http::{StatusCode, Uri};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    api::Api,
    asker::Asker,
    control::{Order, Subject},
    operations,
    problems::{Answer, Refusal, json, query},
};

/// The longest pause: a year.
const LONGEST_PAUSE: f64 = 366.0 * 24.0 * 3600.0;

/// The longest name or reason of a person, in bytes.
pub(super) const LONGEST_TEXT: usize = 1024;

/// How long a question after an operation is held when nothing changes.
const HOLD: Duration = Duration::from_secs(20);

pub(crate) async fn on_workload(
    State(api): State<Api>,
    Path((name, verb)): Path<(String, String)>,
    request: Request,
) -> Answer<Response> {
    act(&api, Subject::Workload(name), &verb, request).await
}

pub(crate) async fn on_replica(
    State(api): State<Api>,
    Path((name, verb)): Path<(String, String)>,
    request: Request,
) -> Answer<Response> {
    act(&api, Subject::Replica(name), &verb, request).await
}

pub(crate) async fn on_target(
    State(api): State<Api>,
    Path((name, verb)): Path<(String, String)>,
    request: Request,
) -> Answer<Response> {
    act(&api, Subject::Target(name), &verb, request).await
}

async fn act(api: &Api, on: Subject, verb: &str, request: Request) -> Answer<Response> {
    let verb = Verb::ALL.into_iter().find(|it| it.as_str() == verb).ok_or_else(|| {
        Refusal::new(
            Code::NotFound,
            format!("{verb:?} can't be asked for; there are restart, stop, start, pause, resume"),
        )
    })?;
    let asker = Asker::of(request.extensions())?;
    let asked: ActionRequest = json(request).await?;
    let order = order(on, verb, &asker, &asked)?;
    let before = operations::before(&*api.parts.control, &order).await?;
    if !api.parts.control.records(&order) {
        record(api, &asker, &order).await?;
    }
    api.parts.control.order(order.clone()).await?;
    let operation = api.operations.begin(&api.parts, &order, before);
    let status =
        if operation.state == OperationState::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(operation)).into_response())
}

fn order(on: Subject, verb: Verb, asker: &Asker, asked: &ActionRequest) -> Answer<Order> {
    let bad = |detail: String| Refusal::new(Code::BadRequest, detail);
    for text in [&asked.by, &asked.reason].into_iter().flatten() {
        if text.len() > LONGEST_TEXT {
            return Err(bad(format!("by and reason are at most {LONGEST_TEXT} bytes")));
        }
    }
    let pausing = matches!(verb, Verb::Pause | Verb::Resume);
    if let (Subject::Target(name), false) = (&on, pausing) {
        let detail =
            format!("{name} is a target: hale probes it but does not run it, and can't {} it", verb.as_str());
        return Err(Refusal::new(Code::NotApplicable, detail));
    }
    if asked.probe.is_some() && (!pausing || matches!(on, Subject::Target(_))) {
        return Err(bad("probe goes with pause and resume of a workload or replica only".to_owned()));
    }
    if asked.for_seconds.is_some() && verb != Verb::Pause {
        return Err(bad("for_seconds goes with pause only".to_owned()));
    }
    let lasting = match asked.for_seconds {
        Some(seconds) if seconds > 0.0 && seconds <= LONGEST_PAUSE => Some(Duration::from_secs_f64(seconds)),
        Some(_) => return Err(bad("for_seconds is above 0 and at most a year".to_owned())),
        None => None,
    };
    let by = asker.name_for(asked.by.as_deref());
    let from = asker.from().to_owned();
    Ok(Order {
        on,
        verb,
        by,
        from,
        reason: asked.reason.clone().unwrap_or_default(),
        lasting,
        probe: asked.probe,
    })
}

/// Puts an order on record, before it is carried out: what can't be recorded is not done.
async fn record(api: &Api, asker: &Asker, order: &Order) -> Answer<()> {
    let collection = match &order.on {
        Subject::Workload(_) => "workloads",
        Subject::Replica(_) => "replicas",
        Subject::Target(_) => "targets",
    };
    let mut detail = Vec::new();
    if !order.reason.is_empty() {
        detail.push(order.reason.clone());
    }
    detail.extend(order.lasting.map(|it| format!("for {}s", it.as_secs_f64())));
    detail.extend(order.probe.map(|it| format!("the {it} probe")));
    let subject = format!("{collection}/{}", order.on.name());
    let record = asker.audit(&order.by, order.verb.as_str(), subject, detail);
    let changes = vec![Change::Audit(Box::new(record))];
    api.parts.store.write(Write { changes, guards: Vec::new() }).await?;
    Ok(())
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OperationQuery {
    /// Answer when the revision is above this.
    after: Option<u64>,
}

pub(crate) async fn operation(
    State(api): State<Api>,
    Path(id): Path<String>,
    uri: Uri,
) -> Answer<Json<Operation>> {
    let asked: OperationQuery = query(&uri)?;
    let watch = id.parse().ok().and_then(|id| api.operations.watch(id));
    let mut watch = watch.ok_or_else(|| {
        Refusal::new(
            Code::NotFound,
            format!("there is no operation {id}; the last hundred are known, since hale's start"),
        )
    })?;
    if let Some(after) = asked.after {
        let changed = watch.wait_for(|it| it.revision > after || it.state != OperationState::Running);
        // At the end of the hold it is told as it is.
        tokio::select! {
            _ = tokio::time::timeout(HOLD, changed) => {}
            () = api.parts.end.cancelled() => {}
        }
    }
    let operation = watch.borrow().clone();
    Ok(Json(operation))
}
