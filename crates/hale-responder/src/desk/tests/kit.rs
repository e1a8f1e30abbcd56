//! A desk with a book beside it, and its effects as lines.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use hale_api::runs::{Alert, Resource, Run, RunState};
use hale_health::Time;
use hale_model::spec::{
    AlertSeverity, Autonomy, Match, Program, Remote, Responder, ResponderLimits, Rule, Source, SourceKind,
    Stdin, Step, SuccessWhen, WebhookSource,
};
use jiff::Timestamp;

use super::super::{Desk, DeskSettings, Effect, Note, Now};
use crate::{
    alert::RawAlert,
    exec::{Ended, How},
    source::Taken,
};

pub(super) const fn secs(it: u64) -> Duration {
    Duration::from_secs(it)
}

pub(super) fn program(word: &str) -> Program {
    Program {
        command: vec![word.to_owned()],
        timeout: None,
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        user: None,
        prompt_file: None,
        stdin: Stdin::Alert,
        max_output: 1,
    }
}

/// A rule for alerts whose kind of fault is the rule's name.
pub(super) fn rule(name: &str, autonomy: Autonomy) -> Rule {
    Rule {
        name: name.to_owned(),
        matches: Match { fault_types: vec![name.to_owned()], ..Match::default() },
        run: program(name),
        autonomy,
        approval_timeout: secs(1000),
        success: SuccessWhen::default(),
        escalate: Vec::new(),
    }
}

pub(super) fn page() -> Step {
    Step::Program(Box::new(program("page")))
}

pub(super) fn webhook() -> Step {
    Step::Webhook(Remote { url: "http://127.0.0.1:1/".to_owned(), token_file: None, ca_file: None })
}

/// Clusters `c00` and on; rules `act`, `approve`, `observe`, and `heal`: recovered within 100 s, else a page, else a
/// webhook.
pub(super) fn responder(clusters: usize, limits: ResponderLimits) -> Responder {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let kind = WebhookSource { listen, path: "/".to_owned(), token_file: None, hmac_file: None };
    let source = |at: usize| Source {
        name: format!("c{at:02}"),
        labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
        kubeconfig: None,
        kind: SourceKind::Webhook(kind.clone()),
    };
    let success = SuccessWhen { recovered_within: Some(secs(100)), ..SuccessWhen::default() };
    let heal = Rule { success, escalate: vec![page(), webhook()], ..rule("heal", Autonomy::Act) };
    Responder {
        name: "triage".to_owned(),
        sources: (0..clusters).map(source).collect(),
        rules: vec![
            rule("act", Autonomy::Act),
            rule("approve", Autonomy::Approve),
            rule("observe", Autonomy::Observe),
            heal,
        ],
        limits,
        digest: String::new(),
    }
}

pub(super) fn raw(fault_type: &str, name: &str) -> RawAlert {
    RawAlert {
        fault_type: fault_type.to_owned(),
        resource: pod(name),
        context: serde_json::Value::Null,
        ..RawAlert::default()
    }
}

pub(super) fn pod(name: &str) -> Resource {
    Resource { kind: "Pod".to_owned(), name: name.to_owned(), ..Resource::default() }
}

pub(super) const fn ended(how: How) -> Ended {
    Ended { how, artifacts: Vec::new(), cost: None }
}

/// A desk, its time, and what a book would hold of it.
pub(super) struct Bench {
    pub(super) responder: Responder,
    pub(super) desk: Desk,
    pub(super) now: Now,
    pub(super) runs: BTreeMap<String, Run>,
    pub(super) alerts: BTreeMap<String, Alert>,
    ids: u32,
}

const SETTINGS: DeskSettings = DeskSettings { run_timeout: secs(300), max_queue_age: secs(600) };

impl Bench {
    pub(super) fn new(responder: Responder) -> Self {
        // A machine that was started this very moment: what was before has no place on its clock.
        let now = Now { time: Time::ZERO, wall: Timestamp::from_second(1_800_000_000).unwrap() };
        let desk = Desk::new(Arc::new(responder.clone()), SETTINGS, now);
        Self { responder, desk, now, runs: BTreeMap::new(), alerts: BTreeMap::new(), ids: 0 }
    }

    /// With two clusters.
    pub(super) fn with(limits: ResponderLimits) -> Self {
        Self::new(responder(2, limits))
    }

    pub(super) fn pass(&mut self, by: Duration) {
        self.now.time += by;
        self.now.wall += by;
    }

    fn with_ids<T>(&mut self, ask: impl FnOnce(&mut Desk, Now, &mut dyn FnMut() -> String) -> T) -> T {
        let ids = &mut self.ids;
        ask(&mut self.desk, self.now, &mut || {
            *ids += 1;
            format!("{ids:05}")
        })
    }

    /// Writes effects into the book.
    fn write(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        for effect in &effects {
            match effect {
                Effect::PutAlert(record) => {
                    self.alerts.insert(record.alert.id.clone(), record.alert.clone());
                }
                Effect::PutRun(run) => {
                    self.runs.insert(run.id.clone(), (**run).clone());
                }
                _ => {}
            }
        }
        effects
    }

    pub(super) fn hear_raw(&mut self, cluster: &str, raw: RawAlert) -> (Taken, Vec<Effect>) {
        let (taken, effects) = self.with_ids(|desk, now, ids| desk.heard(cluster, raw, now, ids));
        (taken, self.write(effects))
    }

    pub(super) fn hear(&mut self, cluster: &str, fault_type: &str, name: &str) -> Vec<String> {
        lines(&self.hear_raw(cluster, raw(fault_type, name)).1)
    }

    pub(super) fn next_effects(&mut self) -> Vec<Effect> {
        let effects = self.desk.next(self.now);
        self.write(effects)
    }

    pub(super) fn next(&mut self) -> Vec<String> {
        lines(&self.next_effects())
    }

    pub(super) fn sweep_effects(&mut self) -> Vec<Effect> {
        let effects = self.with_ids(|desk, now, ids| desk.sweep(now, ids));
        self.write(effects)
    }

    pub(super) fn sweep(&mut self) -> Vec<String> {
        lines(&self.sweep_effects())
    }

    pub(super) fn end_effects(&mut self, run: &str, ended: Ended) -> Vec<Effect> {
        let effects = self.with_ids(|desk, now, ids| desk.ended(run, ended, now, ids));
        self.write(effects)
    }

    pub(super) fn end(&mut self, run: &str, how: How) -> Vec<String> {
        lines(&self.end_effects(run, ended(how)))
    }

    pub(super) fn recover_effects(&mut self, cluster: &str, name: &str) -> Vec<Effect> {
        let effects = self.with_ids(|desk, now, ids| desk.recovered(cluster, &pod(name), now, ids));
        self.write(effects)
    }

    pub(super) fn recover(&mut self, cluster: &str, name: &str) -> Vec<String> {
        lines(&self.recover_effects(cluster, name))
    }

    pub(super) fn sent_effects(&mut self, run: &str, result: Result<(), String>) -> Vec<Effect> {
        let effects = self.with_ids(|desk, now, ids| desk.sent(run, result, now, ids));
        self.write(effects)
    }

    pub(super) fn decide_effects(
        &mut self,
        run: &str,
        approve: bool,
    ) -> Result<Vec<Effect>, super::super::DecideError> {
        let decided = self.with_ids(|desk, now, ids| desk.decide(run, approve, "ada", "", now, ids));
        decided.map(|it| self.write(it))
    }

    /// The responder dies and is started again, on a machine that was started again too.
    pub(super) fn restart_effects(&mut self) -> Vec<Effect> {
        self.now.time = Time::from_secs(1);
        self.desk = Desk::new(Arc::new(self.responder.clone()), SETTINGS, self.now);
        let runs = self.runs.values().map(|run| (run.clone(), self.alerts[&run.alert].clone())).collect();
        let effects = self.desk.restore(runs, self.now);
        self.write(effects)
    }

    pub(super) fn restart(&mut self) -> Vec<String> {
        lines(&self.restart_effects())
    }

    pub(super) fn state(&self, run: &str) -> RunState {
        self.runs[run].state
    }

    pub(super) fn reason(&self, run: &str) -> &str {
        self.runs[run].reason.as_deref().unwrap_or_default()
    }

    /// Seconds until the desk wants to be asked.
    pub(super) fn wakes_in(&self) -> Option<u64> {
        self.desk.wake_at(self.now).map(|it| it.since(self.now.time).as_secs())
    }
}

/// What is done, a line each, without what is only counted.
pub(super) fn lines(effects: &[Effect]) -> Vec<String> {
    effects.iter().filter_map(line).collect()
}

fn line(effect: &Effect) -> Option<String> {
    let word = |it: &dyn std::fmt::Debug| format!("{it:?}").to_lowercase();
    Some(match effect {
        Effect::PutAlert(it) => format!("alert {} {}", it.alert.id, word(&it.outcome)),
        Effect::PutRun(it) => format!("run {} {}", it.id, it.state.as_str()),
        Effect::Start(it) => format!("start {} {}", it.run.id, it.program.command.join(" ")),
        Effect::Watch(it) => format!("watch {}", it.run.id),
        Effect::Unwatch { run } => format!("unwatch {run}"),
        Effect::Send { run, .. } => format!("send {run}"),
        Effect::Note(note) => match note {
            Note::Received { .. } | Note::Queued { .. } | Note::Dequeued { .. } | Note::Spawned { .. } => {
                return None;
            }
            Note::Filtered { reason, .. } => format!("filtered {}", reason.as_str()),
            Note::Expired { run, age, max_age } => {
                format!("expired {} after {} of {}", run.id, age.as_secs(), max_age.as_secs())
            }
            Note::Overflowed { alert, refused: true, .. } => format!("refused {alert}"),
            Note::Overflowed { alert, refused: false, .. } => format!("dropped {alert}"),
            Note::Completed { run } => format!("completed {}", run.id),
            Note::Breaker { breaker, state, .. } => format!("{} {}", breaker.as_str(), word(state)),
            Note::AwaitsApproval { run } => format!("asks {}", run.id),
            Note::BudgetExhausted { cluster, .. } => format!("budget {cluster}"),
        },
    })
}

/// A severity by its word.
pub(super) fn severe(word: &str) -> AlertSeverity {
    word.parse().unwrap()
}
