//! `hale probe URL|host:port|grpc://…` (C5): one check, now, with timings.

use std::{io::Write, time::Duration};

use hale_check::{CheckResult, Checker, Subject, Timings};
use hale_health::Verdict;
use hale_model::{
    file::parse_url,
    spec::{Check, Grpc, HttpGet, PortRef, TcpSocket},
};
use serde::Serialize;

use crate::{
    cli::{Format, ProbeArgs},
    failure::Failure,
    output,
};

/// One check as programs read it.
#[derive(Serialize)]
struct Told<'a> {
    ok: bool,
    reason: Option<hale_health::Reason>,
    detail: Option<&'a str>,
    warning: Option<&'a str>,
    http_status: Option<u16>,
    dns_ms: Option<f64>,
    connect_ms: Option<f64>,
    tls_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    total_ms: f64,
}

impl<'a> Told<'a> {
    fn of(result: &'a CheckResult) -> Self {
        let Timings { dns, connect, tls, first_byte, total } = result.timings;
        let (reason, detail) = match &result.verdict {
            Verdict::Success => (None, None),
            Verdict::Failure { reason, detail } => (Some(*reason), Some(detail.as_str())),
        };
        Self {
            ok: reason.is_none(),
            reason,
            detail,
            warning: result.warning.as_deref(),
            http_status: result.http_status,
            dns_ms: dns.map(millis),
            connect_ms: connect.map(millis),
            tls_ms: tls.map(millis),
            first_byte_ms: first_byte.map(millis),
            total_ms: millis(total),
        }
    }

    /// `ok  status 200  0.4 ms (connect 0.1, first byte 0.3)`.
    fn line(&self) -> String {
        let mut line = match self.reason {
            None => "ok".to_owned(),
            Some(reason) => format!("failed  {reason}"),
        };
        if let Some(status) = self.http_status {
            line += &format!("  status {status}");
        }
        let stages = [
            ("dns", self.dns_ms),
            ("connect", self.connect_ms),
            ("tls", self.tls_ms),
            ("first byte", self.first_byte_ms),
        ];
        let stages: Vec<String> =
            stages.into_iter().filter_map(|(name, ms)| Some(format!("{name} {:.1}", ms?))).collect();
        line += &format!("  {:.1} ms", self.total_ms);
        if !stages.is_empty() {
            line += &format!(" ({})", stages.join(", "));
        }
        for more in [self.detail, self.warning].into_iter().flatten() {
            let more: String = more.lines().next().unwrap_or("").chars().take(200).collect();
            line += &format!("  {more}");
        }
        line
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// Makes the checks and prints each as it ends. One that fails makes the command fail.
pub(crate) fn run(args: &ProbeArgs) -> Result<(), Failure> {
    let check = parse(args)?;
    let checker = Checker::compile(&check, &Subject::default()).map_err(Failure::failed)?;
    // The provider may be installed already by a test or an embedding; either way there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    let failed = runtime.block_on(ask(&checker, args))?;
    match failed {
        0 => Ok(()),
        n => Err(Failure::failed(format!("{}: {n} of {} checks failed", args.endpoint, args.count))),
    }
}

async fn ask(checker: &Checker, args: &ProbeArgs) -> Result<u32, Failure> {
    let mut failed = 0;
    let mut ticks = tokio::time::interval(args.interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for _ in 0..args.count {
        ticks.tick().await;
        let result = checker.run(args.timeout).await;
        failed += u32::from(!result.verdict.is_success());
        let told = Told::of(&result);
        match args.output.output {
            Format::Table => writeln!(output::stdout(), "{}", told.line())?,
            // One object a line, as with everything that is told piece by piece.
            Format::Json => {
                let line = serde_json::to_string(&told).map_err(Failure::failed)?;
                writeln!(output::stdout(), "{line}")?;
            }
            Format::Yaml => {
                let document = serde_saphyr::to_string(&told).map_err(Failure::failed)?;
                write!(output::stdout(), "---\n{document}")?;
            }
        }
    }
    Ok(failed)
}

/// What is to be asked.
fn parse(args: &ProbeArgs) -> Result<Check, Failure> {
    let text = args.endpoint.as_str();
    let wrong = |why: &str| {
        Failure::Usage(format!(
            "{text} {why}; expected http://host[:port]/path, https://…, grpc://host:port[/service] or host:port"
        ))
    };
    let insecure = args.insecure.then_some(true);
    if let Some(rest) = text
        .strip_prefix("grpc://")
        .map(|it| (it, false))
        .or_else(|| text.strip_prefix("grpcs://").map(|it| (it, true)))
    {
        let (rest, tls) = rest;
        // The address has the form of a URL's; only the scheme differs.
        let (_, host, port, path) = parse_url(&format!("http://{rest}")).map_err(wrong)?;
        let service = path.trim_start_matches('/').to_owned();
        return Ok(Check::Grpc(Grpc {
            host: Some(host),
            port: PortRef::Number(port),
            service,
            tls,
            ca_file: None,
            tls_server_name: None,
            tls_insecure_skip_verify: insecure,
        }));
    }
    if text.contains("://") {
        let (tls, host, port, path) = parse_url(text).map_err(wrong)?;
        return Ok(Check::HttpGet(HttpGet {
            tls,
            host: Some(host),
            port: PortRef::Number(port),
            path,
            headers: Vec::new(),
            expected_status: statuses(args.expected_status.as_deref())?,
            expected_body: None,
            expected_json: Vec::new(),
            ca_file: None,
            tls_server_name: None,
            tls_insecure_skip_verify: insecure,
            keep_alive: false,
        }));
    }
    let authority = text.strip_prefix("tcp://").unwrap_or(text);
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !has_port || authority.contains('/') {
        return Err(wrong("has no port"));
    }
    let (_, host, port, _) = parse_url(&format!("http://{authority}")).map_err(wrong)?;
    Ok(Check::TcpSocket(TcpSocket { host: Some(host), port: PortRef::Number(port) }))
}

fn statuses(text: Option<&str>) -> Result<Vec<(u16, u16)>, Failure> {
    let Some(text) = text else { return Ok(vec![(200, 399)]) };
    hale_model::file::parse_statuses(text).ok_or_else(|| {
        Failure::Usage(format!("--expected-status {text}: expected statuses such as 200 or 200,204,300-399"))
    })
}
