//! Who may do what: every route, with a token of every role and with none (S25).

use hale_model::cluster::Role;

use super::hale::{Hale, raw, token_of};

/// Roles that get past the door, by method and path. Every route is here: one that is missing fails the test.
const ROUTES: &[(&str, &str, &[Role])] = &[
    ("GET", "/", OPEN),
    ("GET", "/api", OPEN),
    ("POST", "/api/v1/apply", ADMIN),
    ("GET", "/api/v1/agents", SEE),
    ("POST", "/api/v1/agents/register", AGENT),
    ("GET", "/api/v1/agents/{id}", SEE_OR_AGENT),
    ("PATCH", "/api/v1/agents/{id}", ADMIN),
    ("DELETE", "/api/v1/agents/{id}", ADMIN),
    ("GET", "/api/v1/agents/{id}/desired", SEE_OR_AGENT),
    ("GET", "/api/v1/agents/{id}/diagnostics/pending", SEE_OR_AGENT),
    ("GET", "/api/v1/agents/{id}/health-status", SEE_OR_AGENT),
    ("PATCH", "/api/v1/agents/{id}/health-status", AGENT),
    ("GET", "/api/v1/agents/{id}/stream", AGENT),
    ("GET", "/api/v1/deployment-objects/{id}", SEE_OR_AGENT),
    ("DELETE", "/api/v1/deployment-objects/{id}", ADMIN),
    ("POST", "/api/v1/deployment-objects/{id}/diagnostics", ACT),
    ("GET", "/api/v1/deployment-objects/{id}/health", SEE_OR_AGENT),
    ("GET", "/api/v1/deployment-objects/{id}/history", SEE),
    ("GET", "/api/v1/diagnostics", SEE),
    ("GET", "/api/v1/diagnostics/{id}", SEE_OR_AGENT),
    ("POST", "/api/v1/diagnostics/{id}/claim", AGENT),
    ("POST", "/api/v1/diagnostics/{id}/result", AGENT),
    ("GET", "/api/v1/stacks", SEE),
    ("POST", "/api/v1/stacks", ADMIN),
    ("GET", "/api/v1/stacks/{id}", SEE),
    ("PATCH", "/api/v1/stacks/{id}", ADMIN),
    ("DELETE", "/api/v1/stacks/{id}", ADMIN),
    ("GET", "/api/v1/stacks/{id}/deployment-objects", SEE),
    ("POST", "/api/v1/stacks/{id}/deployment-objects", ADMIN),
    ("GET", "/api/v1/stacks/{id}/health", SEE),
    ("GET", "/api/v1/audit", ADMIN),
    ("GET", "/api/v1/events", SEE),
    ("GET", "/api/v1/explain/{name}", SEE),
    ("GET", "/api/v1/logs/{name}", SEE),
    ("GET", "/api/v1/nodes", SEE),
    ("GET", "/api/v1/nodes/{name}", SEE),
    ("DELETE", "/api/v1/nodes/{name}", ADMIN),
    ("POST", "/api/v1/nodes/{name}/{verb}", ADMIN),
    ("GET", "/api/v1/openapi.json", SEE),
    ("GET", "/api/v1/operations/{id}", SEE),
    ("GET", "/api/v1/outcomes/{name}", SEE),
    ("GET", "/api/v1/replicas", SEE),
    ("GET", "/api/v1/replicas/{name}", SEE),
    ("POST", "/api/v1/replicas/{name}/diagnostics", ACT),
    ("GET", "/api/v1/replicas/{name}/history", SEE),
    ("POST", "/api/v1/replicas/{name}/{verb}", ACT),
    ("GET", "/api/v1/alerts", SEE),
    ("GET", "/api/v1/runs", SEE),
    ("GET", "/api/v1/runs/{id}", SEE),
    ("POST", "/api/v1/runs/{id}/{verb}", ACT),
    ("GET", "/api/v1/services", FOLLOW),
    ("GET", "/api/v1/services/{name}/endpoints", FOLLOW),
    ("GET", "/api/v1/services/{name}/sd", FOLLOW),
    ("GET", "/api/v1/status", SEE),
    ("GET", "/api/v1/targets", SEE),
    ("GET", "/api/v1/targets/{name}", SEE),
    ("GET", "/api/v1/targets/{name}/history", SEE),
    ("DELETE", "/api/v1/targets/{name}", ADMIN),
    ("POST", "/api/v1/targets/{name}/{verb}", ACT),
    ("GET", "/api/v1/tokens", ADMIN),
    ("POST", "/api/v1/tokens", ADMIN),
    ("DELETE", "/api/v1/tokens/{id}", ADMIN),
    ("POST", "/api/v1/tokens/{id}/rotate", ADMIN),
    ("GET", "/api/v1/webhooks", SEE),
    ("POST", "/api/v1/webhooks", ADMIN),
    ("GET", "/api/v1/webhooks/{name}", SEE),
    ("DELETE", "/api/v1/webhooks/{name}", ADMIN),
    ("POST", "/api/v1/webhooks/{name}/{verb}", ADMIN),
    ("GET", "/api/v1/workloads", SEE),
    ("GET", "/api/v1/workloads/{name}", SEE),
    ("DELETE", "/api/v1/workloads/{name}", ADMIN),
    ("POST", "/api/v1/workloads/{name}/scale", ADMIN),
    ("POST", "/api/v1/workloads/{name}/{verb}", ACT),
    ("GET", "/assets/{file}", OPEN),
    ("GET", "/healthz", OPEN),
    ("GET", "/metrics", SEE),
    ("GET", "/probe", ACT),
    ("GET", "/readyz", OPEN),
];

const OPEN: &[Role] = &Role::ALL;
const FOLLOW: &[Role] = &[Role::Admin, Role::Operator, Role::Viewer, Role::Gateway];
const SEE: &[Role] = &[Role::Admin, Role::Operator, Role::Viewer];
const ACT: &[Role] = &[Role::Admin, Role::Operator];
const ADMIN: &[Role] = &[Role::Admin];
/// Behind the door an agent is told of nothing but what is its own (K14): the tests of Kubernetes show that.
const SEE_OR_AGENT: &[Role] = &[Role::Admin, Role::Operator, Role::Viewer, Role::Agent];
const AGENT: &[Role] = &[Role::Agent];

/// What the door says, if it says anything: 401 or 403.
async fn door(hale: &Hale, method: &str, path: &str, role: Option<Role>) -> Option<u16> {
    let path = path
        .replace("{name}", "nothing-here")
        .replace("{id}", "nothing-here")
        .replace("{file}", "app.js")
        .replace("{verb}", "restart");
    let token = role.map(|it| format!("Authorization: Bearer {}\r\n", token_of(it))).unwrap_or_default();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n{token}\r\n"
    );
    let answer = raw(hale.address, &text).await;
    let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(status < 500 && status != 405, "{method} {path}: {answer}");
    matches!(status, 401 | 403).then_some(status)
}

#[tokio::test]
async fn each_route_lets_in_the_roles_it_is_for_and_nobody_else() {
    let hale = Hale::start().await;
    let document = hale_server::openapi();
    let mut known = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let found = ROUTES.iter().find(|it| it.0 == method && it.1 == path);
            let allowed =
                found.unwrap_or_else(|| panic!("{method} {path} is not in the table of this test")).2;
            known += 1;
            for role in Role::ALL {
                let expected = if allowed.contains(&role) { None } else { Some(403) };
                assert_eq!(
                    door(&hale, &method, path, Some(role)).await,
                    expected,
                    "{method} {path} as {role:?}"
                );
            }
            let expected = if allowed == OPEN { None } else { Some(401) };
            assert_eq!(door(&hale, &method, path, None).await, expected, "{method} {path} without a token");
        }
    }
    assert_eq!(known, ROUTES.len(), "every route of the table is there");
    hale.stop().await;
}

#[tokio::test]
async fn a_viewer_changes_nothing() {
    let hale = Hale::start().await;
    for (method, path, _) in ROUTES.iter().filter(|it| it.0 != "GET") {
        for (name, verb) in [("web", "restart"), ("web-0", "stop"), ("billing", "pause")] {
            let path = path.replace("{name}", name).replace("{verb}", verb).replace("{id}", "view");
            assert_eq!(door(&hale, method, &path, Some(Role::Viewer)).await, Some(403), "{method} {path}");
        }
    }
    assert!(hale.node.orders.lock().unwrap().is_empty());
    assert!(hale.store.audit_log(0, 10).await.unwrap().is_empty());
    hale.stop().await;
}
