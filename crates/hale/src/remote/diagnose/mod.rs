//! `hale diagnose NAME`: asks whoever has it for what explains a state, waits, and prints it (K9, K12).

mod cluster;
mod node;

use std::{collections::BTreeSet, time::Duration};

use hale_api::{
    Client, ClientError, Collection, Problem, describe,
    kube::{Bundle, Diagnostics, DiagnosticsAccepted, DiagnosticsRequest, DiagnosticsStatus, ReplicaBundle},
};
use hale_model::status::Overview;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{
    block, client, find,
    stacks::{self, Watched},
};
use crate::{
    cli::{DiagnoseArgs, Format},
    failure::{Failure, say},
    output,
};

/// How often it is asked how far a request is: what an agent with a stream collects is there within two seconds.
const EVERY: Duration = Duration::from_millis(200);

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7): 1 when nothing could be collected, or not in time.
pub(crate) fn run(args: &DiagnoseArgs) -> Result<(), Failure> {
    block(async {
        let client = client(&args.server)?;
        let mut asked = Vec::new();
        for subject in subjects(&client, &args.name).await? {
            let accepted = subject.ask(&client, args.agent.as_deref()).await?;
            say(&format!("asked for diagnostics of {}: request {}", subject.name(), accepted.request_id));
            asked.push(accepted);
        }
        if args.no_wait {
            return show_accepted(&asked, args.output.output);
        }
        let until = Instant::now() + args.timeout;
        let mut done = Vec::new();
        for accepted in &asked {
            done.push(wait(&client, &accepted.request_id, until, args.timeout).await?);
        }
        show_all(&done, args.output.output)?;
        // What failed has been shown with its reason; the exit status says so, too.
        match done.iter().find(|it| it.status == DiagnosticsStatus::Failed) {
            Some(it) => Err(Failure::Failed(format!("request {}: {}", it.request_id, why(it)))),
            None => Ok(()),
        }
    })
}

/// Shows a request, with its result where there is one: `hale get diagnostics ID`.
///
/// # Errors
/// As its exit status says (C7).
pub(super) async fn show(client: &Client, id: &str, format: Format) -> Result<(), Failure> {
    show_all(&[client.diagnostics(id).await?], format)
}

/// What diagnostics are asked of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    /// A deployment object, by its id.
    Object(String),
    /// A replica or target.
    OnNode(String),
}

impl Subject {
    fn name(&self) -> &str {
        match self {
            Self::Object(name) | Self::OnNode(name) => name,
        }
    }

    async fn ask(&self, client: &Client, agent: Option<&str>) -> Result<DiagnosticsAccepted, Failure> {
        match self {
            Self::Object(id) => {
                let request = DiagnosticsRequest { agent_id: agent.map(str::to_owned) };
                client.request_diagnostics(id, &request).await.map_err(several)
            }
            Self::OnNode(name) if agent.is_some() => {
                let text = format!("{name} runs on a node, which is the one to collect: leave --agent out");
                Err(Failure::Usage(text))
            }
            Self::OnNode(name) => Ok(client.request_replica_diagnostics(name).await?),
        }
    }
}

/// A refusal, with what to type when several agents have what is asked about.
fn several(error: ClientError) -> Failure {
    match error {
        ClientError::Refused(Problem { status: 409, detail, errors, .. }) if !errors.is_empty() => {
            Failure::Failed(format!("{detail}; name one with --agent"))
        }
        error => error.into(),
    }
}

/// What a name stands for.
async fn subjects(client: &Client, name: &str) -> Result<Vec<Subject>, Failure> {
    let overview = client.overview().await?;
    match find(&overview, name) {
        Ok(Collection::Workloads) => return replicas(&overview, name),
        Ok(Collection::Replicas | Collection::Targets) => return Ok(vec![Subject::OnNode(name.to_owned())]),
        Err(_) => {}
    }
    match stacks::find(client, name).await? {
        Some(Watched::Object(id)) => Ok(vec![Subject::Object(id)]),
        Some(Watched::Stack(stack)) => match client.stack(&stack).await?.current {
            Some(id) => Ok(vec![Subject::Object(id)]),
            None => Err(Failure::Failed(format!(
                "nothing is pushed to {stack} yet: `hale stack push {stack} FILE`"
            ))),
        },
        None => Err(Failure::NotFound(format!(
            "there is no stack, deployment object, workload, replica or target {name:?}; `hale status` and `hale get \
             stacks` list what there is"
        ))),
    }
}

/// Each replica of a workload.
fn replicas(overview: &Overview, workload: &str) -> Result<Vec<Subject>, Failure> {
    let found = overview.workloads.iter().filter(|it| it.name == workload).flat_map(|it| &it.replicas);
    let names: BTreeSet<(usize, &str)> = found.map(|it| (it.name.len(), it.name.as_str())).collect();
    if names.is_empty() {
        return Err(Failure::Failed(format!("{workload} has no replicas")));
    }
    Ok(names.into_iter().map(|(_, name)| Subject::OnNode(name.to_owned())).collect())
}

async fn wait(client: &Client, id: &str, until: Instant, limit: Duration) -> Result<Diagnostics, Failure> {
    let mut told = None;
    loop {
        let request = client.diagnostics(id).await?;
        if told != Some(request.status) && !request.status.is_final() {
            say(&match request.status {
                DiagnosticsStatus::Claimed => format!("{id}: its agent collects"),
                _ => format!("{id}: waiting for its agent"),
            });
        }
        told = Some(request.status);
        if request.status.is_final() {
            return Ok(request);
        }
        if Instant::now() >= until {
            return Err(Failure::Failed(format!(
                "request {id} is still {} after {}; `hale get diagnostics {id}` shows what comes of it",
                request.status.as_str(),
                describe::duration(limit)
            )));
        }
        sleep(EVERY.min(until.saturating_duration_since(Instant::now()))).await;
    }
}

fn show_accepted(asked: &[DiagnosticsAccepted], format: Format) -> Result<(), Failure> {
    one_or_all(asked, format, |out| {
        asked.iter().try_for_each(|it| writeln!(out, "{}  {}", it.request_id, it.status.as_str()))
    })
}

fn show_all(done: &[Diagnostics], format: Format) -> Result<(), Failure> {
    one_or_all(done, format, |out| {
        for (place, it) in done.iter().enumerate() {
            if place > 0 {
                writeln!(out)?;
            }
            draw(it, out, Timestamp::now())?;
        }
        Ok(())
    })
}

/// One request as itself, those of a workload's replicas as a list.
fn one_or_all<T: serde::Serialize>(
    all: &[T],
    format: Format,
    table: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>,
) -> Result<(), Failure> {
    match all {
        [one] => output::write_value(one, format, table),
        all => output::write_value(&all, format, table),
    }
}

fn draw(it: &Diagnostics, out: &mut dyn std::io::Write, now: Timestamp) -> std::io::Result<()> {
    let about = it.deployment_object_id.as_deref().or(it.replica.as_deref()).unwrap_or("?");
    let took = it.completed_at.and_then(|at| Duration::try_from(at.duration_since(it.created_at)).ok());
    let took = took.map(|it| format!(" after {}", describe::duration(it))).unwrap_or_default();
    writeln!(out, "{about}: request {} of {}, {}{took}", it.request_id, it.requested_by, it.status.as_str())?;
    let Some(result) = &it.result else {
        return if it.status == DiagnosticsStatus::Failed { writeln!(out, "  {}", why(it)) } else { Ok(()) };
    };
    // A newer server's result may hold more than this version knows; what it knows is shown.
    if it.replica.is_some() {
        match serde_json::from_value::<ReplicaBundle>(result.clone()) {
            Ok(bundle) => node::draw(&bundle, out, now),
            Err(error) => writeln!(out, "  the result can't be shown: {error}; -o json prints it"),
        }
    } else {
        match serde_json::from_value::<Bundle>(result.clone()) {
            Ok(bundle) => cluster::draw(&bundle, out, now),
            Err(error) => writeln!(out, "  the result can't be shown: {error}; -o json prints it"),
        }
    }
}

/// Why a request failed, in words.
fn why(it: &Diagnostics) -> String {
    match it.error.as_deref() {
        Some("diagnostics_disabled") => {
            "its agent has diagnostics disabled (--diagnostics-enabled)".to_owned()
        }
        Some(error) => error.to_owned(),
        None => "it failed, and no reason is known".to_owned(),
    }
}
