//! What `hale status NAME` says of the past: availability, durations and spells of failure over days.

use std::{io, io::Write, time::Duration};

use hale_api::{
    Client, Collection, describe,
    outcomes::{HistoryQuery, ProbeSeries, WindowSummary},
};
use hale_model::status::Overview;

use super::table::{Cell, Table, dim};
use crate::{failure::Failure, output};

/// Shows it of a target or replica. What can't be had is said, and no failure of the command.
///
/// # Errors
/// The output can't be written.
pub(super) async fn show(client: &Client, overview: &Overview, name: &str) -> Result<(), Failure> {
    let of = if overview.targets.iter().any(|it| it.name == name) {
        Collection::Targets
    } else if overview.workloads.iter().flat_map(|it| &it.replicas).any(|it| it.name == name) {
        Collection::Replicas
    } else {
        return Ok(());
    };
    let mut out = output::stdout();
    match client.history(of, name, &HistoryQuery { window: Some("1h".to_owned()) }).await {
        Ok(history) if history.probes.is_empty() => {}
        Ok(history) => {
            writeln!(out)?;
            table(&history.probes, &mut out)?;
        }
        Err(error) => writeln!(out, "\nits past can't be told now: {error}")?,
    }
    Ok(())
}

fn table(probes: &[ProbeSeries], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&[
        "LAST",
        "PROBE",
        "AVAILABLE",
        "CHECKS",
        "P50",
        "P95",
        "P99",
        "INCIDENTS",
        "DETECTED IN",
        "RECOVERED IN",
    ]);
    for probe in probes {
        for window in &probe.windows {
            table.row(row(probe, window));
        }
    }
    table.write(out)
}

fn row(probe: &ProbeSeries, it: &WindowSummary) -> [Cell; 10] {
    let time = |seconds: Option<f64>| match seconds {
        Some(seconds) => describe::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default()).into(),
        None => Cell::default(),
    };
    let ms = |ms: Option<f64>| match ms {
        Some(short) if short < 1000.0 => format!("{short:.1}ms").into(),
        long => time(long.map(|it| it / 1000.0)),
    };
    let checks = &it.checks;
    let available = checks.availability.map(percent).unwrap_or_default();
    [
        it.window.as_str().into(),
        dim(probe.probe.map_or("", |kind| kind.as_str())),
        available.into(),
        (checks.successes + checks.failures).to_string().into(),
        ms(checks.p50_ms),
        ms(checks.p95_ms),
        ms(checks.p99_ms),
        it.incidents.to_string().into(),
        time(it.detect_seconds),
        time(it.recover_seconds),
    ]
}

/// Never rounded up to a hundred: what was not always there was not.
fn percent(share: f64) -> String {
    if share >= 1.0 {
        return "100 %".to_owned();
    }
    format!("{:.3} %", (share * 100_000.0).floor() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_always_is_never_shown_as_always() {
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.999_999_9), "99.999 %");
        assert_eq!(percent(0.5), "50.000 %");
    }
}
