//! `hale plan FILE…` (C5, H27): how long each probe takes to detect, to gate and to restart, before anything runs.

use std::time::Duration;

use comfy_table::Table;
use hale_health::{ProbeKind, ProbeTiming, ReplicaPolicy, RestartMode, Span, plan};
use hale_model::{
    describe,
    file::Declared,
    spec::{Probe, Responder, Target, Workload},
};
use serde::Serialize;

use crate::{cli::PlanArgs, failure::Failure, files, output};

/// Best and worst case, in seconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Times {
    best_seconds: f64,
    worst_seconds: f64,
}

impl From<Span> for Times {
    fn from(span: Span) -> Self {
        Self { best_seconds: span.best.as_secs_f64(), worst_seconds: span.worst.as_secs_f64() }
    }
}

/// One probe of a workload, or a target's.
#[derive(Debug, Serialize)]
struct ProbeRow {
    probe: String,
    check: &'static str,
    detect: Times,
    gate: Option<Times>,
    restart: Option<Times>,
    recover: Option<Times>,
}

#[derive(Debug, Serialize)]
struct WorkloadPlan {
    name: String,
    probes: Vec<ProbeRow>,
}

#[derive(Debug, Serialize)]
struct TargetPlan {
    name: String,
    check: &'static str,
    detect: Times,
    recover: Times,
}

/// A responder probes nothing: it is only named, with what it listens to and what it has rules for.
#[derive(Debug, Serialize)]
struct ResponderPlan {
    name: String,
    sources: Vec<String>,
    rules: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Plan {
    workloads: Vec<WorkloadPlan>,
    targets: Vec<TargetPlan>,
    responders: Vec<ResponderPlan>,
}

/// Prints the times.
pub(crate) fn run(args: &PlanArgs) -> Result<(), Failure> {
    let plan = of(&files::read(&args.files)?);
    output::write_value(&plan, args.output.output, |out| output::write_table(out, &table(&plan)))
}

fn of(declared: &Declared) -> Plan {
    let mut workloads: Vec<_> = declared.workloads.iter().map(|it| workload(it)).collect();
    let mut targets: Vec<_> = declared.targets.iter().map(|it| target(it)).collect();
    workloads.sort_by(|a, b| a.name.cmp(&b.name));
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    let mut responders: Vec<_> = declared.responders.iter().map(|it| responder(it)).collect();
    responders.sort_by(|a, b| a.name.cmp(&b.name));
    Plan { workloads, targets, responders }
}

fn responder(it: &Responder) -> ResponderPlan {
    ResponderPlan {
        name: it.name.clone(),
        sources: it.sources.iter().map(|it| it.name.clone()).collect(),
        rules: it.rules.iter().map(|it| it.name.clone()).collect(),
    }
}

fn workload(it: &Workload) -> WorkloadPlan {
    let check = |kind: ProbeKind| {
        let probe: &Option<Probe> = match kind {
            ProbeKind::Startup => &it.startup,
            ProbeKind::Liveness => &it.liveness,
            ProbeKind::Readiness => &it.readiness,
        };
        probe.as_ref().map_or("", |probe| probe.check.as_str())
    };
    let row = |times: hale_health::ProbePlan| ProbeRow {
        probe: times.kind.as_str().to_owned(),
        check: check(times.kind),
        detect: times.detect.into(),
        gate: times.gate.map(Into::into),
        restart: times.restart.map(Into::into),
        recover: Some(times.recover.into()),
    };
    let mut probes: Vec<ProbeRow> = plan(&it.policy).into_iter().map(row).collect();
    probes.push(exit(&it.policy, it.run.runtime()));
    WorkloadPlan { name: it.name.clone(), probes }
}

/// The kernel says when a process ends (H13): it is known, and out of traffic, at once; the backoff is all the wait.
fn exit(policy: &ReplicaPolicy, runtime: &'static str) -> ProbeRow {
    let at_once = Times { best_seconds: 0.0, worst_seconds: 0.0 };
    let backoff = &policy.restart.backoff;
    let restart = Span { best: backoff.initial, worst: backoff.max.max(backoff.initial) };
    ProbeRow {
        probe: "exit".to_owned(),
        check: runtime,
        detect: at_once,
        gate: Some(at_once),
        restart: (policy.restart.mode != RestartMode::Never).then(|| restart.into()),
        recover: None,
    }
}

/// A target is detected as a liveness probe of the same timing would be; nothing is done about it.
fn target(it: &Target) -> TargetPlan {
    // As many failures among the last outcomes as the window asks for: at the soonest they come in a row.
    let failures = it.policy.window.map_or(it.timing.failure_threshold, |it| it.failures);
    let timing = ProbeTiming { failure_threshold: failures, ..it.timing };
    let policy = ReplicaPolicy { liveness: Some(timing), ..ReplicaPolicy::default() };
    let times = plan(&policy).pop();
    let none = Span::default();
    // After the first failure it is asked in the fast period.
    let faster = timing.period.saturating_sub(it.policy.fast_period.unwrap_or(timing.period));
    let saved = |times: Span, checks: u32| {
        let saved = faster.saturating_mul(checks.saturating_sub(1));
        Span { best: times.best.saturating_sub(saved), worst: times.worst.saturating_sub(saved) }
    };
    TargetPlan {
        name: it.name.clone(),
        check: it.check.as_str(),
        detect: saved(times.map_or(none, |it| it.detect), failures).into(),
        recover: saved(times.map_or(none, |it| it.recover), timing.success_threshold).into(),
    }
}

fn table(plan: &Plan) -> Table {
    let mut table = output::table(["NAME", "PROBE", "CHECK", "DETECT", "GATE", "RESTART", "RECOVER"]);
    for workload in &plan.workloads {
        for row in &workload.probes {
            table.add_row([
                workload.name.clone(),
                row.probe.clone(),
                row.check.to_owned(),
                cell(Some(row.detect)),
                cell(row.gate),
                cell(row.restart),
                cell(row.recover),
            ]);
        }
    }
    for target in &plan.targets {
        table.add_row([
            target.name.clone(),
            "target".to_owned(),
            target.check.to_owned(),
            cell(Some(target.detect)),
            cell(None),
            cell(None),
            cell(Some(target.recover)),
        ]);
    }
    for it in &plan.responders {
        let check = format!("{} ({})", it.rules.join(", "), it.sources.join(", "));
        table.add_row([
            it.name.clone(),
            "responder".to_owned(),
            check,
            cell(None),
            cell(None),
            cell(None),
            cell(None),
        ]);
    }
    table
}

/// `20s to 33s`; `-` for what this probe does not do.
fn cell(times: Option<Times>) -> String {
    let Some(times) = times else { return "-".to_owned() };
    let of = |seconds: f64| match seconds {
        0.0 => "at once".to_owned(),
        // A length that does not fit a Duration is longer than any file allows.
        more => describe::duration(Duration::try_from_secs_f64(more).unwrap_or(Duration::MAX)),
    };
    let (best, worst) = (of(times.best_seconds), of(times.worst_seconds));
    if best == worst { best } else { format!("{best} to {worst}") }
}
