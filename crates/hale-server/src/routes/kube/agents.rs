//! Agents of clusters: registering, what is desired of them, what they report (K1, K13).

use std::{collections::BTreeSet, time::Duration};

use axum::{
    Json,
    extract::{Path, Request, State},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use hale_api::{
    Code,
    kube::{
        Desired, DesiredQuery, HealthReport, HealthReportAnswer, KubeAgent, KubeAgentPatch,
        KubeAgentRegistered, KubeAgentRegistration, ReportedHealths, StatusQuery,
    },
};
use hale_model::cluster::DiagnosticsStatus;
use http::{StatusCode, Uri};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{base, find_agent, kube, large, large_json, not_yours, one, write};
use crate::{
    access::Access,
    api::Api,
    asker::Asker,
    cluster::snapshot::Snapshot,
    kube::{Kube, agents::desired_of, diagnostics::pending_request, reports, view},
    list::{self, ListQuery},
    problems::{Answer, Refusal, query, required_json},
    routes::events::sse,
    surface::{Route, Surface},
};

const ONE: &str = "/api/v1/agents/{id}";
const HEALTH: &str = "/api/v1/agents/{id}/health-status";

/// From sign of life to sign of life on a stream.
const COMMENT: Duration = Duration::from_secs(10);

pub(super) fn routes(surface: Surface) -> Surface {
    speaking(managing(surface))
}

/// What people ask about agents, and their registration.
fn managing(surface: Surface) -> Surface {
    surface
        .route(
            base(Route::get("/api/v1/agents", Access::See, "The agents of clusters, by name."))
                .query::<ListQuery>()
                .answers::<Vec<KubeAgent>>(200),
            all,
        )
        .route(
            base(Route::post("/api/v1/agents/register", Access::Agent, "Registers the agent of this token."))
                .body::<KubeAgentRegistration>()
                .needs_body()
                .answers::<KubeAgentRegistered>(200)
                .refuses(&[Code::Conflict]),
            register,
        )
        .route(
            one(Route::get(ONE, Access::SeeOrAgent, "An agent, by id or name.")).answers::<KubeAgent>(200),
            get,
        )
        .route(
            write(Route::patch(ONE, Access::Admin, "Says which stacks an agent is given, and its mode."))
                .body::<KubeAgentPatch>()
                .needs_body()
                .answers::<KubeAgent>(200),
            change,
        )
        .route(write(Route::delete(ONE, Access::Admin, "Forgets an agent, with what it told.")), delete)
}

/// What an agent asks and tells.
fn speaking(surface: Surface) -> Surface {
    surface
        .route(
            one(Route::get(
                "/api/v1/agents/{id}/desired",
                Access::SeeOrAgent,
                "What an agent is to see to: now, or once it is another than `after`.",
            ))
            .query::<DesiredQuery>()
            .answers::<Desired>(200),
            desired,
        )
        .route(
            one(Route::get(
                "/api/v1/agents/{id}/stream",
                Access::Agent,
                "What an agent is told as it happens, as server-sent events.",
            ))
            .text(200, "text/event-stream"),
            told,
        )
        .route(
            write(Route::patch(HEALTH, Access::Agent, "Takes in how an agent's deployment objects are."))
                .body::<HealthReport>()
                .needs_body()
                .answers::<HealthReportAnswer>(200),
            report,
        )
        .route(
            one(Route::get(HEALTH, Access::SeeOrAgent, "What an agent told last of its deployment objects."))
                .query::<StatusQuery>()
                .answers::<ReportedHealths>(200),
            reported,
        )
}

async fn all(State(api): State<Api>, uri: Uri) -> Answer<Response> {
    list::piece(&uri, kube(&api)?.agents(), |it| &it.name)
}

async fn register(
    State(api): State<Api>,
    asker: Asker,
    request: Request,
) -> Answer<Json<KubeAgentRegistered>> {
    let asked: KubeAgentRegistration = required_json(request).await?;
    let name = asker.caller.node.as_deref().ok_or_else(not_yours)?;
    Ok(Json(kube(&api)?.register(name, &asked).await?))
}

async fn get(State(api): State<Api>, asker: Asker, Path(id): Path<String>) -> Answer<Json<KubeAgent>> {
    let snapshot = kube(&api)?.snapshot();
    let agent = find_agent(&snapshot.kube, &asker.caller, &id)?;
    Ok(Json(view::agent(&snapshot.kube, agent)))
}

async fn change(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<String>,
    request: Request,
) -> Answer<Json<KubeAgent>> {
    let patch: KubeAgentPatch = required_json(request).await?;
    Ok(Json(kube(&api)?.change_agent(&id, &patch, &asker).await?))
}

async fn delete(State(api): State<Api>, asker: Asker, Path(id): Path<String>) -> Answer<StatusCode> {
    kube(&api)?.delete_agent(&id, &asker).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The id of an agent that the caller may ask about; one that has registered elsewhere just now is found, too.
async fn agent_id(kube: &Kube, asker: &Asker, id: &str) -> Answer<String> {
    let found = |snapshot: &Snapshot| find_agent(&snapshot.kube, &asker.caller, id).map(|it| it.id.clone());
    match found(&kube.snapshot()) {
        Ok(found) => Ok(found),
        Err(_) => found(&*kube.fresh().await),
    }
}

async fn desired(State(api): State<Api>, asker: Asker, Path(id): Path<String>, uri: Uri) -> Answer<Response> {
    let asked: DesiredQuery = query(&uri)?;
    let wait = match &asked.wait {
        None => Duration::ZERO,
        Some(text) => hale_model::file::parse_duration(text)
            .ok_or_else(|| Refusal::new(Code::BadRequest, "wait is a duration such as 30s"))?,
    };
    let kube = kube(&api)?;
    let agent = agent_id(kube, &asker, &id).await?;
    large(&kube.desired(&agent, asked.after.as_deref(), wait).await?)
}

async fn report(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<String>,
    request: Request,
) -> Answer<Json<HealthReportAnswer>> {
    let kube = kube(&api)?;
    // Whose it is first: a stranger's report is not even read.
    let agent = agent_id(kube, &asker, &id).await?;
    let body: serde_json::Value = large_json(request).await?;
    let entries = reports::entries(&body)?;
    Ok(Json(kube.report(&agent, &entries).await?))
}

async fn reported(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<String>,
    uri: Uri,
) -> Answer<Json<ReportedHealths>> {
    let asked: StatusQuery = query(&uri)?;
    let kube = kube(&api)?;
    let snapshot = kube.snapshot();
    let agent = find_agent(&snapshot.kube, &asker.caller, &id)?;
    Ok(Json(kube.reported(agent, asked.status)))
}

/// The stream of an agent.
struct Told {
    kube: Kube,
    agent: String,
    follow: watch::Receiver<std::sync::Arc<Snapshot>>,
    end: CancellationToken,
    /// The revision of what is desired that was told last.
    revision: Option<String>,
    /// Requests that were told, with the count of their claims: one that can be taken again is told again.
    requests: BTreeSet<(String, u32)>,
    /// The change of Kubernetes that was looked at last.
    looked: u64,
    /// When the next sign of life is due.
    comment: Instant,
    /// When the agent is to be held for heard, should nothing else be written of it until then.
    touch: Instant,
    touched: Option<u64>,
}

async fn told(State(api): State<Api>, asker: Asker, Path(id): Path<String>) -> Answer<Response> {
    let kube = kube(&api)?;
    let agent = agent_id(kube, &asker, &id).await?;
    kube.heard(&agent).await?;
    let mut follow = kube.follow();
    follow.mark_changed();
    let now = Instant::now();
    let told = Told {
        kube: kube.clone(),
        agent,
        follow,
        end: api.parts.end.clone(),
        revision: None,
        requests: BTreeSet::new(),
        looked: 0,
        comment: now + COMMENT,
        touch: now,
        touched: None,
    };
    Ok(sse(stream::unfold(told, |mut it| async move {
        let piece = it.next().await?;
        Some((Ok(piece), it))
    })))
}

impl Told {
    /// The next piece; none at the end: the server goes, or the agent was forgotten.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                changed = self.follow.changed() => {
                    changed.ok()?;
                    let news = self.news()?;
                    if !news.is_empty() {
                        return Some(Bytes::from(news));
                    }
                }
                () = sleep_until(self.comment) => {
                    self.comment = Instant::now() + COMMENT;
                    return Some(Bytes::from_static(b": still here\n\n"));
                }
                () = sleep_until(self.touch) => self.touch().await,
                () = self.end.cancelled() => return None,
            }
        }
    }

    /// What has changed for the agent, as it is told; none: it was forgotten.
    fn news(&mut self) -> Option<String> {
        let snapshot = std::sync::Arc::clone(&self.follow.borrow_and_update());
        let agent = snapshot.kube.agent(&self.agent)?;
        let mut news = String::new();
        // Most of what changes in a cluster is about something else.
        if std::mem::replace(&mut self.looked, snapshot.kube.revision) == snapshot.kube.revision {
            return Some(news);
        }
        let (revision, _) = desired_of(&snapshot.kube, agent);
        if self.revision.as_ref() != Some(&revision) {
            news.push_str(&format!("event: desired\ndata: {}\n\n", json!({"revision": revision})));
            self.revision = Some(revision);
        }
        let own = snapshot.kube.diagnostics.values();
        let own = own.filter(|it| it.agent_id == agent.id && it.status == DiagnosticsStatus::Pending);
        let mut there = BTreeSet::new();
        let mut pending: Vec<_> = own.collect();
        pending.sort_by_key(|it| it.created_at);
        for it in pending {
            let name = (it.id.clone(), it.claims);
            if !self.requests.contains(&name)
                && let Some(request) = pending_request(it)
                && let Ok(data) = serde_json::to_string(&request)
            {
                news.push_str(&format!("event: diagnostics\ndata: {data}\n\n"));
            }
            there.insert(name);
        }
        self.requests = there;
        Some(news)
    }

    /// Holds the agent for heard, unless it was heard otherwise since the last time.
    async fn touch(&mut self) {
        let snapshot = self.kube.snapshot();
        let stale = snapshot.kube.agent(&self.agent).map_or(180, |it| it.stale_after_seconds);
        let seen = snapshot.kube.seen.get(self.agent.as_str());
        let due = seen.map(|it| it.revision) == self.touched || seen.is_none_or(|it| it.silent);
        if due && let Err(error) = self.kube.heard(&self.agent).await {
            tracing::debug!(agent = self.agent, error = %error.problem, "an agent can't be marked as heard");
        }
        self.touched = self.kube.snapshot().kube.seen.get(self.agent.as_str()).map(|it| it.revision);
        self.touch = Instant::now() + Duration::from_secs(stale.into()) / 3;
    }
}
