//! What explains the state of a replica or target on a node: collected on request, part by part (K12).
//!
//! The same form as what is collected in clusters, and over the ways by which nodes are asked anyway: its status, what
//! its probes saw, its last lines, how its runs ended, what it uses, what happened to it. Each part has a deadline of its
//! own, so that a node that hangs costs that part alone, and the bundle says so.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use hale_api::{
    events::EventQuery,
    kube::{Collected, CollectedState, ReplicaBundle, ResourceUse},
    logs::LogLine,
    outcomes::ProbeHistory,
};
use hale_model::{
    event::{Event, EventData},
    mask::Masker,
    status::{ExitStatus, Overview},
};
use hale_store::Store;
use jiff::Timestamp;
use tokio::time::timeout;

use crate::control::{Control, OrderError};

/// How long each part may take.
const PART: Duration = Duration::from_secs(5);

/// So many of its last lines are looked at.
const LINES: u32 = 50;

/// The most bytes of lines (K11).
const LOG_BYTES: usize = 16 * 1024;

/// So many of its last events are looked at.
const EVENTS: usize = 50;

/// So many of its last exits are told, out of so many events of exits.
const EXITS: usize = 20;

/// What a part came to.
type Part<T> = Result<T, String>;

/// Collects. What can't be had is told in the bundle.
pub(crate) async fn collect(
    control: &dyn Control,
    store: &Store,
    overview: &Overview,
    name: &str,
) -> ReplicaBundle {
    let replica = overview.workloads.iter().flat_map(|it| &it.replicas).find(|it| it.name == name).cloned();
    let target = overview.targets.iter().find(|it| it.name == name).cloned();
    let runs = replica.is_some();
    let (probes, log, events, exits, uses) = tokio::join!(
        bounded(async { control.history(name).await.map_err(told) }),
        bounded(async { if runs { lines(control, name).await } else { Ok(Vec::new()) } }),
        bounded(last_events(store, name, None, EVENTS)),
        bounded(last_events(store, name, Some("replica.exited"), EXITS)),
        bounded(async { control.resource_use(name).await.map_err(told) }),
    );
    let mut collection =
        vec![Collected { part: "status".to_owned(), state: CollectedState::Ok, error: None }];
    let mut part = |name: &str, state: Result<bool, &String>| {
        let (state, error) = match state {
            Ok(true) => (CollectedState::Empty, None),
            Ok(false) => (CollectedState::Ok, None),
            Err(error) => (CollectedState::Error, Some(error.clone())),
        };
        collection.push(Collected { part: name.to_owned(), state, error });
    };
    part("probes", probes.as_ref().map(|it: &Vec<ProbeHistory>| it.iter().all(|it| it.runs.is_empty())));
    part("events", events.as_ref().map(Vec::is_empty));
    if runs {
        part("logs", log.as_ref().map(Vec::is_empty));
        part("exits", exits.as_ref().map(Vec::is_empty));
        part("resources", uses.as_ref().map(Option::is_none));
    }
    let node = replica.as_ref().map(|it| it.node.clone()).filter(|it| !it.is_empty());
    ReplicaBundle {
        collected_at: Timestamp::now(),
        subject: name.to_owned(),
        node,
        replica: replica.map(Box::new),
        target: target.map(Box::new),
        probes: probes.unwrap_or_default(),
        log_tail: log.unwrap_or_default(),
        exits: exits.unwrap_or_default().iter().filter_map(|it| exit(it)).collect(),
        resources: uses.unwrap_or_default(),
        events: events.unwrap_or_default().iter().map(|it| Event::clone(it)).collect(),
        collection,
    }
}

async fn bounded<T>(part: impl Future<Output = Part<T>>) -> Part<T> {
    timeout(PART, part).await.unwrap_or_else(|_| Err(format!("no answer within {} s", PART.as_secs())))
}

fn told(error: OrderError) -> String {
    error.to_string()
}

async fn lines(control: &dyn Control, name: &str) -> Part<Vec<LogLine>> {
    let mut pieces = control.logs(name.to_owned(), Some(LINES), false).await.map_err(told)?;
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        all.extend(piece.map_err(told)?);
        // A node that tells more than it was asked for is not believed to end.
        if all.len() > LINES as usize * 100 {
            break;
        }
    }
    Ok(tidy(all))
}

/// Lines that can be shown anywhere: secrets masked, without control sequences, the last ones that fit.
fn tidy(all: Vec<LogLine>) -> Vec<LogLine> {
    let masker = Masker::default();
    let mut left = LOG_BYTES;
    let mut kept = Vec::new();
    for mut line in all.into_iter().rev().take(LINES as usize) {
        line.text = masker.line(&line.text);
        if line.text.len() > left {
            // Of the line at the cut its end is kept: that is the nearer to what happened.
            let from = line.text.len() - left;
            let from = (from..=line.text.len()).find(|it| line.text.is_char_boundary(*it)).unwrap_or(0);
            line.text = line.text.split_off(from);
            if !line.text.is_empty() {
                kept.push(line);
            }
            break;
        }
        left -= line.text.len();
        kept.push(line);
    }
    kept.reverse();
    kept
}

async fn last_events(store: &Store, name: &str, kind: Option<&str>, count: usize) -> Part<Vec<Arc<Event>>> {
    let query = EventQuery {
        subject: Some(name.to_owned()),
        kind: kind.map(str::to_owned),
        newest: true,
        ..EventQuery::default()
    };
    let (events, _) = store.events(&query, count).await.map_err(|error| error.to_string())?;
    Ok(events.into_iter().filter(|it| it.subject == name).collect())
}

fn exit(event: &Event) -> Option<ExitStatus> {
    match &event.data {
        EventData::ReplicaExited(it) => Some(it.exit.clone()),
        _ => None,
    }
}

/// What the agent of a node told of a run's use.
pub(crate) fn used(usage: &hale_api::proto::Usage) -> ResourceUse {
    ResourceUse {
        memory_bytes: usage.memory_bytes,
        cpu_seconds: usage.cpu_seconds,
        processes: usage.processes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine {
            replica: "web-0".to_owned(),
            time: String::new(),
            stream: "stdout".to_owned(),
            whole: true,
            text: text.to_owned(),
        }
    }

    #[test]
    fn lines_are_shown_without_what_drives_a_terminal_and_without_secrets() {
        let said = ["\u{1b}[31mred\u{1b}[0m\ttab\r", "password=hunter22 ok"];
        let tidied: Vec<String> = tidy(said.map(line).into()).into_iter().map(|it| it.text).collect();
        assert_eq!(tidied, ["red\ttab", "password=*** ok"]);
    }

    #[test]
    fn the_last_lines_are_kept_as_far_as_they_fit() {
        let many: Vec<LogLine> = (0..200).map(|it| line(&format!("line {it}"))).collect();
        let kept = tidy(many);
        assert_eq!((kept.len(), kept[49].text.as_str()), (50, "line 199"));

        let large = tidy(vec![line(&"é".repeat(LOG_BYTES)), line("last")]);
        let bytes: usize = large.iter().map(|it| it.text.len()).sum();
        assert!(bytes <= LOG_BYTES && bytes > LOG_BYTES - 4, "{bytes}");
        assert_eq!(large.last().unwrap().text, "last");
    }
}
