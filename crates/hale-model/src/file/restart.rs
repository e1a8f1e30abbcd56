//! Restart policies (H14 to H16).

use std::time::Duration;

use hale_health::{BackoffPolicy, BudgetCounts, OnExhausted, RestartMode, RestartPolicy};

use super::{
    convert::invalid,
    de::{Cx, Field},
    error::{Code, Problem},
    raw::{RawCounts, RawExhausted, RawPolicy, RawPreset, RawRestart},
    scalar::Span,
};

/// Makes a policy: the workload's own words first, then its preset, then the defaults (H16).
pub(super) fn restart(raw: RawRestart, cx: &Cx<'_>) -> RestartPolicy {
    check(&raw, cx);
    let base = match raw.preset.value() {
        Some(RawPreset::Cluster) => RestartPolicy {
            max_restarts: 5,
            window: Duration::from_secs(300),
            max_restarts_given: true,
            window_given: true,
            ..RestartPolicy::default()
        },
        None => RestartPolicy::default(),
    };
    let time = |field: Field<Span>, default| field.value().map_or(default, |it| it.0);
    let initial = time(raw.initial_backoff, base.backoff.initial);
    // Whoever sets only the first wait means it: the longest is then never below it.
    let max = time(raw.max_backoff, base.backoff.max.max(initial));
    RestartPolicy {
        mode: match raw.policy.value() {
            Some(RawPolicy::OnFailure) => RestartMode::OnFailure,
            Some(RawPolicy::Never) => RestartMode::Never,
            _ => RestartMode::Always,
        },
        max_restarts_given: base.max_restarts_given || raw.max_restarts.as_set().is_some(),
        window_given: base.window_given || raw.restart_window.as_set().is_some(),
        max_restarts: raw.max_restarts.value().unwrap_or(base.max_restarts),
        window: time(raw.restart_window, base.window),
        min_uptime: time(raw.min_uptime, base.min_uptime),
        backoff: BackoffPolicy {
            initial,
            max,
            multiplier: raw.backoff_multiplier.value().unwrap_or(base.backoff.multiplier),
            jitter: raw.backoff_jitter.value().unwrap_or(base.backoff.jitter),
        },
        on_exhausted: match raw.on_exhausted.value() {
            Some(RawExhausted::Wait) => OnExhausted::Wait,
            _ => OnExhausted::Fail,
        },
        counts: match raw.budget_counts.value() {
            Some(RawCounts::Short) => BudgetCounts::Short,
            _ => BudgetCounts::All,
        },
        permanent_failure_codes: raw.permanent_failure_codes.value().unwrap_or(base.permanent_failure_codes),
        retry_after: raw.retry_after.value().and_then(|it| it.0),
    }
}

fn check(raw: &RawRestart, cx: &Cx<'_>) {
    if let Some(at) = raw.restart_window.as_set().filter(|at| at.value.0.is_zero()) {
        cx.note(invalid(at.span, "restart.restartWindow: must be above 0"));
    }
    if let Some(at) = raw.max_restarts.as_set().filter(|at| at.value > 100_000) {
        cx.note(invalid(at.span, format!("restart.maxRestarts: at most 100000, found {}", at.value)));
    }
    if let Some(at) = raw.backoff_multiplier.as_set().filter(|at| !(1.0..=1000.0).contains(&at.value)) {
        cx.note(invalid(at.span, format!("restart.backoffMultiplier: from 1 to 1000, found {}", at.value)));
    }
    if let Some(at) = raw.backoff_jitter.as_set().filter(|at| !(0.0..=1.0).contains(&at.value)) {
        cx.note(
            invalid(at.span, format!("restart.backoffJitter: from 0 to 1, found {}", at.value))
                .help("it is a share of the wait: 0.1 is up to a tenth more or less"),
        );
    }
    if let (Some(initial), Some(max)) = (raw.initial_backoff.as_set(), raw.max_backoff.as_set())
        && initial.value.0 > max.value.0
    {
        cx.note(Problem::new(max.span, Code::Conflict, "restart.maxBackoff: is below initialBackoff"));
    }
    if let Some(at) = raw.permanent_failure_codes.as_set()
        && let Some(code) = at.value.iter().find(|code| !(1..=255).contains(*code))
    {
        cx.note(
            invalid(
                at.span,
                format!("restart.permanentFailureCodes: exit codes from 1 to 255, found {code}"),
            )
            .help("a process that ends with 0 has not failed"),
        );
    }
    if let Some(at) = raw.retry_after.as_set().filter(|at| at.value.0 == Some(Duration::ZERO)) {
        cx.note(invalid(at.span, "restart.retryAfter: must be above 0, or off"));
    }
}
