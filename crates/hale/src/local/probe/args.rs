//! What can be typed after `hale probe` (C5).

use std::{path::PathBuf, time::Duration};

use clap::Args;
use hale_model::spec::{DnsTransport, RecordType};

use crate::cli::{OutputArgs, parse_duration};

/// `hale probe`.
#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// What to ask: a URL, `host:port` for TCP, `grpc://host:port[/service]`, `tls://host[:port]` for its certificate,
    /// `dns://[server[:port]]/name` for a question to a name server (without one: those of this machine).
    #[arg(value_name = "URL|HOST:PORT")]
    pub(crate) endpoint: String,
    /// How many times; 0: until it is interrupted.
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    pub(crate) count: u32,
    /// From the start of one to the start of the next.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub(crate) interval: Duration,
    /// The longest one may take.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Status codes that are success: `200,204,300-399` [default: 200-399].
    #[arg(long, value_name = "RANGES")]
    pub(crate) expected_status: Option<String>,
    /// Accepts any certificate.
    #[arg(short = 'k', long)]
    pub(crate) insecure: bool,
    /// A file of certificates to trust [default: those of the system].
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The name to ask for and to verify in TLS [default: the host].
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// With `tls://`: for so long the certificates must be valid yet [default: 14 days].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) min_valid: Option<Duration>,
    /// With `dns://`: which records are asked for.
    #[arg(long = "type", value_name = "TYPE", default_value_t, value_parser = record_type)]
    pub(crate) record_type: RecordType,
    /// With `dns://`: how the server is asked, udp or tcp.
    #[arg(long, value_name = "HOW", default_value_t, value_parser = transport)]
    pub(crate) transport: DnsTransport,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

fn record_type(word: &str) -> Result<RecordType, String> {
    let all: Vec<&str> = RecordType::ALL.iter().map(|it| it.as_str()).collect();
    word.to_ascii_uppercase().parse().map_err(|_| format!("expected one of {}", all.join(", ")))
}

fn transport(word: &str) -> Result<DnsTransport, String> {
    word.parse().map_err(|_| "expected udp or tcp".to_owned())
}
