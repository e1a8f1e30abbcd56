//! From what was typed to the check that is meant.

use std::time::Duration;

use hale_model::{
    file::parse_url,
    spec::{Check, Dns, DnsCode, Grpc, HttpGet, PortRef, TcpSocket, Tls},
};

use super::args::ProbeArgs;
use crate::failure::Failure;

/// As for a target, unless something else is asked for.
const MIN_VALID: Duration = Duration::from_secs(14 * 24 * 3600);

const EXPECTED: &str = "expected http://host[:port]/path, https://…, host:port, grpc://host:port[/service], \
                        tls://host[:port] or dns://[server[:port]]/name";

/// What is to be asked.
pub(super) fn parse(args: &ProbeArgs) -> Result<Check, Failure> {
    let text = args.endpoint.as_str();
    match text.split_once("://") {
        Some(("grpc", rest)) => grpc(args, rest, false),
        Some(("grpcs", rest)) => grpc(args, rest, true),
        Some(("tls", rest)) => tls(args, rest),
        Some(("dns", rest)) => dns(args, rest),
        Some(("tcp", rest)) => tcp(args, rest),
        Some(_) => http(args),
        None => tcp(args, text),
    }
}

fn wrong(args: &ProbeArgs, why: &str) -> Failure {
    Failure::Usage(format!("{} {why}; {EXPECTED}", args.endpoint))
}

/// The place in an address that has the form of a URL's; only the scheme differs. Port 0: none is given.
fn place(args: &ProbeArgs, rest: &str) -> Result<(String, u16, String), Failure> {
    let (_, host, port, path) = parse_url(&format!("http://{rest}")).map_err(|why| wrong(args, why))?;
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    let given = after_host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty());
    Ok((host, if given { port } else { 0 }, path))
}

fn insecure(args: &ProbeArgs) -> Option<bool> {
    args.insecure.then_some(true)
}

fn http(args: &ProbeArgs) -> Result<Check, Failure> {
    let (tls, host, port, path) = parse_url(&args.endpoint).map_err(|why| wrong(args, why))?;
    Ok(Check::HttpGet(HttpGet {
        tls,
        host: Some(host),
        port: PortRef::Number(port),
        path,
        headers: Vec::new(),
        expected_status: statuses(args.expected_status.as_deref())?,
        expected_body: None,
        expected_json: Vec::new(),
        ca_file: args.ca_file.clone(),
        tls_server_name: args.server_name.clone(),
        tls_insecure_skip_verify: insecure(args),
        keep_alive: false,
    }))
}

fn grpc(args: &ProbeArgs, rest: &str, tls: bool) -> Result<Check, Failure> {
    let (host, port, path) = place(args, rest)?;
    let port = match (port, tls) {
        (0, true) => 443,
        (0, false) => 80,
        (port, _) => port,
    };
    Ok(Check::Grpc(Grpc {
        host: Some(host),
        port: PortRef::Number(port),
        service: path.trim_start_matches('/').to_owned(),
        tls,
        ca_file: args.ca_file.clone(),
        tls_server_name: args.server_name.clone(),
        tls_insecure_skip_verify: insecure(args),
    }))
}

fn tcp(args: &ProbeArgs, rest: &str) -> Result<Check, Failure> {
    if rest.contains('/') {
        return Err(wrong(args, "has no port"));
    }
    match place(args, rest)? {
        (_, 0, _) => Err(wrong(args, "has no port")),
        (host, port, _) => Ok(Check::TcpSocket(TcpSocket { host: Some(host), port: PortRef::Number(port) })),
    }
}

fn tls(args: &ProbeArgs, rest: &str) -> Result<Check, Failure> {
    let (host, port, path) = place(args, rest)?;
    if path != "/" {
        return Err(wrong(args, "has a path, and a certificate has none"));
    }
    Ok(Check::Tls(Tls {
        host,
        port: if port == 0 { 443 } else { port },
        server_name: args.server_name.clone(),
        ca_file: args.ca_file.clone().filter(|_| !args.insecure),
        min_valid: args.min_valid.unwrap_or(MIN_VALID),
        verify_chain: !args.insecure,
        verify_name: !args.insecure,
    }))
}

/// `dns://server:port/name`, as in RFC 4501; `dns:///name` asks the servers of this machine.
fn dns(args: &ProbeArgs, rest: &str) -> Result<Check, Failure> {
    let (authority, name) = rest.split_once('/').ok_or_else(|| wrong(args, "has no name to ask for"))?;
    let server = match authority {
        "" => None,
        authority => {
            let (host, port, _) = place(args, authority)?;
            Some((host, if port == 0 { 53 } else { port }))
        }
    };
    if name.is_empty() || name.contains(['?', '/', ' ']) {
        return Err(wrong(args, "has no name to ask for (records of another kind: --type)"));
    }
    Ok(Check::Dns(Dns {
        name: name.to_owned(),
        server,
        record_type: args.record_type,
        transport: args.transport,
        recursion: true,
        expected_codes: vec![DnsCode::NoError],
        min_answers: 1,
        expected_answers: Vec::new(),
    }))
}

fn statuses(text: Option<&str>) -> Result<Vec<(u16, u16)>, Failure> {
    let Some(text) = text else { return Ok(vec![(200, 399)]) };
    hale_model::file::parse_statuses(text).ok_or_else(|| {
        Failure::Usage(format!("--expected-status {text}: expected statuses such as 200 or 200,204,300-399"))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn check(line: &[&str]) -> Result<Check, Failure> {
        let cli = Cli::try_parse_from(["hale", "probe"].iter().chain(line)).expect("a line that parses");
        match cli.command {
            Command::Probe(args) => parse(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_scheme_is_its_check() {
        let asked = |line: &[&str]| check(line).map(|it| it.as_str().to_owned()).unwrap_or_default();
        assert_eq!(asked(&["http://x/healthz"]), "httpGet");
        assert_eq!(asked(&["https://x"]), "httpGet");
        assert_eq!(asked(&["x:80"]), "tcpSocket");
        assert_eq!(asked(&["tcp://[::1]:80"]), "tcpSocket");
        assert_eq!(asked(&["grpcs://x:80/shop.Orders"]), "grpc");
        assert_eq!(asked(&["tls://x"]), "tls");
        assert_eq!(asked(&["dns:///example.com", "--type", "mx"]), "dns");
        for wrong in
            ["x", "tls://x/path", "dns://x", "dns://x/", "dns://x/a?type=A", "ftp://x/", "tcp://[::1]"]
        {
            assert!(matches!(check(&[wrong]), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn what_is_left_out_has_its_usual_value() {
        let Ok(Check::Dns(dns)) = check(&["dns://ns.example.com/example.com"]) else { panic!("a dns check") };
        assert_eq!(dns.server, Some(("ns.example.com".to_owned(), 53)));
        let Ok(Check::Tls(tls)) = check(&["tls://[::1]", "-k"]) else { panic!("a tls check") };
        assert_eq!((tls.host.as_str(), tls.port, tls.verify_chain), ("::1", 443, false));
    }
}
