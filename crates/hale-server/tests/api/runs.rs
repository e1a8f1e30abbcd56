//! The runs of a responder: seen, and decided by a person (R11, R12).

use std::sync::{Arc, Mutex};

use hale_api::{
    Client, ClientError, Code, TOKEN_FILE,
    runs::{AlertList, Resource, Run, RunDecision, RunDetail, RunPage, RunQuery, RunState},
};
use hale_model::{
    cluster::Role,
    event::{EventData, NewEvent, RunStarted},
    spec::{AlertSeverity, Autonomy},
};
use hale_server::{Limits, Listeners, Runs, RunsError, TokenSet, control::BoxFuture};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::hale::{Hale, TOKEN, raw, request, token_of};

/// Runs r0 to r2; r2, the newest, waits for a person.
#[derive(Debug)]
struct Responder {
    runs: Mutex<Vec<Run>>,
    asked: Mutex<Vec<RunQuery>>,
    broken: Mutex<bool>,
}

impl Responder {
    fn new() -> Arc<Self> {
        let state = |number| if number == 2 { RunState::AwaitingApproval } else { RunState::Succeeded };
        let runs = (0..3).map(|number| run(&format!("r{number}"), state(number))).collect();
        Arc::new(Self { runs: Mutex::new(runs), asked: Mutex::default(), broken: Mutex::default() })
    }

    fn reachable(&self) -> Result<(), RunsError> {
        let broken = *self.broken.lock().unwrap();
        if broken { Err(RunsError::Unavailable("the book can't be read".to_owned())) } else { Ok(()) }
    }
}

impl Runs for Responder {
    fn list(&self, query: RunQuery) -> BoxFuture<'_, Result<RunPage, RunsError>> {
        Box::pin(async move {
            self.reachable()?;
            let limit = query.limit.unwrap_or(100) as usize;
            let wanted = |it: &&Run| {
                query.state.is_none_or(|state| it.state == state)
                    && query.cluster.as_ref().is_none_or(|cluster| it.cluster == *cluster)
                    && query.before.as_ref().is_none_or(|before| it.id < *before)
            };
            let all: Vec<Run> = self.runs.lock().unwrap().iter().rev().filter(wanted).cloned().collect();
            let next = all.get(limit - 1).filter(|_| all.len() > limit).map(|it| it.id.clone());
            self.asked.lock().unwrap().push(query);
            Ok(RunPage { runs: all.into_iter().take(limit).collect(), next })
        })
    }

    fn run<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<RunDetail>, RunsError>> {
        Box::pin(async move {
            self.reachable()?;
            let found = self.runs.lock().unwrap().iter().find(|it| it.id == id).cloned();
            Ok(found.map(|run| RunDetail {
                run,
                alert: None,
                duplicates: Vec::new(),
                stdout: "done\n".to_owned(),
                stderr: String::new(),
            }))
        })
    }

    fn alerts(&self) -> BoxFuture<'_, Result<AlertList, RunsError>> {
        Box::pin(async { self.reachable().map(|()| AlertList::default()) })
    }

    fn decide<'a>(
        &'a self,
        id: &'a str,
        approve: bool,
        by: &'a str,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<Run, RunsError>> {
        Box::pin(async move {
            let mut runs = self.runs.lock().unwrap();
            let run = runs.iter_mut().find(|it| it.id == id).ok_or(RunsError::NotFound)?;
            let wanted = if approve { RunState::Queued } else { RunState::Rejected };
            if run.state != RunState::AwaitingApproval && run.state != wanted {
                return Err(RunsError::NotApplicable(format!("{id} is {}", run.state.as_str())));
            }
            run.state = wanted;
            run.decided_by = Some(by.to_owned());
            run.reason = Some(reason.to_owned());
            Ok(run.clone())
        })
    }
}

fn run(id: &str, state: RunState) -> Run {
    let resource = Resource { kind: "Pod".to_owned(), name: "web-0".to_owned(), ..Resource::default() };
    Run {
        id: id.to_owned(),
        responder: "oncall".to_owned(),
        alert: format!("a-{id}"),
        cluster: if id == "r0" { "us-1" } else { "eu-1" }.to_owned(),
        severity: AlertSeverity::Error,
        fault_type: "CrashLoop".to_owned(),
        resource,
        rule: "crashes".to_owned(),
        autonomy: Autonomy::Approve,
        step: 0,
        escalates: None,
        state,
        reason: None,
        duplicates: 0,
        queued_at: Timestamp::UNIX_EPOCH,
        approve_until: None,
        decided_by: None,
        started_at: None,
        ended_at: None,
        recover_until: None,
        finished_at: None,
        exit_code: None,
        signal: None,
        workspace: None,
        artifacts: Vec::new(),
        cost: None,
        command: vec!["fix-it".to_owned()],
    }
}

fn decision(by: &str, reason: &str) -> RunDecision {
    RunDecision { by: Some(by.to_owned()), reason: reason.to_owned() }
}

fn ids(page: &RunPage) -> Vec<&str> {
    page.runs.iter().map(|it| it.id.as_str()).collect()
}

#[tokio::test]
async fn runs_are_listed_in_pages_and_by_what_is_asked_for() {
    let hale = Hale::start_responder(Responder::new()).await;
    let client = hale.client();
    let first = client.runs(&RunQuery { limit: Some(2), ..RunQuery::default() }).await.unwrap();
    assert_eq!(ids(&first), ["r2", "r1"]);
    let rest = client.runs(&RunQuery { before: first.next.clone(), ..RunQuery::default() }).await.unwrap();
    assert_eq!((ids(&rest), &rest.next), (vec!["r0"], &None));
    let waiting = RunQuery { state: Some(RunState::AwaitingApproval), ..RunQuery::default() };
    assert_eq!(ids(&client.runs(&waiting).await.unwrap()), ["r2"]);
    let elsewhere = RunQuery { cluster: Some("us-1".to_owned()), ..RunQuery::default() };
    assert_eq!(ids(&client.runs(&elsewhere).await.unwrap()), ["r0"]);
    for wrong in ["limit=0", "limit=1001", "limit=x", "state=done"] {
        let answer = raw(hale.address, &request("GET", &format!("/api/v1/runs?{wrong}"), "")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{wrong}: {answer}");
    }
    hale.stop().await;
}

#[tokio::test]
async fn one_run_is_shown_with_its_outputs_and_one_that_is_not_there_is_not_found() {
    let responder = Responder::new();
    let hale = Hale::start_responder(Arc::clone(&responder) as _).await;
    let found = hale.client().run("r1").await.unwrap();
    assert_eq!((found.run.id.as_str(), found.stdout.as_str()), ("r1", "done\n"));
    assert_eq!(hale.client().alerts().await.unwrap(), AlertList::default());
    let Err(ClientError::NotFound(problem)) = hale.client().run("r9").await else { panic!("it is there") };
    assert!(problem.detail.contains("there is no run \"r9\""), "{problem}");
    *responder.broken.lock().unwrap() = true;
    let Err(ClientError::Refused(problem)) = hale.client().run("r1").await else { panic!("it is told") };
    assert_eq!((problem.code, problem.detail.as_str()), (Code::Unavailable, "the book can't be read"));
    hale.stop().await;
}

#[tokio::test]
async fn a_person_approves_a_run_once_and_goes_on_record() {
    let hale = Hale::start_responder(Responder::new()).await;
    let client = hale.client();
    let run = client.decide_run("r2", true, &decision("ann", " seen it ")).await.unwrap();
    assert_eq!(run.state, RunState::Queued);
    assert_eq!(run.decided_by.as_deref(), Some("ann via cli"));
    assert_eq!(run.reason.as_deref(), Some("seen it"));
    client.decide_run("r2", true, &decision("ann", "")).await.unwrap();
    let Err(ClientError::Refused(problem)) = client.decide_run("r2", false, &decision("bob", "")).await
    else {
        panic!("what was approved is rejected")
    };
    assert_eq!((problem.code, problem.detail.as_str()), (Code::NotApplicable, "r2 is queued"));
    let record = hale.store.audit_log(0, 100).await.unwrap();
    let (_, first) = &record[0];
    assert_eq!((first.by.as_str(), first.action.as_str()), ("ann via cli", "approve"));
    assert_eq!((first.subject.as_str(), first.detail.as_str()), ("runs/r2", "seen it, from 127.0.0.1"));
    hale.stop().await;
}

#[tokio::test]
async fn only_who_may_act_decides_and_only_what_there_is() {
    let responder = Responder::new();
    let hale = Hale::start_responder(Arc::clone(&responder) as _).await;
    let url = format!("http://{}", hale.address);
    let viewer = Client::remote(&url, &token_of(Role::Viewer)).unwrap();
    let refused = viewer.decide_run("r2", true, &RunDecision::default()).await;
    assert!(matches!(refused, Err(ClientError::NotAllowed(_))), "{refused:?}");
    assert_eq!(viewer.runs(&RunQuery::default()).await.unwrap().runs.len(), 3);
    let missing = hale.client().decide_run("r9", true, &RunDecision::default()).await;
    assert!(matches!(missing, Err(ClientError::NotFound(_))), "{missing:?}");
    let long = hale.client().decide_run("r2", true, &decision("ann", &"x".repeat(1025))).await;
    assert!(matches!(long, Err(ClientError::Refused(it)) if it.code == Code::BadRequest));
    let answer =
        raw(hale.address, &request("POST", "/api/v1/runs/r2/restart", "Content-Length: 0\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert_eq!(responder.runs.lock().unwrap()[2].state, RunState::AwaitingApproval);
    assert!(hale.store.audit_log(0, 100).await.unwrap().is_empty());
    hale.stop().await;
}

#[tokio::test]
async fn where_no_responder_runs_there_are_no_runs() {
    let hale = Hale::start().await;
    let client = hale.client();
    assert_eq!(client.runs(&RunQuery::default()).await.unwrap(), RunPage::default());
    assert_eq!(client.alerts().await.unwrap(), AlertList::default());
    assert!(matches!(client.run("r1").await, Err(ClientError::NotFound(_))));
    let Err(ClientError::Refused(problem)) = client.decide_run("r1", true, &RunDecision::default()).await
    else {
        panic!("something was decided")
    };
    assert_eq!((problem.code, problem.detail.as_str()), (Code::NotApplicable, "no responder runs here"));
    hale.stop().await;
}

#[tokio::test]
async fn a_responder_alone_serves_its_runs_on_the_socket_of_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(TOKEN_FILE), TOKEN).unwrap();
    let end = CancellationToken::new();
    let tokens = TokenSet::new().with("cli", TOKEN, Role::Admin);
    let router = hale_server::runs_router(Responder::new(), tokens);
    let socket = hale_server::bind_socket(dir.path()).unwrap();
    let listeners = Listeners { socket: Some(socket), ..Listeners::default() };
    let serving = tokio::spawn(hale_server::serve(router, listeners, Limits::default(), end.clone()));
    let client = Client::local(dir.path()).unwrap();
    assert_eq!(client.runs(&RunQuery::default()).await.unwrap().runs.len(), 3);
    assert_eq!(client.run("r1").await.unwrap().run.id, "r1");
    let run = client.decide_run("r2", false, &decision("ann", "no")).await.unwrap();
    assert_eq!((run.state, run.decided_by.as_deref()), (RunState::Rejected, Some("ann via cli")));
    assert!(matches!(client.overview().await, Err(ClientError::NotFound(_))));
    std::fs::write(dir.path().join(TOKEN_FILE), "hale_other_00").unwrap();
    let other = Client::local(dir.path()).unwrap();
    assert!(matches!(other.runs(&RunQuery::default()).await, Err(ClientError::NotAllowed(_))));
    end.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn what_a_responder_tells_is_an_event_like_any_other() {
    let hale = Hale::start_cluster().await;
    let run = run("r1", RunState::Running);
    let data = EventData::RunStarted(RunStarted { run: run.facts() });
    assert!(hale.cluster().tell(NewEvent::of_responder("oncall", "r1", Timestamp::UNIX_EPOCH, data)));
    hale.store.flush().await.unwrap();
    let query = hale_api::events::EventQuery { kind: Some("run.started".to_owned()), ..Default::default() };
    let page = hale.client().events(&query).await.unwrap();
    let [event] = &page.events[..] else { panic!("{page:?}") };
    assert_eq!((event.source.as_str(), event.subject.as_str()), ("/responders/oncall", "r1"));
    assert_eq!(event.data.run().unwrap().resource.name, "web-0");
    hale.stop().await;
}
