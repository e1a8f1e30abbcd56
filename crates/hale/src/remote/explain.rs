//! `hale explain NAME`: why it is as it is, outcome by outcome, up to what was done.

use std::io::{self, Write};

use hale_api::explain::{Explanation, Step, StepKind};
use jiff::{Timestamp, tz::TimeZone};
use owo_colors::OwoColorize;

use super::{
    block, client,
    status::ago,
    table::{of_severity, of_status},
};
use crate::{cli::ExplainArgs, failure::Failure, output};

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    block(async {
        let explanation = client(&args.server)?.explain(&args.name).await?;
        output::write_value(&explanation, args.output.output, |out| {
            write(&explanation, &TimeZone::system(), out)
        })
    })
}

fn write(it: &Explanation, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    let style = of_status(it.status);
    let status = it.status.style(style);
    writeln!(out, "{} ({}) is {status}: {}", it.subject.bold(), it.kind.as_str(), it.summary)?;
    let mut day = None;
    for step in it.steps.iter().filter(|step| step.kind != StepKind::Now) {
        let date = step.at.to_zoned(zone.clone()).date();
        if day != Some(date) {
            writeln!(out, "  {}", date.dimmed())?;
            day = Some(date);
        }
        write_step(step, it.at, zone, out)?;
    }
    for placement in &it.placement {
        writeln!(out, "  {} {placement}", "place:".bold())?;
    }
    for pending in &it.pending {
        writeln!(out, "  {} {pending}", "next:".bold())?;
    }
    for replica in &it.replicas {
        writeln!(out)?;
        write(replica, zone, out)?;
    }
    Ok(())
}

fn write_step(step: &Step, now: Timestamp, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    let clock = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string();
    let mark = match step.kind {
        StepKind::Outcome => "·",
        StepKind::Event | StepKind::Now => "▸",
    };
    // What is folded stands where it ended, so that the times rise from line to line.
    let at = step.until.unwrap_or(step.at);
    let since = step.until.map(|_| format!("  since {}", clock(step.at))).unwrap_or_default();
    writeln!(
        out,
        "  {} {:>9}  {mark} {}{}",
        clock(at).dimmed(),
        ago(at, now).dimmed(),
        step.text.style(of_severity(step.severity)),
        since.dimmed(),
    )
}

#[cfg(test)]
mod tests {
    use hale_api::explain::SubjectKind;
    use hale_model::{Status, event::Severity};

    use super::*;

    #[test]
    fn a_chain_is_read_from_top_to_bottom() {
        let at = |second: i64| Timestamp::from_second(1_767_225_600 + second).unwrap();
        let step = |second, kind, severity, text: &str| Step {
            at: at(second),
            until: (kind == StepKind::Outcome).then(|| at(second + 2)),
            kind,
            severity,
            text: text.to_owned(),
            event: None,
        };
        let explanation = Explanation {
            subject: "web-0".to_owned(),
            kind: SubjectKind::Replica,
            status: Status::Degraded,
            summary: "restarting, not ready".to_owned(),
            at: at(10),
            steps: vec![
                step(
                    1,
                    StepKind::Outcome,
                    Severity::Warning,
                    "liveness timeout ×3 (3/3): no answer within 1s",
                ),
                step(4, StepKind::Event, Severity::Error, "unhealthy: liveness timeout 3/3"),
                step(10, StepKind::Now, Severity::Warning, "degraded: restarting, not ready"),
            ],
            pending: vec!["the next start is due in 2s".to_owned()],
            placement: Vec::new(),
            replicas: Vec::new(),
        };
        let mut out = Vec::new();
        write(&explanation, &TimeZone::UTC, &mut out).unwrap();
        let text = String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap();
        insta::assert_snapshot!(text, @r"
        web-0 (replica) is degraded: restarting, not ready
          2026-01-01
          00:00:03.000    7s ago  · liveness timeout ×3 (3/3): no answer within 1s  since 00:00:01.000
          00:00:04.000    6s ago  ▸ unhealthy: liveness timeout 3/3
          next: the next start is due in 2s
        ");
    }
}
