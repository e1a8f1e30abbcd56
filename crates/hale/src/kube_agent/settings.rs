//! What an agent is told by flags, environment and a file: a flag wins over its variable, that over the file, that over
//! the default (C3).

use std::{collections::BTreeMap, path::Path, time::Duration};

use hale_kube::{agent::Options, diagnose};
use serde::Deserialize;

use crate::{
    cli::{KubeAgentArgs, KubeModeArg, parse_duration},
    failure::Failure,
};

/// The file: the same words as the values of the Helm chart.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct File {
    mode: Option<String>,
    stacks: Vec<String>,
    match_labels: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    namespaces: Vec<String>,
    default_namespace: Option<String>,
    health: Health,
    diagnostics: Diagnostics,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Health {
    enabled: Option<bool>,
    check_interval_seconds: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Diagnostics {
    enabled: Option<bool>,
    log_tail_lines: Option<u32>,
    event_lookback_minutes: Option<u32>,
    mask_secrets: Option<bool>,
}

/// The shortest interval that makes sense: a change is told at once anyway.
const SHORTEST: Duration = Duration::from_secs(1);

/// The longest: beyond it nobody could tell an agent that is silent from one that is well.
const LONGEST: Duration = Duration::from_secs(3600);

/// Puts them together.
///
/// # Errors
/// The file is wrong, or a number is out of bounds.
pub(super) fn options(args: &KubeAgentArgs) -> Result<Options, Failure> {
    let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
    let mode = match (args.mode, file.mode.as_deref()) {
        (Some(mode), _) => mode,
        (None, None | Some("apply")) => KubeModeArg::Apply,
        (None, Some("observe")) => KubeModeArg::Observe,
        (None, Some(other)) => {
            return Err(Failure::InvalidFile(format!("error: mode {other:?}: expected apply or observe")));
        }
    };
    let seconds = |it: u32| Duration::from_secs(u64::from(it));
    let interval = args
        .health_check_interval
        .or_else(|| file.health.check_interval_seconds.map(seconds))
        .unwrap_or(Duration::from_secs(60));
    if !(SHORTEST..=LONGEST).contains(&interval) {
        return Err(Failure::Usage(format!("health check interval {interval:?}: expected 1s to 1h")));
    }
    let log_lines = args.log_tail_lines.or(file.diagnostics.log_tail_lines).unwrap_or(50);
    if !(1..=5000).contains(&log_lines) {
        return Err(Failure::Usage(format!("log tail lines {log_lines}: expected 1 to 5000")));
    }
    let lookback = args
        .event_lookback
        .or_else(|| file.diagnostics.event_lookback_minutes.map(|it| seconds(it.saturating_mul(60))))
        .unwrap_or(Duration::from_secs(30 * 60));
    let mask = !args.unmasked_logs && file.diagnostics.mask_secrets.unwrap_or(true);
    Ok(Options {
        name: args.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: pairs(&args.labels, file.labels),
        mode: mode.into(),
        stacks: given(&args.stacks, file.stacks),
        match_labels: pairs(&args.match_labels, file.match_labels),
        health: args.health_enabled.or(file.health.enabled).unwrap_or(true),
        diagnostics: args.diagnostics_enabled.or(file.diagnostics.enabled).unwrap_or(true),
        interval,
        collect: diagnose::Options { log_lines, lookback, mask },
        namespaces: given(&args.namespaces, file.namespaces),
        default_namespace: args.default_namespace.clone().or(file.default_namespace),
    })
}

fn given(args: &[String], file: Vec<String>) -> Vec<String> {
    if args.is_empty() { file } else { args.to_vec() }
}

fn pairs(args: &[(String, String)], file: BTreeMap<String, String>) -> Vec<(String, String)> {
    if args.is_empty() { file.into_iter().collect() } else { args.to_vec() }
}

fn read(path: &Path) -> Result<File, Failure> {
    let wrong = |why: String| Failure::InvalidFile(format!("error: {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    parse(&text).map_err(wrong)
}

fn parse(text: &str) -> Result<File, String> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map(|it| format!("line {}: ", it.line())).unwrap_or_default();
        let words = error.without_snippet().to_string();
        format!("{place}{}", words.split_whitespace().collect::<Vec<_>>().join(" "))
    })
}

/// A duration that is longer than nothing.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("expected more than nothing".to_owned()),
        some => Ok(some),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(more: &[&str]) -> KubeAgentArgs {
        let given = ["hale", "kube-agent", "--server", "http://h", "--token-file", "t"];
        let cli = Cli::try_parse_from(given.iter().chain(more)).unwrap();
        match cli.command {
            Command::KubeAgent(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_book() {
        let options = options(&args(&[])).unwrap();
        assert!(options.health && options.diagnostics && options.collect.mask);
        assert_eq!(options.interval, Duration::from_secs(60));
        assert_eq!((options.collect.log_lines, options.collect.lookback.as_secs()), (50, 1800));
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yaml");
        let text = "mode: observe\nhealth: {enabled: false, checkIntervalSeconds: 15}\ndiagnostics: {logTailLines: 7}\n";
        std::fs::write(&path, text).unwrap();
        let file = path.to_str().unwrap();
        let told = options(&args(&["--config", file, "--health-enabled", "true"])).unwrap();
        assert!(told.health);
        assert_eq!(told.mode, hale_kube::agent::Mode::Observe);
        assert_eq!((told.interval.as_secs(), told.collect.log_lines), (15, 7));
    }

    #[test]
    fn a_word_that_is_not_known_is_refused_with_its_line() {
        let error = parse("health:\n  enable: true\n").unwrap_err();
        assert!(error.starts_with("line 2: ") && error.contains("enable"), "{error}");
        assert!(options(&args(&["--log-tail-lines", "0"])).is_err());
        assert!(options(&args(&["--health-check-interval", "2h"])).is_err());
    }
}
