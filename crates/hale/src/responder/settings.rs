//! How a responder runs: a flag wins over its variable, that over the file, that over the default (R15).

use std::{path::Path, sync::Arc, time::Duration};

use hale_model::spec::{Program, Responder, Step};
use hale_responder::driver::Settings;
use serde::Deserialize;

use super::args::{ResponderArgs, TimeArgs, some_time};
use crate::failure::Failure;

/// The file: the same words as the values of the Helm chart.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct File {
    run_timeout_seconds: Option<f64>,
    max_queue_age_seconds: Option<f64>,
    queue_sweep_interval_seconds: Option<f64>,
    shutdown_timeout_seconds: Option<f64>,
    sse_reconnect_initial_delay_seconds: Option<f64>,
    sse_reconnect_max_delay_seconds: Option<f64>,
    health_port: Option<u16>,
    metrics_port: Option<u16>,
}

/// What was told, put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// For all responders.
    pub(super) settings: Settings,
    /// What wins over the files of responders.
    wins: (Option<Duration>, Option<Duration>),
    /// From the file.
    pub(super) health_port: Option<u16>,
    /// From the file.
    pub(super) metrics_port: Option<u16>,
}

/// Puts together what was told.
///
/// # Errors
/// The file is wrong, or a time is no time.
pub(super) fn told(args: &ResponderArgs, variable: impl Fn(&str) -> Option<String>) -> Result<Told, Failure> {
    let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
    join(&args.times, file, variable)
}

fn join(times: &TimeArgs, file: File, variable: impl Fn(&str) -> Option<String>) -> Result<Told, Failure> {
    let run_timeout = match times.run_timeout {
        Some(given) => Some(given),
        None => older(variable)?,
    };
    for (name, port) in [("healthPort", file.health_port), ("metricsPort", file.metrics_port)] {
        if port == Some(0) {
            return Err(Failure::InvalidFile(format!("error: {name}: 0: expected 1 to 65535")));
        }
    }
    let settings = settings(TimeArgs { run_timeout, ..times.clone() }, &file)?;
    let wins = (run_timeout, times.max_queue_age);
    Ok(Told { settings, wins, health_port: file.health_port, metrics_port: file.metrics_port })
}

/// The older name of the variable counts where the newer one is not set.
fn older(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Duration>, Failure> {
    match variable("AGENT_TIMEOUT").filter(|it| !it.is_empty()) {
        Some(text) => {
            some_time(&text).map(Some).map_err(|why| Failure::Usage(format!("AGENT_TIMEOUT={text}: {why}")))
        }
        None => Ok(None),
    }
}

fn settings(times: TimeArgs, file: &File) -> Result<Settings, Failure> {
    let or = |given: Option<Duration>, name: &str, file: Option<f64>, otherwise| {
        let of_file = file.map(|seconds| {
            some_time(&seconds.to_string())
                .map_err(|why| Failure::InvalidFile(format!("error: {name}: {seconds}: {why}")))
        });
        Ok::<_, Failure>(given.or(of_file.transpose()?).unwrap_or(otherwise))
    };
    let default = Settings::default();
    let reconnect_initial = or(
        times.sse_reconnect_initial_delay,
        "sseReconnectInitialDelaySeconds",
        file.sse_reconnect_initial_delay_seconds,
        default.reconnect_initial,
    )?;
    let reconnect_max = or(
        times.sse_reconnect_max_delay,
        "sseReconnectMaxDelaySeconds",
        file.sse_reconnect_max_delay_seconds,
        default.reconnect_max,
    )?;
    let sweep = "queueSweepIntervalSeconds";
    let shutdown = "shutdownTimeoutSeconds";
    let (interval, timeout) = (default.queue_sweep_interval, default.shutdown_timeout);
    Ok(Settings {
        run_timeout: or(
            times.run_timeout,
            "runTimeoutSeconds",
            file.run_timeout_seconds,
            default.run_timeout,
        )?,
        max_queue_age: or(
            times.max_queue_age,
            "maxQueueAgeSeconds",
            file.max_queue_age_seconds,
            default.max_queue_age,
        )?,
        queue_sweep_interval: or(
            times.queue_sweep_interval,
            sweep,
            file.queue_sweep_interval_seconds,
            interval,
        )?,
        shutdown_timeout: or(times.shutdown_timeout, shutdown, file.shutdown_timeout_seconds, timeout)?,
        reconnect_initial,
        // Who sets only the first wait, and sets it long, means at least that.
        reconnect_max: reconnect_max.max(reconnect_initial),
    })
}

impl Told {
    /// A responder's declaration, with what wins over it.
    pub(super) fn over(&self, responder: &Arc<Responder>) -> Arc<Responder> {
        if self.wins == (None, None) {
            return Arc::clone(responder);
        }
        let mut changed = (**responder).clone();
        if self.wins.1.is_some() {
            changed.limits.max_queue_age = self.wins.1;
        }
        if let Some(timeout) = self.wins.0 {
            for rule in &mut changed.rules {
                programs(rule).for_each(|program| program.timeout = Some(timeout));
            }
        }
        Arc::new(changed)
    }
}

fn programs(rule: &mut hale_model::spec::Rule) -> impl Iterator<Item = &mut Program> {
    let steps = rule.escalate.iter_mut().filter_map(|step| match step {
        Step::Program(program) => Some(&mut **program),
        Step::Webhook(_) => None,
    });
    std::iter::once(&mut rule.run).chain(steps)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn defaults_are_those_of_the_book() {
        let told = join(&TimeArgs::default(), File::default(), none).unwrap();
        assert_eq!(told.settings, Settings::default());
        let all = told.settings;
        let seconds = [
            all.run_timeout,
            all.max_queue_age,
            all.queue_sweep_interval,
            all.shutdown_timeout,
            all.reconnect_initial,
            all.reconnect_max,
        ];
        assert_eq!(seconds.map(|it| it.as_secs()), [300, 600, 60, 30, 1, 60]);
    }

    #[test]
    fn a_flag_wins_over_the_older_variable_that_over_the_file_and_that_over_the_default() {
        let file = parse("runTimeoutSeconds: 20\nshutdownTimeoutSeconds: 7\n").unwrap();
        let of = |times: &TimeArgs, variable: fn(&str) -> Option<String>| {
            join(times, file.clone(), variable).unwrap().settings
        };
        assert_eq!(of(&TimeArgs::default(), none).run_timeout.as_secs(), 20);
        let older = |name: &str| (name == "AGENT_TIMEOUT").then(|| "30".to_owned());
        assert_eq!(of(&TimeArgs::default(), older).run_timeout.as_secs(), 30);
        let times = TimeArgs { run_timeout: Some(Duration::from_secs(40)), ..TimeArgs::default() };
        assert_eq!(of(&times, older).run_timeout.as_secs(), 40);
        assert_eq!(of(&times, older).shutdown_timeout.as_secs(), 7);
    }

    #[test]
    fn what_is_no_time_stops_the_start() {
        let zero = |_: &str| Some("0".to_owned());
        assert!(join(&TimeArgs::default(), File::default(), zero).is_err());
        for text in [
            "runTimeoutSeconds: 0",
            "maxQueueAgeSeconds: -3",
            "runTimeout: 5",
            "healthPort: 70000",
            "metricsPort: 0",
        ] {
            let joined = parse(text).map_err(Failure::failed);
            assert!(joined.and_then(|it| join(&TimeArgs::default(), it, none)).is_err(), "{text}");
        }
    }
}
