//! What can be typed after `hale responder` (C3, R15).

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::Args;

use crate::{
    cli::{DataDirArgs, parse_duration},
    telemetry::TelemetryArgs,
};

/// Longer than anything lives, and short enough to be added to any time.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// `hale responder`.
#[derive(Debug, Args)]
pub(crate) struct ResponderArgs {
    /// Files with responders; what else is in them is not looked at. - is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// A file with settings, such as runTimeoutSeconds: 300. Flags and variables win over it.
    #[arg(long, env = "HALE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) times: TimeArgs,
    #[command(flatten)]
    pub(crate) ports: PortArgs,
    /// The server that sources of kind hale without a url listen to.
    #[arg(long, env = "HALE_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// A file that holds the token for --server.
    #[arg(long, env = "HALE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A file with the certificates that the server's is signed by [default: those of the system].
    #[arg(long, env = "HALE_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Refuses programs that would run as root.
    #[arg(long, env = "HALE_NO_ROOT")]
    pub(crate) no_root: bool,
    /// A user that programs may run as; may be given more than once [default: any].
    #[arg(long, env = "HALE_ALLOW_USER", value_name = "USER", value_delimiter = ',')]
    pub(crate) allow_user: Vec<String>,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
}

/// How long things may take: seconds, or a duration such as 5m.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TimeArgs {
    /// How long a run may take; wins over the timeouts of rules [default: 300].
    #[arg(long, visible_alias = "agent-timeout", env = "AGENT_TIMEOUT_SECONDS", value_name = "SECONDS", value_parser = some_time)]
    pub(crate) run_timeout: Option<Duration>,
    /// How long an alert may wait for its run; wins over maxQueueAge of files [default: 600].
    #[arg(long, env = "MAX_QUEUE_AGE_SECONDS", value_name = "SECONDS", value_parser = some_time)]
    pub(crate) max_queue_age: Option<Duration>,
    /// How often it is looked for alerts that have waited for too long [default: 60].
    #[arg(long, env = "QUEUE_SWEEP_INTERVAL_SECONDS", value_name = "SECONDS", value_parser = some_time)]
    pub(crate) queue_sweep_interval: Option<Duration>,
    /// How long runs that are going on may take once this is told to end [default: 30].
    #[arg(long, env = "SHUTDOWN_TIMEOUT_SECONDS", value_name = "SECONDS", value_parser = some_time)]
    pub(crate) shutdown_timeout: Option<Duration>,
    /// The wait before a lost connection is made anew; doubled each time [default: 1].
    #[arg(long, env = "SSE_RECONNECT_INITIAL_DELAY_SECONDS", value_name = "SECONDS", value_parser = some_time)]
    pub(crate) sse_reconnect_initial_delay: Option<Duration>,
    /// The longest of these waits [default: 60].
    #[arg(long, env = "SSE_RECONNECT_MAX_DELAY_SECONDS", value_name = "SECONDS", value_parser = some_time)]
    pub(crate) sse_reconnect_max_delay: Option<Duration>,
}

/// Where health and metrics are served.
#[derive(Debug, Clone, Args)]
pub(crate) struct PortArgs {
    /// The port of /healthz and /readyz [default: 8080].
    #[arg(long, env = "HEALTH_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) health_port: Option<u16>,
    /// The port of /metrics [default: 9090].
    #[arg(long, env = "METRICS_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) metrics_port: Option<u16>,
    /// Where health is served: an address, or one with a port (0 picks one).
    #[arg(long, env = "HALE_HEALTH_LISTEN", value_name = "ADDR", default_value = "0.0.0.0")]
    pub(crate) health_listen: Where,
    /// Where metrics are served: an address, or one with a port (0 picks one).
    #[arg(long, env = "HALE_METRICS_LISTEN", value_name = "ADDR", default_value = "0.0.0.0")]
    pub(crate) metrics_listen: Where,
}

/// An address, and perhaps a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Where {
    address: IpAddr,
    port: Option<u16>,
}

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { address: address.ip(), port: Some(address.port()) });
        }
        match text.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => Ok(Self { address, port: None }),
            Err(_) => Err("expected an address such as 127.0.0.1 or 127.0.0.1:8080".to_owned()),
        }
    }
}

impl Default for Where {
    fn default() -> Self {
        Self { address: Ipv4Addr::UNSPECIFIED.into(), port: None }
    }
}

impl Where {
    /// With this port, if one was asked for by itself; else its own, else that of a file, else the last.
    pub(crate) fn with(self, asked: Option<u16>, file: Option<u16>, otherwise: u16) -> SocketAddr {
        SocketAddr::new(self.address, asked.or(self.port).or(file).unwrap_or(otherwise))
    }
}

/// More than nothing: seconds, with decimals, or a duration with its unit. What is longer than anything lives is for ever.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.chars().all(|it| it.is_ascii_digit() || it == '.');
    let time = match text.parse::<f64>() {
        Ok(seconds) if is_number => Duration::try_from_secs_f64(seconds).unwrap_or(FOREVER),
        _ if text.starts_with('-') => return Err("expected more than 0 seconds".to_owned()),
        _ => parse_duration(text).map_err(|_| "expected seconds, such as 300, or 5m".to_owned())?,
    };
    if time.is_zero() { Err("expected more than 0 seconds".to_owned()) } else { Ok(time.min(FOREVER)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_seconds_or_has_a_unit_and_is_never_nothing() {
        for (text, wanted) in [("300", 300.0), ("0.5", 0.5), ("5m", 300.0), (" 2 ", 2.0), ("1500ms", 1.5)] {
            assert_eq!(some_time(text).map(|it| it.as_secs_f64()), Ok(wanted), "{text}");
        }
        for large in ["99999999999999999999999999", "18446744073709551615", "4000000000"] {
            assert_eq!(some_time(large), Ok(FOREVER), "{large}");
        }
        for wrong in ["0", "0.0", "-1", "-5m", "", "soon", "inf", "nan", "1e3", "1.2.3", "0s", "٣"] {
            assert!(some_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_that_is_asked_for_wins_over_that_of_an_address() {
        let at = |text: &str| text.parse::<Where>().unwrap();
        assert_eq!(at("127.0.0.1").with(None, None, 8080).to_string(), "127.0.0.1:8080");
        assert_eq!(at("127.0.0.1").with(None, Some(7), 8080).to_string(), "127.0.0.1:7");
        assert_eq!(at("127.0.0.1:0").with(None, Some(7), 8080).to_string(), "127.0.0.1:0");
        assert_eq!(at("127.0.0.1:1").with(Some(2), Some(7), 8080).to_string(), "127.0.0.1:2");
        assert_eq!(at("::").with(None, None, 9090).to_string(), "[::]:9090");
        assert!("here".parse::<Where>().is_err() && "127.0.0.1:99999".parse::<Where>().is_err());
    }
}
