//! A hale server's own events as alerts, and as recoveries (R1).
//!
//! Events have numbers, so nothing is lost over a lost connection or a restart (R3). What the responder itself causes
//! is never an alert: it would answer itself for ever.

use std::time::Duration;

use hale_api::{Client, ClientError, Told, events::EventQuery, runs::Resource};
use hale_model::{
    event::{Event, Severity},
    spec::{HaleSource, Remote},
    status::Overview,
};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{
    ErrorClass, What,
    connect::{Connector, Failure, Line},
    http, plain,
};
use crate::alert::RawAlert;

/// Events of no interest move the stored cursor once in so many…
const COALESCED: u32 = 1000;

/// …or after so long.
const LATEST: Duration = Duration::from_secs(10);

/// Follows one server.
pub(crate) struct Hale {
    source: HaleSource,
    own: Option<Client>,
    cursor: Option<Cursor>,
}

/// Where the stream of events stands: the number of the last one, and when that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    id: u64,
    /// What a server tells anew from its beginning after its database was restored is older than this.
    time: Option<Timestamp>,
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let (id, time) = text.split_once('@').map_or((text, None), |(id, time)| (id, time.parse().ok()));
        Some(Self { id: id.parse().ok()?, time })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.time {
            Some(time) => write!(f, "{}@{time}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

impl Hale {
    pub(crate) fn new(source: HaleSource, own: Option<Client>, cursor: Option<&str>) -> Self {
        Self { source, own, cursor: cursor.and_then(Cursor::parse) }
    }

    async fn run(&mut self, line: &mut Line) -> Result<(), Failure> {
        let client = client(self.source.remote.as_ref(), self.own.as_ref()).await?;
        let mut cursor = match self.cursor {
            Some(cursor) => cursor,
            None => self.begin(&client, line).await?,
        };
        let query = EventQuery { after: Some(cursor.id), ..EventQuery::default() };
        let mut stream = client.follow(query).await.map_err(failure)?;
        line.up().await;
        let mut unsaved = 0;
        let mut due = Instant::now() + LATEST;
        // After a reset: until when events are old ones.
        let mut known_until = None;
        loop {
            let next = stream.next_of_connection();
            let told = if unsaved > 0 { timeout_at(due, next).await.ok() } else { Some(next.await) };
            let what = match told {
                None => None,
                Some(told) => match told.map_err(failure)? {
                    None => {
                        return Err(Failure::network(format!("{}: the connection was lost", client.name())));
                    }
                    Some(Told::Reset) => {
                        known_until = Some(cursor.time.unwrap_or_else(Timestamp::now));
                        continue;
                    }
                    // A newer hale's: its type, subject and severity say what is needed.
                    Some(Told::Unknown { id, event }) => {
                        line.works();
                        cursor.id = id;
                        Some(from_json(&event))
                    }
                    Some(Told::Event(event)) => {
                        line.works();
                        cursor = Cursor { id: event.id, time: Some(event.time) };
                        let old = known_until.is_some_and(|until| event.time <= until);
                        Some(if old { What::Nothing } else { read(&event) })
                    }
                },
            };
            match what {
                Some(What::Nothing) if unsaved == 0 => (unsaved, due) = (1, Instant::now() + LATEST),
                Some(What::Nothing) if unsaved < COALESCED && Instant::now() < due => unsaved += 1,
                None if unsaved == 0 => {}
                what => {
                    unsaved = 0;
                    self.cursor = Some(cursor);
                    line.hear(what.unwrap_or(What::Nothing), Some(cursor.to_string())).await;
                }
            }
        }
    }

    /// The first time: from now on, not the whole history.
    async fn begin(&mut self, client: &Client, line: &Line) -> Result<Cursor, Failure> {
        let query = EventQuery { newest: true, limit: Some(1), ..EventQuery::default() };
        let page = client.events(&query).await.map_err(failure)?;
        let cursor = Cursor { id: page.latest, time: Some(Timestamp::now()) };
        self.cursor = Some(cursor);
        line.hear(What::Nothing, Some(cursor.to_string())).await;
        Ok(cursor)
    }
}

impl Connector for Hale {
    async fn connect(&mut self, line: &mut Line) -> Failure {
        match self.run(line).await {
            Ok(()) => Failure::network("the stream ended"),
            Err(failure) => failure,
        }
    }
}

/// A client for a server, with what is in the files now.
async fn client(remote: Option<&Remote>, own: Option<&Client>) -> Result<Client, Failure> {
    let Some(remote) = remote else {
        return own
            .cloned()
            .ok_or_else(|| Failure::protocol("this responder is no part of a hale: the source needs a url"));
    };
    let token = match &remote.token_file {
        Some(file) => http::token(file).await?,
        None => String::new(),
    };
    // What is wrong with a URL is said of all of it.
    let unusable = |error| {
        let failure = failure(error);
        let error = failure.error.replace(&remote.url, &http::name(&remote.url));
        Failure { error, ..failure }
    };
    if remote.url.starts_with("https:") {
        let file = remote.ca_file.clone();
        let tls = tokio::task::spawn_blocking(move || http::trust(file.as_deref())).await;
        let tls = tls.map_err(|error| Failure::protocol(format!("TLS can't be set up: {error}")))??;
        return Client::remote_over(&remote.url, &token, tls).map_err(unusable);
    }
    Client::remote(&remote.url, &token).map_err(unusable)
}

fn failure(error: ClientError) -> Failure {
    let class = match &error {
        ClientError::Unreachable(_) => ErrorClass::Network,
        ClientError::Timeout(_) => ErrorClass::Timeout,
        ClientError::NotAllowed(_) => ErrorClass::Auth,
        ClientError::Refused(_) => ErrorClass::Server,
        ClientError::NotFound(_) | ClientError::Invalid(_) | ClientError::Protocol(_) => ErrorClass::Protocol,
    };
    let retry_after = match &error {
        ClientError::Refused(problem) | ClientError::NotAllowed(problem) => problem.retry_after,
        _ => None,
    };
    Failure { retry_after, ..Failure::new(class, error.to_string()) }
}

/// What an event means to a responder.
fn read(event: &Event) -> What {
    match serde_json::to_value(event) {
        Ok(value) => from_json(&value),
        Err(error) => What::Unreadable(format!("event {}: {error}", event.id)),
    }
}

/// The same, of an event in its CloudEvents form, wherever it came by.
pub(crate) fn from_json(event: &Value) -> What {
    let kind = plain::text(event, &["type"]).and_then(|it| it.strip_prefix("dev.hale."));
    let (Some(kind), Some(subject)) = (kind, plain::text(event, &["subject"])) else {
        return What::Unreadable(format!("no event of hale: {}", plain::quote(&event.to_string())));
    };
    let (of, what) = kind.split_once('.').unwrap_or((kind, ""));
    let resource = Resource { kind: resource_kind(of), name: subject.to_owned(), ..Resource::default() };
    if is_own(of) {
        return What::Nothing;
    }
    if is_recovery(of, what) {
        return What::Recovered(resource);
    }
    let severity = plain::text(event, &["severity"]).unwrap_or(Severity::Info.as_str());
    if severity == Severity::Info.as_str() {
        return What::Nothing;
    }
    let data = event.get("data").cloned().unwrap_or_default();
    let labels = ["workload", "node", "stack"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), plain::text(&data, &[name])?.to_owned())));
    let told =
        plain::text(&data, &["reason", "detail", "last_error", "probe_reason", "last_reason", "error"]);
    What::Alert(Box::new(RawAlert {
        source_id: plain::text(event, &["id"]).map(str::to_owned),
        severity: Some(severity.to_owned()),
        fault_type: kind.to_owned(),
        message: told.map_or_else(|| format!("{kind}: {}", plain::name(&resource)), str::to_owned),
        resource,
        labels: labels.collect(),
        timestamp: plain::text(event, &["time"]).and_then(plain::timestamp),
        context: data,
    }))
}

/// Kinds of events that a responder causes.
fn is_own(of: &str) -> bool {
    matches!(of, "run" | "responder" | "alert" | "breaker")
}

/// The kind of resource by the first word of a type: `replica` is `Replica`.
fn resource_kind(of: &str) -> String {
    let mut letters = of.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn is_recovery(of: &str, what: &str) -> bool {
    matches!(
        (of, what),
        ("replica", "ready" | "recovered" | "restart_succeeded")
            | ("target", "probe_recovered")
            | ("node", "ready")
            | ("workload", "updated")
            | ("deployment", "recovered")
            | ("cluster", "brake_released")
    )
}

/// Whether a resource of a hale is healthy now (R10); `None`: it is of a kind that hale has no state of.
///
/// # Errors
/// hale can't be asked.
pub(crate) async fn healthy(
    source: &HaleSource,
    own: Option<&Client>,
    resource: &Resource,
) -> Result<Option<bool>, String> {
    let client = client(source.remote.as_ref(), own).await.map_err(|failure| failure.error)?;
    let overview = client.overview().await.map_err(|error| error.to_string())?;
    Ok(judge(&overview, resource))
}

fn judge(overview: &Overview, resource: &Resource) -> Option<bool> {
    use hale_health::Status::Healthy;

    let name = &resource.name;
    // What is not there (any more) is not well.
    let well = match resource.kind.as_str() {
        "Replica" => {
            let mut replicas = overview.workloads.iter().flat_map(|it| &it.replicas);
            let found = replicas.find(|it| it.name == *name);
            found.is_some_and(|it| it.status == Healthy && it.ready && !it.stale && !it.restarting)
        }
        "Workload" => {
            let found = overview.workloads.iter().find(|it| it.name == *name);
            found.is_some_and(|it| it.status == Healthy && it.ready >= it.desired)
        }
        "Target" => overview.targets.iter().any(|it| it.name == *name && it.status == Healthy),
        "Node" => overview.nodes.iter().any(|it| it.name == *name && it.status == Healthy),
        _ => return None,
    };
    Some(well)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, severity: &str, data: Value) -> Value {
        json!({
            "specversion": "1.0", "id": "42", "source": "/nodes/local", "subject": "web-0", "severity": severity,
            "time": "2026-01-01T00:00:00Z", "type": format!("dev.hale.{kind}"), "data": data,
        })
    }

    #[test]
    fn an_event_that_matters_is_an_alert_about_the_thing_that_status_knows() {
        let data = json!({"workload": "web", "node": "local", "reason": "liveness: timeout 3/3"});
        let What::Alert(alert) = from_json(&event("replica.failed", "critical", data.clone())) else {
            panic!("no alert")
        };
        let expected = RawAlert {
            source_id: Some("42".into()),
            severity: Some("critical".into()),
            fault_type: "replica.failed".into(),
            resource: Resource { kind: "Replica".into(), name: "web-0".into(), ..Resource::default() },
            message: "liveness: timeout 3/3".into(),
            labels: [("workload".into(), "web".into()), ("node".into(), "local".into())].into(),
            context: data,
            timestamp: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        };
        assert_eq!(*alert, expected);
        for (kind, resource) in [
            ("target.probe_failed", "Target"),
            ("node.lost", "Node"),
            ("workload.rolled_back", "Workload"),
            ("deployment.failing", "Deployment"),
            ("cluster.braked", "Cluster"),
        ] {
            let What::Alert(alert) = from_json(&event(kind, "error", json!({}))) else { panic!("{kind}") };
            assert_eq!(
                (alert.resource.kind.as_str(), alert.message.as_str()),
                (resource, &*format!("{kind}: {resource} web-0"))
            );
        }
    }

    #[test]
    fn the_responder_never_answers_itself() {
        for kind in ["run.failed", "alert.dropped", "responder.breaker_opened"] {
            assert_eq!(from_json(&event(kind, "critical", json!({}))), What::Nothing, "{kind}");
        }
    }

    #[test]
    fn what_is_well_again_is_a_recovery_and_the_rest_only_moves_on() {
        for (kind, of) in [
            ("replica.ready", "Replica"),
            ("replica.recovered", "Replica"),
            ("target.probe_recovered", "Target"),
            ("node.ready", "Node"),
            ("deployment.recovered", "Deployment"),
        ] {
            let expected = Resource { kind: of.into(), name: "web-0".into(), ..Resource::default() };
            assert_eq!(from_json(&event(kind, "info", json!({}))), What::Recovered(expected));
        }
        assert_eq!(from_json(&event("replica.starting", "info", json!({}))), What::Nothing);
        assert!(matches!(from_json(&json!({"type": "com.example"})), What::Unreadable(_)));
    }

    #[test]
    fn a_cursor_is_the_number_and_the_time_of_the_last_event() {
        let cursor = Cursor { id: 7, time: Some("2026-01-01T00:00:00Z".parse().unwrap()) };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        assert_eq!(Cursor::parse("7"), Some(Cursor { id: 7, time: None }));
        assert_eq!(Cursor::parse("x"), None);
    }

    #[test]
    fn what_is_healthy_is_judged_by_its_status_and_what_is_gone_is_not() {
        let overview: Overview = serde_json::from_value(json!({
            "status": "failing", "at": "2026-01-01T00:00:00Z", "workloads": [], "nodes": [],
            "targets": [
                {"name": "a", "status": "healthy", "since": null, "consecutive_failures": 0, "last_reason": null},
                {"name": "b", "status": "failing", "since": null, "consecutive_failures": 3, "last_reason": null},
            ],
        }))
        .unwrap();
        let of = |kind: &str, name: &str| {
            judge(&overview, &Resource { kind: kind.into(), name: name.into(), ..Resource::default() })
        };
        assert_eq!(of("Target", "a"), Some(true));
        assert_eq!(of("Target", "b"), Some(false));
        assert_eq!(of("Replica", "web-0"), Some(false));
        assert_eq!(of("Deployment", "shop"), None);
    }
}
