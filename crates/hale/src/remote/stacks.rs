//! How stacks and deployment objects are, for `hale status` and `hale stack push --wait` (K8, K13).

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use hale_api::{
    Client, ClientError, describe,
    kube::{DeploymentHealth, StackHealth, StatusQuery},
};
use hale_model::Status;
use jiff::Timestamp;
use owo_colors::OwoColorize;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    output_closed,
    status::ago,
    table::{Cell, Table, dim, of_status, status, weighed},
};
use crate::{cli::Format, failure::Failure, output};

/// How often it is looked at while waiting: agents tell of a change within two seconds.
const EVERY: Duration = Duration::from_millis(250);

/// How often a watched one is drawn again.
const REDRAW: Duration = Duration::from_secs(2);

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Watched {
    /// A stack, by its name or id.
    Stack(String),
    /// A deployment object.
    Object(String),
}

/// How it is. As JSON, just what the API tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Seen {
    Stack(Box<StackHealth>),
    Object(Box<DeploymentHealth>),
}

/// What a name stands for in clusters; `None`: nothing.
///
/// # Errors
/// As its exit status says (C7).
pub(super) async fn find(client: &Client, name: &str) -> Result<Option<Watched>, Failure> {
    match client.stack(name).await {
        Ok(_) => return Ok(Some(Watched::Stack(name.to_owned()))),
        Err(ClientError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    match client.deployment_object(name).await {
        Ok(_) => Ok(Some(Watched::Object(name.to_owned()))),
        Err(ClientError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Watched {
    fn name(&self) -> &str {
        match self {
            Self::Stack(name) | Self::Object(name) => name,
        }
    }

    async fn look(&self, client: &Client) -> Result<Seen, Failure> {
        Ok(match self {
            Self::Stack(name) => {
                Seen::Stack(Box::new(client.stack_health(name, &StatusQuery::default()).await?))
            }
            Self::Object(id) => Seen::Object(Box::new(client.deployment_health(id).await?)),
        })
    }

    /// Shows it once.
    ///
    /// # Errors
    /// As its exit status says (C7).
    pub(super) async fn show(&self, client: &Client, format: Format) -> Result<(), Failure> {
        self.look(client).await?.show(format)
    }

    /// Waits until it has a status, and shows it then.
    ///
    /// # Errors
    /// As its exit status says (C7): 1 when it never comes.
    pub(super) async fn wait(
        &self,
        client: &Client,
        wanted: Status,
        limit: Duration,
        format: Format,
    ) -> Result<(), Failure> {
        let until = Instant::now() + limit;
        loop {
            // A server that is just starting is waited for as well.
            let seen = match self.look(client).await {
                Ok(seen) if seen.status() == wanted => return seen.show(format),
                Ok(seen) => Failure::Failed(format!(
                    "{} is {}, not {wanted}, after {}{}",
                    self.name(),
                    seen.status(),
                    describe::duration(limit),
                    seen.why()
                )),
                Err(failure @ Failure::Unreachable(_)) => failure,
                Err(failure) => return Err(failure),
            };
            if Instant::now() >= until {
                return Err(seen);
            }
            sleep_until(until.min(Instant::now() + EVERY)).await;
        }
    }

    /// Shows it at each change, until interrupted.
    ///
    /// # Errors
    /// As its exit status says (C7).
    pub(super) async fn watch(&self, client: &Client, format: Format) -> Result<(), Failure> {
        let clears = io::stdout().is_terminal() && format == Format::Table;
        let mut last = None;
        loop {
            let seen = self.look(client).await?;
            if clears {
                write!(output::stdout(), "\x1b[H\x1b[2J")?;
                seen.show(format)?;
            } else if last.as_ref() != Some(&seen) {
                seen.show(format)?;
            }
            last = Some(seen);
            tokio::select! {
                () = sleep(REDRAW) => {}
                closed = output_closed() => return Err(closed),
            }
        }
    }
}

impl Seen {
    fn status(&self) -> Status {
        match self {
            Self::Stack(it) => it.overall_status,
            Self::Object(it) => it.status,
        }
    }

    fn objects(&self) -> &[DeploymentHealth] {
        match self {
            Self::Stack(it) => &it.deployment_objects,
            Self::Object(it) => std::slice::from_ref(it),
        }
    }

    /// All conditions, for a message.
    fn why(&self) -> String {
        let all: Vec<&str> =
            self.objects().iter().flat_map(|it| &it.summary.conditions).map(String::as_str).collect();
        if all.is_empty() { String::new() } else { format!(": {}", all.join(", ")) }
    }

    fn show(&self, format: Format) -> Result<(), Failure> {
        output::write_value(self, format, |out| self.draw(out, Timestamp::now()))
    }

    fn draw(&self, out: &mut dyn Write, now: Timestamp) -> io::Result<()> {
        if let Self::Stack(it) = self
            && it.deployment_objects.is_empty()
        {
            let status = it.overall_status;
            return writeln!(out, "{}: nothing is pushed to {}", status.style(of_status(status)), it.stack);
        }
        objects(self.objects(), now).write(out)?;
        agents(self.objects(), out, now)?;
        resources(self.objects(), out)
    }
}

fn objects(all: &[DeploymentHealth], now: Timestamp) -> Table {
    let mut table = Table::new(&["STACK", "DEPLOYMENT OBJECT", "STATUS", "READY", "CHECKED", "CONDITIONS"]);
    for it in all {
        let checked = match it.checked_at {
            Some(at) => Cell::from(ago(at, now)),
            None => dim("not yet"),
        };
        let mut why: Vec<&str> = it.summary.conditions.iter().map(String::as_str).collect();
        if it.stale {
            why.insert(0, "stale");
        }
        if it.agents.is_empty() {
            why.push("no agent is given it");
        }
        table.row([
            it.stack.as_str().into(),
            it.deployment_object_id.as_str().into(),
            status(it.status),
            format!("{}/{}", it.summary.pods_ready, it.summary.pods_total).into(),
            checked,
            why.join(", ").into(),
        ]);
    }
    table
}

/// What each cluster says.
fn agents(all: &[DeploymentHealth], out: &mut dyn Write, now: Timestamp) -> io::Result<()> {
    let mut table = Table::new(&["AGENT", "STATUS", "SINCE", "READY", "CHECKED", "CONDITIONS"]);
    let mut any = false;
    for it in all.iter().flat_map(|it| &it.agents) {
        any = true;
        let mut why: Vec<&str> = it.summary.conditions.iter().map(String::as_str).collect();
        if it.clock_skew {
            why.push("its clock is ahead");
        }
        if it.stale {
            why.insert(0, "silent");
        }
        let told = |at: Option<Timestamp>| at.map(|at| ago(at, now)).unwrap_or_default();
        table.row([
            it.agent.as_str().into(),
            status(it.status),
            told(it.since).into(),
            format!("{}/{}", it.summary.pods_ready, it.summary.pods_total).into(),
            told(it.checked_at).into(),
            why.join(", ").into(),
        ]);
    }
    if !any {
        return Ok(());
    }
    writeln!(out)?;
    table.write(out)
}

fn resources(all: &[DeploymentHealth], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["RESOURCE", "NAMESPACE", "READY", "MESSAGE"]);
    let mut any = false;
    for it in all.iter().flat_map(|it| &it.summary.resources) {
        any = true;
        let severity =
            if it.ready { hale_model::event::Severity::Info } else { hale_model::event::Severity::Warning };
        table.row([
            format!("{}/{}", it.kind, it.name).into(),
            it.namespace.as_deref().unwrap_or_default().into(),
            weighed(if it.ready { "yes" } else { "no" }, severity),
            it.message.as_deref().unwrap_or_default().into(),
        ]);
    }
    if !any {
        return Ok(());
    }
    writeln!(out)?;
    table.write(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_shown_with_what_each_cluster_says_and_what_is_not_ready() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let summary = serde_json::json!({"pods_ready": 1, "pods_total": 2, "conditions": ["CrashLoopBackOff"],
            "resources": [{"kind": "Deployment", "name": "web", "namespace": "shop", "ready": false,
                "message": "1 of 2 pods ready"}]});
        let health = serde_json::json!({"stack_id": "s1", "stack": "shop", "overall_status": "degraded",
            "deployment_objects": [{"deployment_object_id": "d1", "stack": "shop", "status": "degraded",
                "summary": summary, "checked_at": "2026-01-01T00:00:30Z", "stale": false,
                "agents": [{"agent_id": "a1", "agent": "prod", "status": "degraded", "summary": summary,
                    "checked_at": "2026-01-01T00:00:30Z", "since": "2026-01-01T00:00:00Z", "stale": true,
                    "clock_skew": false}]}]});
        let seen = Seen::Stack(Box::new(serde_json::from_value(health.clone()).unwrap()));
        let mut out = Vec::new();
        seen.draw(&mut out, now).unwrap();
        let text = String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap();
        insta::assert_snapshot!(text, @r"
        STACK  DEPLOYMENT OBJECT  STATUS    READY  CHECKED  CONDITIONS
        shop   d1                 degraded  1/2    30s ago  CrashLoopBackOff

        AGENT  STATUS    SINCE     READY  CHECKED  CONDITIONS
        prod   degraded  1m0s ago  1/2    30s ago  silent, CrashLoopBackOff

        RESOURCE        NAMESPACE  READY  MESSAGE
        Deployment/web  shop       no     1 of 2 pods ready
        ");
        // What is printed as JSON is what the API told.
        assert_eq!(serde_json::to_value(&seen).unwrap(), health);
    }
}
