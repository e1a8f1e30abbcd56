//! Right files: what they become.

use std::{path::Path, time::Duration};

use hale_health::{BudgetCounts, Mode, OnExhausted, RestartMode, RestartPolicy};
use hale_model::{
    file::{Declared, FileError, read_str},
    spec::{Balance, BodyMatch, Check, Dns, DnsCode, DnsTransport, PortRef, RecordType, Run, Tls},
};

const CONTRACT: &str = include_str!("contract.yaml");

fn read(text: &str) -> Declared {
    read_str("test.yaml", Path::new("/srv/app"), text).unwrap_or_else(|errors| panic!("{}", told(&errors)))
}

fn told(errors: &[FileError]) -> String {
    errors.iter().map(|error| format!("{}: {error}\n", error.place())).collect()
}

fn with(fields: &str) -> Declared {
    read(&format!("kind: Workload\nname: web\nprocess: {{command: [./web]}}\n{fields}"))
}

#[test]
fn every_field_of_the_contract_is_taken() {
    let declared = read(CONTRACT);
    let web = &declared.workloads[0];
    assert_eq!((web.name.as_str(), web.replicas), ("web", 2));
    let Run::Process(process) = &web.run else { panic!("not a process") };
    assert_eq!(process.command, ["./web", "--port", "$(PORT_HTTP)"]);
    assert_eq!(process.working_dir, Path::new("/srv/app"));
    assert_eq!((web.resources.memory, web.resources.cpu), (Some(256 << 20), Some(0.5)));
    let readiness = web.readiness.as_ref().unwrap();
    assert_eq!(readiness.timing.period, Duration::from_millis(500));
    assert_eq!(web.policy.readiness, Some(readiness.timing));
    let Check::HttpGet(get) = &readiness.check else { panic!() };
    assert_eq!((get.path.as_str(), &get.port), ("/readyz", &PortRef::Name("http".into())));
    assert_eq!(get.expected_status, [(200, 399)]);
    let given = RestartPolicy { max_restarts_given: true, window_given: true, ..RestartPolicy::default() };
    assert_eq!(web.policy.restart, given);
    assert_eq!(web.policy.stop.drain, Duration::from_secs(5));
    assert_eq!(web.together.min_available, Some(1));
    assert_eq!(web.service.as_ref().unwrap().listen, Some("127.0.0.1:8080".parse().unwrap()));
    let target = &declared.targets[0];
    let Check::HttpGet(get) = &target.check else { panic!() };
    assert_eq!((get.host.as_deref(), &get.port), (Some("127.0.0.1"), &PortRef::Number(9000)));
    assert_eq!(target.timing.period, Duration::from_secs(15));
}

#[test]
fn the_least_workload_has_the_defaults_of_the_rules() {
    let declared = with("");
    let web = &declared.workloads[0];
    assert_eq!(web.replicas, 1);
    assert_eq!(web.policy, Default::default());
    assert_eq!(web.together, Default::default());
    assert_eq!(web.stop_signal, 15);
    assert_eq!(web.policy.stop.drain, Duration::ZERO);
    assert!(web.service.is_none() && web.liveness.is_none());
}

#[test]
fn each_probe_kind_has_its_own_defaults() {
    let tcp = "{tcpSocket: {port: 80}}";
    let declared = with(&format!("startupProbe: {tcp}\nlivenessProbe: {tcp}\nreadinessProbe: {tcp}\n"));
    let told = |probe: &Option<hale_model::spec::Probe>| {
        let it = probe.as_ref().unwrap().timing;
        (it.period.as_secs(), it.timeout.as_secs(), it.failure_threshold, it.success_threshold)
    };
    let web = &declared.workloads[0];
    assert_eq!(told(&web.startup), (1, 5, 30, 1));
    assert_eq!(told(&web.liveness), (10, 3, 3, 1));
    assert_eq!(told(&web.readiness), (5, 2, 3, 1));
}

#[test]
fn restart_settings_come_from_the_workload_then_the_preset() {
    let of = |fields: &str| with(fields).workloads[0].policy.restart.clone();
    let preset = of("restart: {preset: cluster}");
    assert_eq!((preset.max_restarts, preset.window), (5, Duration::from_secs(300)));
    let both = of("restart: {preset: cluster, maxRestarts: 7}");
    assert_eq!((both.max_restarts, both.window), (7, Duration::from_secs(300)));
    let rest = of("restart: {policy: on-failure, onExhausted: wait, budgetCounts: short, retryAfter: 5m, \
                   initialBackoff: 90s, backoffJitter: 0.2, permanentFailureCodes: []}");
    assert_eq!(rest.mode, RestartMode::OnFailure);
    assert_eq!((rest.on_exhausted, rest.counts), (OnExhausted::Wait, BudgetCounts::Short));
    assert_eq!(rest.retry_after, Some(Duration::from_secs(300)));
    assert_eq!(rest.backoff.max, Duration::from_secs(90), "never below the first wait");
    assert!(rest.permanent_failure_codes.is_empty());
}

#[test]
fn text_stays_as_it_was_written() {
    let declared = read(
        "kind: Workload\nname: web\nprocess:\n  command: [sleep, 60, no, 1.10, 0x10]\n  \
         env: {VERSION: 1.10, COUNTRY: no, DEBUG: true, EMPTY: '', QUOTED: \"null\"}\n",
    );
    let Run::Process(process) = &declared.workloads[0].run else { panic!("not a process") };
    assert_eq!(process.command, ["sleep", "60", "no", "1.10", "0x10"]);
    let env: Vec<_> = process.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["COUNTRY=no", "DEBUG=true", "EMPTY=", "QUOTED=null", "VERSION=1.10"]);
}

#[test]
fn relative_paths_begin_at_the_file() {
    let declared = read(
        "kind: Workload\nname: web\nprocess: {command: [a], workingDir: ./data, envFrom: {file: ./web.env}, \
         ulimits: {nofile: 1024, core: [0, unlimited]}}\n\
         livenessProbe: {httpGet: {port: 443, scheme: HTTPS, caFile: /etc/ca.pem}}",
    );
    let Run::Process(process) = &declared.workloads[0].run else { panic!("not a process") };
    assert_eq!(process.working_dir, Path::new("/srv/app/data"));
    assert_eq!(process.env_from, [Path::new("/srv/app/web.env")]);
    assert_eq!(process.ulimits["core"], (0, u64::MAX));
    let Check::HttpGet(get) = &declared.workloads[0].liveness.as_ref().unwrap().check else { panic!() };
    assert_eq!(get.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
}

#[test]
fn http_checks_take_every_field() {
    let declared = read(
        r#"
kind: Target
name: t
httpGet:
  url: https://[::1]:8443/ready?full=1
  httpHeaders: [{name: X-A, value: 1}]
  expectedStatus: 200, 204,300-399
  expectedBody: /ok|fine/
  expectedJson: {/status: up, /n: 3, /deep/0: {a: [true, null, 1.5]}}
  tlsServerName: example.test
  keepAlive: true
"#,
    );
    let Check::HttpGet(get) = &declared.targets[0].check else { panic!() };
    assert_eq!((get.tls, get.host.as_deref(), get.path.as_str()), (true, Some("::1"), "/ready?full=1"));
    assert_eq!(get.port, PortRef::Number(8443));
    assert_eq!(get.expected_status, [(200, 200), (204, 204), (300, 399)]);
    assert_eq!(get.expected_body, Some(BodyMatch::Regex("ok|fine".into())));
    let json = serde_json::to_string(&get.expected_json).unwrap();
    assert_eq!(json, r#"[["/deep/0",{"a":[true,null,1.5]}],["/n",3],["/status","up"]]"#);
    assert!(get.keep_alive);
}

#[test]
fn json_and_anchors_are_yaml_too() {
    let declared =
        read(r#"{"kind": "Workload", "name": "j", "process": {"command": ["a", "b"]}, "replicas": 3}"#);
    assert_eq!(declared.workloads[0].replicas, 3);
    let declared = with(
        "livenessProbe: &p {tcpSocket: {port: 80}, periodSeconds: 7}\nreadinessProbe:\n  <<: *p\n  periodSeconds: 3\n",
    );
    let web = &declared.workloads[0];
    assert_eq!(web.liveness.as_ref().unwrap().timing.period, Duration::from_secs(7));
    assert_eq!(web.readiness.as_ref().unwrap().timing.period, Duration::from_secs(3));
    assert_eq!(web.readiness.as_ref().unwrap().timing.timeout, Duration::from_secs(2));
}

#[test]
fn empty_documents_and_fields_count_for_nothing() {
    let declared = read(
        "---\n---\nkind: Workload\nname: a\nlivenessProbe:\nenv:\nprocess: {command: [a], env: }\n---\n"
            .replace("env:\n", "")
            .as_str(),
    );
    assert_eq!(declared.workloads.len(), 1);
    assert!(declared.workloads[0].liveness.is_none());
}

#[test]
fn the_digest_tells_changes_from_layout() {
    let digest = |text: &str| read(text).workloads[0].digest.clone();
    let a = digest("kind: Workload\nname: a\nprocess: {command: [x, y]}\n");
    assert_eq!(a, digest("# words\nprocess:\n  command:\n  - x\n  - y\nname: a\nkind: Workload\nports:\n"));
    assert_ne!(a, digest("kind: Workload\nname: a\nprocess: {command: [xy]}\n"));
    assert_ne!(a, digest("kind: Workload\nname: a\nprocess: {command: [x, y]}\nmode: observe\n"));
    let elsewhere =
        read_str("t", Path::new("/other"), "kind: Workload\nname: a\nprocess: {command: [x, y]}\n");
    assert_ne!(a, elsewhere.unwrap().workloads[0].digest, "relative paths mean something else there");
}

#[test]
fn dependencies_come_first() {
    let one = |name: &str, on: &str| {
        format!("---\nkind: Workload\nname: {name}\nprocess: {{command: [a]}}\ndependsOn: {on}\n")
    };
    let declared = read(&(one("a", "[c, b]") + &one("b", "d") + &one("c", "[]") + &one("d", "[c]")));
    let order: Vec<_> = declared.in_dependency_order().iter().map(|it| it.name.clone()).collect();
    assert_eq!(order, ["c", "d", "b", "a"]);
}

#[test]
fn signals_have_names_and_numbers() {
    for (text, number) in [("SIGINT", 2), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("35", 35)] {
        assert_eq!(with(&format!("stopSignal: {text}")).workloads[0].stop_signal, number);
    }
}

#[test]
fn services_default_to_the_workload_and_its_only_port() {
    let declared =
        with("ports: [{name: http}]\nservice: {listen: 'localhost:0', balance: round-robin}\nmode: observe");
    let web = &declared.workloads[0];
    let service = web.service.as_ref().unwrap();
    assert_eq!((service.name.as_str(), service.port.as_str()), ("web", "http"));
    assert_eq!(service.listen, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(service.balance, Balance::RoundRobin);
    assert_eq!(web.policy.stop.drain, Duration::from_secs(5));
    assert_eq!(web.policy.mode, Mode::Observe);
}

#[test]
fn thousands_of_documents_are_read() {
    let one = |n| format!("---\nkind: Target\nname: t{n}\nhttpGet: {{url: \"http://127.0.0.1/\"}}\n");
    assert_eq!(read(&(0..2000).map(one).collect::<String>()).targets.len(), 2000);
}

#[test]
fn a_question_to_a_name_server_is_a_check_of_a_target() {
    let declared = read(
        "kind: Target\nname: plain\ndns: {name: www.example.com.}\n---\n\
         kind: Target\nname: full\ndns: {name: _sip._tcp.example.com, server: \"[::1]:5353\", recordType: SRV, transport: tcp,\n\
         \x20 recursion: false, expectedCodes: [NOERROR, NXDOMAIN], minAnswers: 2, expectedAnswers: 10 5 5060 sip.example.com.}\n---\n\
         kind: Target\nname: back\ndns: {name: 192.0.2.1, recordType: PTR, server: \"2001:db8::1\"}\n---\n\
         kind: Target\nname: gone\ndns: {name: gone.example.com, server: ns1, expectedCodes: NXDOMAIN}\n",
    );
    let checks: Vec<&Check> = declared.targets.iter().map(|it| &it.check).collect();
    let plain = Dns {
        name: "www.example.com".into(),
        server: None,
        record_type: RecordType::A,
        transport: DnsTransport::Udp,
        recursion: true,
        expected_codes: vec![DnsCode::NoError],
        min_answers: 1,
        expected_answers: vec![],
    };
    let full = Dns {
        name: "_sip._tcp.example.com".into(),
        server: Some(("::1".into(), 5353)),
        record_type: RecordType::Srv,
        transport: DnsTransport::Tcp,
        recursion: false,
        expected_codes: vec![DnsCode::NoError, DnsCode::NxDomain],
        min_answers: 2,
        expected_answers: vec!["10 5 5060 sip.example.com".into()],
    };
    let back = Dns {
        name: "192.0.2.1".into(),
        server: Some(("2001:db8::1".into(), 53)),
        record_type: RecordType::Ptr,
        ..plain.clone()
    };
    let gone = Dns {
        name: "gone.example.com".into(),
        server: Some(("ns1".into(), 53)),
        expected_codes: vec![DnsCode::NxDomain],
        min_answers: 0,
        ..plain.clone()
    };
    for (check, expected) in checks.iter().zip([plain, full, back, gone]) {
        assert_eq!(**check, Check::Dns(expected));
    }
}

#[test]
fn a_look_at_a_certificate_is_a_check_of_a_target() {
    let declared = read(
        "kind: Target\nname: cert\ntls: {host: www.example.com}\n---\n\
         kind: Target\nname: own\ntls: {host: \"::1\", port: 8443, serverName: web.internal, caFile: ca.pem, minValidFor: 30d, verifyName: false}\n",
    );
    let cert = Tls {
        host: "www.example.com".into(),
        port: 443,
        server_name: None,
        ca_file: None,
        min_valid: Duration::from_secs(14 * 86_400),
        verify_chain: true,
        verify_name: true,
    };
    assert_eq!(declared.targets[0].check, Check::Tls(cert));
    let Check::Tls(own) = &declared.targets[1].check else { panic!() };
    assert_eq!(
        (own.host.as_str(), own.port, own.server_name.as_deref()),
        ("::1", 8443, Some("web.internal"))
    );
    assert_eq!(
        (own.min_valid, own.verify_chain, own.verify_name),
        (Duration::from_secs(30 * 86_400), true, false)
    );
    assert!(own.ca_file.as_ref().unwrap().is_absolute());
}
