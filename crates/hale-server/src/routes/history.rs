//! Availability and durations over days, of what a node keeps of its checks.

use axum::{
    Json,
    extract::{Path, State},
};
use hale_api::{
    Code,
    outcomes::{CheckSummary, History, HistoryPoint, HistoryQuery, ProbeHistory, ProbeSeries, WindowSummary},
};
use hale_model::series::{Bucket, text, total};
use http::Uri;
use jiff::Timestamp;

use crate::{
    api::Api,
    problems::{Answer, Refusal, query},
};

/// What is told, seconds.
const WINDOWS: [(&str, u64); 4] = [("1h", 3600), ("24h", 86_400), ("7d", 7 * 86_400), ("30d", 30 * 86_400)];

/// The most buckets of a probe that are read: twice of what thirty days have.
const MOST: usize = 4096;

pub(crate) async fn of_target(
    State(api): State<Api>,
    Path(name): Path<String>,
    uri: Uri,
) -> Answer<Json<History>> {
    let window = window(&uri)?;
    let overview = api.parts.control.overview().await?;
    if !overview.targets.iter().any(|it| it.name == name) {
        return Err(Refusal::not_found("target", &name));
    }
    history(&api, name, window, overview.at).await
}

pub(crate) async fn of_replica(
    State(api): State<Api>,
    Path(name): Path<String>,
    uri: Uri,
) -> Answer<Json<History>> {
    let window = window(&uri)?;
    let overview = api.parts.control.overview().await?;
    if !overview.workloads.iter().flat_map(|it| &it.replicas).any(|it| it.name == name) {
        return Err(Refusal::not_found("replica", &name));
    }
    history(&api, name, window, overview.at).await
}

fn window(uri: &Uri) -> Answer<u64> {
    let asked: HistoryQuery = query(uri)?;
    let asked = asked.window.as_deref().unwrap_or("24h");
    let known = WINDOWS.iter().find(|(name, _)| *name == asked).map(|(_, seconds)| *seconds);
    known
        .ok_or_else(|| Refusal::new(Code::BadRequest, format!("window is 1h, 24h, 7d or 30d, not {asked:?}")))
}

async fn history(api: &Api, subject: String, window: u64, at: Timestamp) -> Answer<Json<History>> {
    let kept = api.parts.control.history(&subject).await?;
    let until = u64::try_from(at.as_second()).unwrap_or_default().saturating_add(1);
    let probes = kept.iter().filter(|it| !it.series.is_empty()).map(|it| probe(it, window, until));
    Ok(Json(History { probes: probes.collect(), subject }))
}

fn probe(kept: &ProbeHistory, window: u64, until: u64) -> ProbeSeries {
    let mut buckets: Vec<Bucket> =
        kept.series.iter().flat_map(|(day, data)| text::read(*day, data)).take(MOST).collect();
    buckets.sort_by_key(|it| it.start);
    // What is being filled, and what of it was kept before, are of one time.
    buckets.dedup_by(|next, before| {
        let same = (next.start, next.span) == (before.start, before.span);
        if same {
            before.merge(next);
        }
        same
    });
    let summary = |(name, seconds): (&str, u64)| {
        let sum = total(&buckets, until.saturating_sub(seconds), until);
        WindowSummary {
            window: name.to_owned(),
            checks: checks(&sum),
            incidents: u64::from(sum.incidents),
            detect_seconds: sum.mean_detect().map(|it| it.as_secs_f64()),
            recover_seconds: sum.mean_recover().map(|it| it.as_secs_f64()),
        }
    };
    let within = buckets.iter().filter(|it| it.end() > until.saturating_sub(window) && it.start < until);
    let point = |it: &Bucket| {
        let from = Timestamp::from_second(it.start.cast_signed()).unwrap_or_default();
        HistoryPoint { from, seconds: it.span, checks: checks(it) }
    };
    ProbeSeries {
        probe: kept.probe,
        windows: WINDOWS.map(summary).to_vec(),
        points: within.map(point).collect(),
    }
}

fn checks(it: &Bucket) -> CheckSummary {
    let ms = |share| it.latency.quantile(share).map(|took| took.as_secs_f64() * 1000.0);
    CheckSummary {
        availability: it.availability(),
        successes: u64::from(it.successes),
        failures: u64::from(it.failures),
        errors: u64::from(it.errors),
        p50_ms: ms(0.5),
        p95_ms: ms(0.95),
        p99_ms: ms(0.99),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hale_model::series::{DAY, FINE, HOUR};

    use super::*;

    fn bucket(start: u64, span: u64, successes: u32, failures: u32) -> Bucket {
        let mut it = Bucket::new(start, span);
        (it.successes, it.failures) = (successes, failures);
        (it.up, it.down) = (u64::from(successes) * 1000, u64::from(failures) * 1000);
        it.latency.record(Duration::from_millis(8));
        it
    }

    #[test]
    fn each_window_counts_what_reaches_into_it_and_points_are_of_the_one_that_was_asked_for() {
        let now = 20_000 * DAY + 10 * HOUR;
        let (mut today, mut old) = (String::new(), String::new());
        bucket(now - FINE, FINE, 10, 0).write(&mut today);
        bucket(now - 2 * HOUR, FINE, 5, 5).write(&mut today);
        bucket(now - 3 * DAY, HOUR, 0, 20).write(&mut old);
        let series = vec![
            (20_000 - 3, old),
            (20_000, today),
            (20_000, {
                let mut open = String::new();
                bucket(now - FINE, FINE, 1, 0).write(&mut open);
                open
            }),
        ];
        let kept = ProbeHistory { probe: None, outcomes: Vec::new(), runs: Vec::new(), series };
        let told = probe(&kept, DAY, now);
        let successes: Vec<u64> = told.windows.iter().map(|it| it.checks.successes).collect();
        let failures: Vec<u64> = told.windows.iter().map(|it| it.checks.failures).collect();
        assert_eq!((successes, failures), (vec![11, 16, 16, 16], vec![0, 5, 25, 25]));
        assert_eq!(told.windows[0].checks.availability, Some(1.0));
        assert_eq!(told.points.iter().map(|it| it.seconds).collect::<Vec<_>>(), [FINE, FINE]);
        assert_eq!(told.points[1].checks.successes, 11, "what is being filled is part of it");
        let p50 = told.points[0].checks.p50_ms.unwrap();
        assert!((7.5..8.5).contains(&p50), "{p50}");
    }
}
