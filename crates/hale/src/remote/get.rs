//! `hale get KIND [NAME]`: lists, and single things out of them, as the API tells them (C4, C6).

use hale_api::{Client, ClientError, Code, Problem, audit::AuditQuery, encode, events::EventQuery};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    block, client, diagnose, events, runs,
    status::ago,
    table::{Cell, Table},
};
use crate::{
    cli::{Format, GetArgs},
    failure::Failure,
    output,
};

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn run(args: &GetArgs) -> Result<(), Failure> {
    block(async {
        let client = client(&args.server)?;
        list(&client, &args.kind, args.name.as_deref(), args.output.output).await
    })
}

/// Shows all of a kind, or one.
///
/// # Errors
/// As its exit status says (C7).
pub(super) async fn list(
    client: &Client,
    kind: &str,
    name: Option<&str>,
    format: Format,
) -> Result<(), Failure> {
    match kind {
        "events" => return show_events(client, name, format).await,
        "audit" => return show_audit(client, name, format).await,
        "runs" => return runs::get(client, name, format).await,
        _ => {}
    }
    let path = format!("/api/v1/{kind}");
    let found: Value = match (kind, name) {
        ("deployments", name) => deployments(client, name).await?,
        (_, None) => Value::Array(client.list(&path).await?),
        ("services", Some(name)) => {
            serde_json::to_value(client.endpoints(name).await?).map_err(Failure::failed)?
        }
        ("diagnostics", Some(id)) => return diagnose::show(client, id, format).await,
        ("tokens", Some(name)) => {
            let all: Vec<Value> = client.list(&path).await?;
            let found = all.into_iter().find(|it| it["id"] == name);
            found.ok_or_else(|| Failure::NotFound(format!("there is no token {name:?}")))?
        }
        (_, Some(name)) => client.show(&format!("{path}/{}", encode(name))).await?,
    };
    output::write_value(&found, format, |out| table(kind, &found).write(out))
}

/// The deployment objects of all stacks, of one, or one of them with its manifests.
async fn deployments(client: &Client, name: Option<&str>) -> Result<Value, Failure> {
    let Some(name) = name else {
        let mut all = Vec::new();
        for stack in client.stacks().await? {
            all.extend(client.deployment_objects(&stack.name).await?);
        }
        return serde_json::to_value(all).map_err(Failure::failed);
    };
    match client.deployment_objects(name).await {
        Err(ClientError::NotFound(_)) => {
            serde_json::to_value(client.deployment_object(name).await?).map_err(Failure::failed)
        }
        found => serde_json::to_value(found?).map_err(Failure::failed),
    }
}

async fn show_events(client: &Client, id: Option<&str>, format: Format) -> Result<(), Failure> {
    let Some(id) = id else {
        return events::list(client, EventQuery { after: Some(0), ..EventQuery::default() }, format).await;
    };
    let missing = || Failure::NotFound(format!("there is no event {id:?}: an id is a number"));
    let number: u64 = id.parse().ok().filter(|it| *it > 0).ok_or_else(missing)?;
    let query = EventQuery { after: Some(number - 1), limit: Some(1), ..EventQuery::default() };
    let page = client.events(&query).await?;
    let event = page.events.first().filter(|it| it.id == number).ok_or_else(missing)?;
    events::print(event, format)
}

async fn show_audit(client: &Client, id: Option<&str>, format: Format) -> Result<(), Failure> {
    if id.is_some() {
        let problem = Problem::new(Code::BadRequest, "the record is listed as a whole: `hale get audit`");
        return Err(Failure::Usage(problem.to_string()));
    }
    let mut query = AuditQuery { after: None, limit: Some(1000) };
    let mut all = Vec::new();
    loop {
        let page = client.audit(&query).await?;
        all.extend(page.records);
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    output::write_value(&all, format, |out| {
        let mut table = Table::new(&["ID", "WHEN", "WHO", "WHAT", "OF", "MORE"]);
        for it in &all {
            table.row([
                it.id.to_string().into(),
                it.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into(),
                it.by.as_str().into(),
                it.action.as_str().into(),
                it.subject.as_str().into(),
                it.detail.as_str().into(),
            ]);
        }
        table.write(out)
    })
}

/// A head, and where in the JSON what stands under it is.
type Columns = &'static [(&'static str, &'static str)];

fn columns(kind: &str) -> Columns {
    match kind {
        "workloads" => &[
            ("NAME", "name"),
            ("STATUS", "status"),
            ("READY", "ready"),
            ("DESIRED", "desired"),
            ("NOTE", "note"),
            ("ADDRESS", "address"),
        ],
        "replicas" => &[
            ("NAME", "name"),
            ("STATUS", "status"),
            ("NODE", "node"),
            ("PHASE", "phase"),
            ("READY", "ready"),
            ("RESTARTS", "restarts"),
            ("GENERATION", "generation"),
        ],
        "targets" => &[
            ("NAME", "name"),
            ("STATUS", "status"),
            ("SINCE", "since@"),
            ("FAILURES", "consecutive_failures"),
            ("REASON", "last_reason"),
        ],
        "nodes" => &[
            ("NAME", "name"),
            ("STATUS", "status"),
            ("CONDITION", "condition"),
            ("SCHEDULING", "scheduling"),
            ("REPLICAS", "replicas"),
            ("ZONE", "zone"),
            ("LABELS", "labels"),
            ("ADDRESS", "address"),
            ("VERSION", "version"),
            ("HEARD", "last_heartbeat_at@"),
        ],
        "services" => &[("NAME", "service"), ("BALANCE", "balance"), ("ENDPOINTS", "endpoints")],
        "tokens" => &[
            ("ID", "id"),
            ("ROLE", "role"),
            ("NODE", "node"),
            ("CREATED", "created_at@"),
            ("BY", "created_by"),
            ("EXPIRES", "expires_at"),
            ("FOR", "description"),
        ],
        "stacks" | "deployments" | "agents" | "diagnostics" => columns_of_clusters(kind),
        _ => {
            &[("NAME", "name"), ("HOST", "host"), ("TYPES", "types"), ("PAUSED", "paused"), ("LAST", "last")]
        }
    }
}

/// The same, for what is in clusters of Kubernetes.
fn columns_of_clusters(kind: &str) -> Columns {
    match kind {
        "stacks" => &[
            ("NAME", "name"),
            ("LABELS", "labels"),
            ("CURRENT", "current"),
            ("AGENTS", "agents"),
            ("CREATED", "created_at@"),
            ("BY", "created_by"),
        ],
        "deployments" => &[
            ("ID", "id"),
            ("STACK", "stack"),
            ("SEQUENCE", "sequence"),
            ("CURRENT", "current"),
            ("DELETES", "deletion_marker"),
            ("CREATED", "created_at@"),
            ("BY", "created_by"),
        ],
        "agents" => &[
            ("NAME", "name"),
            ("SILENT", "silent"),
            ("MODE", "mode"),
            ("STACKS", "stacks"),
            ("MATCHES", "match_labels"),
            ("HEALTH", "health_enabled"),
            ("DIAGNOSTICS", "diagnostics_enabled"),
            ("VERSION", "version"),
            ("SEEN", "last_seen@"),
        ],
        _ => &[
            ("ID", "request_id"),
            ("STATUS", "status"),
            ("DEPLOYMENT OBJECT", "deployment_object_id"),
            ("REPLICA", "replica"),
            ("AGENT", "agent_id"),
            ("BY", "requested_by"),
            ("CREATED", "created_at@"),
            ("ERROR", "error"),
        ],
    }
}

/// Columns for people.
pub(super) fn table(kind: &str, found: &Value) -> Table {
    let columns = columns(kind);
    let heads: Vec<&str> = columns.iter().map(|it| it.0).collect();
    let mut table = Table::new(&heads);
    let now = Timestamp::now();
    let rows = found.as_array().map_or(std::slice::from_ref(found), Vec::as_slice);
    for row in rows {
        table.cells(columns.iter().map(|(_, field)| cell(row, field, now)).collect());
    }
    table
}

/// What stands in a field; with `@` behind its name, how long ago that was.
fn cell(row: &Value, field: &str, now: Timestamp) -> Cell {
    if let Some(field) = field.strip_suffix('@') {
        let at = row[field].as_str().and_then(|it| it.parse::<Timestamp>().ok());
        return at.map(|at| ago(at, now)).unwrap_or_default().into();
    }
    let value = &row[field];
    match field {
        "status" => match value.as_str().and_then(|it| it.parse().ok()) {
            Some(status) => super::table::status(status),
            None => text(value).into(),
        },
        "endpoints" => {
            let address = |it: &Value| {
                let address = format!("{}:{}", text(&it["address"]), text(&it["port"]));
                if it["ready"] == true { address } else { format!("({address})") }
            };
            let all: Vec<String> = value.as_array().into_iter().flatten().map(address).collect();
            all.join(" ").into()
        }
        _ => text(value).into(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(is) => if *is { "yes" } else { "no" }.to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            fields.iter().map(|(key, it)| format!("{key}={}", text(it))).collect::<Vec<_>>().join(",")
        }
        Value::Number(number) => number.to_string(),
    }
}
