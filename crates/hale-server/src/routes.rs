//! What is answered, route by route: all of them, each with who may ask (S25).

pub(crate) mod actions;
pub(crate) mod audit;
pub(crate) mod declare;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod kube;
pub(crate) mod logs;
pub(crate) mod nodes;
pub(crate) mod outcomes;
pub(crate) mod page;
pub(crate) mod probe;
pub(crate) mod runs;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod tokens;
pub(crate) mod webhooks;

use hale_api::{
    Code,
    audit::{AuditPage, AuditQuery},
    declare::{Applied, ApplyQuery, ApplyRequest, ScaleRequest},
    endpoints::EndpointSet,
    events::{EventPage, EventQuery},
    explain::Explanation,
    logs::LogQuery,
    nodes::{NodeRequest, NodeVerb},
    operation::{ActionRequest, Operation, Verb},
    outcomes::{History, HistoryQuery, OutcomeHistory},
    tokens::{NewToken, RotateRequest, Token, TokenRequest},
};
use hale_model::status::{NodeStatus, Overview, ReplicaStatus, TargetStatus, WorkloadStatus};

use crate::{
    access::Access,
    list::ListQuery,
    surface::{Route, Surface},
};

/// Every route there is.
pub(crate) fn all(surface: Surface) -> Surface {
    let surface = statuses(surface);
    let surface = acting(surface);
    let surface = history(surface);
    let surface = traffic(surface);
    let surface = webhooks::routes(surface);
    let surface = kube::routes(surface);
    let surface = runs::routes(surface);
    let surface = people(surface);
    let surface = declaring(surface);
    open(surface)
}

fn statuses(surface: Surface) -> Surface {
    let see = |path, about| Route::get(path, Access::See, about).refuses(&[Code::Unavailable]);
    let one = |path, about| see(path, about).refuses(&[Code::NotFound]);
    surface
        .route(
            see("/api/v1/status", "Everything that runs, as it is now.").answers::<Overview>(200),
            status::overview,
        )
        .route(
            see("/api/v1/workloads", "The workloads, by name.")
                .query::<ListQuery>()
                .answers::<Vec<WorkloadStatus>>(200),
            status::workloads,
        )
        .route(
            one("/api/v1/workloads/{name}", "One workload.").answers::<WorkloadStatus>(200),
            status::workload,
        )
        .route(
            see("/api/v1/replicas", "All replicas, by workload and ordinal.")
                .query::<ListQuery>()
                .answers::<Vec<ReplicaStatus>>(200),
            status::replicas,
        )
        .route(one("/api/v1/replicas/{name}", "One replica.").answers::<ReplicaStatus>(200), status::replica)
        .route(
            see("/api/v1/targets", "The targets, by name.")
                .query::<ListQuery>()
                .answers::<Vec<TargetStatus>>(200),
            status::targets,
        )
        .route(one("/api/v1/targets/{name}", "One target.").answers::<TargetStatus>(200), status::target)
        .route(
            see("/api/v1/nodes", "The nodes, by name.").query::<ListQuery>().answers::<Vec<NodeStatus>>(200),
            status::nodes,
        )
        .route(one("/api/v1/nodes/{name}", "One node.").answers::<NodeStatus>(200), nodes::node)
        .route(
            one("/api/v1/explain/{name}", "Why a replica, workload or target is as it is.")
                .answers::<Explanation>(200),
            explain::explain,
        )
}

fn acting(surface: Surface) -> Surface {
    let act = |path, about| {
        Route::post(path, Access::Act, about)
            .words("verb", Verb::ALL.map(Verb::as_str))
            .body::<ActionRequest>()
            .answers::<Operation>(200)
            .answers::<Operation>(202)
            .refuses(&[Code::NotFound, Code::NotApplicable, Code::Unavailable])
    };
    surface
        .route(
            act("/api/v1/workloads/{name}/{verb}", "Does something to all replicas."),
            actions::on_workload,
        )
        .route(act("/api/v1/replicas/{name}/{verb}", "Does something to a replica."), actions::on_replica)
        .route(act("/api/v1/targets/{name}/{verb}", "Pauses or resumes a target."), actions::on_target)
        .route(
            Route::get("/api/v1/operations/{id}", Access::See, "How something that was asked for goes.")
                .query::<actions::OperationQuery>()
                .answers::<Operation>(200)
                .refuses(&[Code::NotFound]),
            actions::operation,
        )
}

fn history(surface: Surface) -> Surface {
    let see = |path, about| Route::get(path, Access::See, about).refuses(&[Code::Unavailable]);
    surface
        .route(
            see("/api/v1/outcomes/{name}", "The probe history of a replica or target.")
                .answers::<OutcomeHistory>(200)
                .refuses(&[Code::NotFound]),
            outcomes::outcomes,
        )
        .route(
            see("/api/v1/targets/{name}/history", "Availability and durations of a target over days.")
                .query::<HistoryQuery>()
                .answers::<History>(200)
                .refuses(&[Code::NotFound]),
            history::of_target,
        )
        .route(
            see(
                "/api/v1/replicas/{name}/history",
                "Availability and durations of a replica's probes over days.",
            )
            .query::<HistoryQuery>()
            .answers::<History>(200)
            .refuses(&[Code::NotFound]),
            history::of_replica,
        )
        .route(
            see("/api/v1/events", "What happened: a page, or a stream of server-sent events as it happens.")
                .query::<EventQuery>()
                .answers::<EventPage>(200)
                .text(200, "text/event-stream"),
            events::events,
        )
        .route(
            see(
                "/api/v1/logs/{name}",
                "What a replica, or all of a workload, printed: a JSON object a line.",
            )
            .query::<LogQuery>()
            .text(200, "application/x-ndjson")
            .refuses(&[Code::NotFound, Code::NotApplicable]),
            logs::logs,
        )
}

fn traffic(surface: Surface) -> Surface {
    let see = |path, about| Route::get(path, Access::Endpoints, about);
    surface
        .route(
            see("/api/v1/services", "The services with their endpoints, by name.")
                .query::<ListQuery>()
                .answers::<Vec<EndpointSet>>(200),
            services::services,
        )
        .route(
            see(
                "/api/v1/services/{name}/endpoints",
                "The endpoints of a service: now, once they change, or as a stream of server-sent events.",
            )
            .query::<services::WatchQuery>()
            .answers::<EndpointSet>(200)
            .text(200, "text/event-stream")
            .refuses(&[Code::NotFound]),
            services::endpoints,
        )
        .route(
            see(
                "/api/v1/services/{name}/sd",
                "The endpoints of a service, for Prometheus' `http_sd_configs`.",
            )
            .answers::<Vec<services::TargetGroup>>(200)
            .refuses(&[Code::NotFound]),
            services::sd,
        )
}

fn declaring(surface: Surface) -> Surface {
    let write = |it: Route| {
        it.refuses(&[Code::NotFound, Code::NotApplicable, Code::InvalidDocument, Code::Unavailable])
    };
    let delete = |path, about| write(Route::delete(path, Access::Admin, about));
    let post = |path, about| write(Route::post(path, Access::Admin, about));
    let yaml = |route: Route| declare::YAML.into_iter().fold(route, Route::text_body);
    surface
        .route(
            yaml(
                post("/api/v1/apply", "Declares workloads and targets: all of them, or none.")
                    .body::<ApplyRequest>(),
            )
            .needs_body()
            .query::<ApplyQuery>()
            .answers::<Applied>(200),
            declare::apply,
        )
        .route(
            post("/api/v1/workloads/{name}/scale", "Changes how many replicas are wanted.")
                .body::<ScaleRequest>()
                .needs_body()
                .answers::<Applied>(200),
            declare::scale,
        )
        .route(
            delete("/api/v1/workloads/{name}", "Takes a workload away: what runs of it is stopped.")
                .answers::<Applied>(200),
            declare::delete_workload,
        )
        .route(
            delete("/api/v1/targets/{name}", "Takes a target away.").answers::<Applied>(200),
            declare::delete_target,
        )
        .route(
            post("/api/v1/nodes/{name}/{verb}", "Keeps replicas off a node, or lets them on it again.")
                .words("verb", NodeVerb::ALL.map(NodeVerb::as_str))
                .body::<NodeRequest>()
                .answers::<NodeStatus>(200),
            nodes::act,
        )
        .route(delete("/api/v1/nodes/{name}", "Forgets a node that does not come back."), nodes::delete)
}

fn people(surface: Surface) -> Surface {
    let write = |it: Route| it.refuses(&[Code::Conflict, Code::Unavailable]);
    surface
        .route(
            Route::get("/api/v1/tokens", Access::Admin, "The tokens, without their secrets, by id.")
                .query::<ListQuery>()
                .answers::<Vec<Token>>(200),
            tokens::list,
        )
        .route(
            write(Route::post("/api/v1/tokens", Access::Admin, "Makes a token; it is shown this once."))
                .body::<TokenRequest>()
                .needs_body()
                .answers::<NewToken>(201),
            tokens::create,
        )
        .route(
            write(Route::delete("/api/v1/tokens/{id}", Access::Admin, "Ends a token."))
                .refuses(&[Code::NotFound]),
            tokens::revoke,
        )
        .route(
            write(Route::post("/api/v1/tokens/{id}/rotate", Access::Admin, "Gives a token a new secret."))
                .body::<RotateRequest>()
                .answers::<NewToken>(200)
                .refuses(&[Code::NotFound]),
            tokens::rotate,
        )
        .route(
            Route::get("/api/v1/audit", Access::Admin, "Who did what: a page of the record.")
                .query::<AuditQuery>()
                .answers::<AuditPage>(200)
                .refuses(&[Code::Unavailable]),
            audit::audit,
        )
}

fn open(surface: Surface) -> Surface {
    surface
        .route(
            Route::get("/metrics", Access::See, "The metrics, for Prometheus.")
                .text(200, "text/plain")
                .text(200, "application/openmetrics-text")
                .refuses(&[Code::Internal]),
            health::metrics,
        )
        .route(
            Route::get(
                "/probe",
                Access::Act,
                "Makes one check now and tells it as metrics, as blackbox_exporter does.",
            )
            .query::<probe::ProbeQuery>()
            .text(200, "text/plain")
            .refuses(&[Code::NotFound, Code::Unavailable]),
            probe::probe,
        )
        .route(
            Route::get("/healthz", Access::Open, "Whether this process answers.").text(200, "text/plain"),
            health::healthz,
        )
        .route(
            Route::get("/readyz", Access::Open, "Whether the database and the runtime answer, too.")
                .answers::<health::Readiness>(200)
                .answers::<health::Readiness>(503),
            health::readyz,
        )
        .route(
            Route::get("/api/v1/openapi.json", Access::See, "This document.")
                .answers::<serde_json::Value>(200),
            page::openapi,
        )
        .route(
            Route::get("/api", Access::Open, "A page to try the API with, without data.")
                .text(200, "text/html"),
            page::api,
        )
        .route(
            Route::get("/", Access::Open, "The status page, without data.").text(200, "text/html"),
            page::index,
        )
        .route(
            Route::get("/assets/{file}", Access::Open, "The files of the pages.")
                .text(200, "text/css")
                .text(200, "text/javascript")
                .refuses(&[Code::NotFound]),
            page::asset,
        )
}
