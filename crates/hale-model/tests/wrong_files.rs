//! Wrong files: what is said about each. The snapshots are the messages as a person sees them.

use std::path::Path;

use hale_model::{
    file::{FileError, read_bytes, read_files},
    lint::lint_responder,
};
use miette::{GraphicalReportHandler, GraphicalTheme};
use proptest::prelude::*;
use rstest::{Context, rstest};

#[expect(clippy::unwrap_used, reason = "a test: a report that can not be drawn fails it")]
fn drawn(errors: &[FileError]) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_links(false)
        .with_width(100);
    let mut text = String::new();
    for error in errors {
        handler.render_report(&mut text, error).unwrap();
        text.push('\n');
    }
    text
}

fn said_of(bytes: &[u8]) -> String {
    match read_bytes("app.yaml", Path::new("/srv/app"), bytes) {
        Ok(declared) => panic!("it was taken: {declared:?}"),
        Err(errors) => drawn(&errors),
    }
}

/// The head of a workload that is right so far.
const HEAD: &str = "kind: Workload\nname: web\nprocess: {command: [./web]}\n";

#[rstest]
#[case::unknown_field("livenessProb:\n  httpGet: {path: /healthz, port: 80}\n")]
#[case::unknown_field_of_a_check("livenessProbe:\n  httpGet: {pth: /healthz, port: 80}\n")]
#[case::wrong_case_of_a_field("min_available: 1\n")]
#[case::two_checks_in_a_probe(
    "livenessProbe:\n  httpGet: {path: /healthz, port: 80}\n  exec: {command: [true]}\n"
)]
#[case::no_check_in_a_probe("readinessProbe: {periodSeconds: 1}\n")]
#[case::text_for_a_number("replicas: two\n")]
#[case::quoted_number("replicas: \"2\"\n")]
#[case::list_for_a_mapping("restart:\n- always\n")]
#[case::mapping_for_text("stopSignal: {name: SIGTERM}\n")]
#[case::absurd_number("replicas: 123456789012345678901234567890\n")]
#[case::negative_port("ports: [{name: http, port: -1}]\n")]
#[case::unit_where_seconds_stand("livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 10s}\n")]
#[case::seconds_where_a_unit_is_needed("restart: {restartWindow: 600}\n")]
#[case::period_of_zero("livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 0}\n")]
#[case::threshold_of_zero("livenessProbe: {tcpSocket: {port: 80}, failureThreshold: 0}\n")]
#[case::success_threshold_on_liveness("livenessProbe: {tcpSocket: {port: 80}, successThreshold: 2}\n")]
#[case::more_available_than_there_are("replicas: 2\nminAvailable: 3\n")]
#[case::unknown_port_name("ports: [{name: http}]\nlivenessProbe: {tcpSocket: {port: htpp}}\n")]
#[case::service_without_a_port("service: {listen: \"127.0.0.1:80\"}\n")]
#[case::listen_without_a_port("ports: [{name: http}]\nservice: {listen: 127.0.0.1}\n")]
#[case::word_that_is_not_on_the_list("restart: {policy: on_failure}\n")]
#[case::not_a_regex("livenessProbe: {httpGet: {port: 80, expectedBody: \"/(/\"}}\n")]
#[case::not_a_status("livenessProbe: {httpGet: {port: 80, expectedStatus: 2xx}}\n")]
#[case::not_a_pointer("livenessProbe: {httpGet: {port: 80, expectedJson: {status: up}}}\n")]
#[case::not_a_signal("stopSignal: SIGTREM\n")]
#[case::not_a_size("resources: {memory: 64 megs}\n")]
#[case::command_as_one_word("livenessProbe: {exec: {command: [\"pgrep web\"]}}\n")]
#[case::empty_command("livenessProbe: {exec: {command: []}}\n")]
#[case::tcp_service("ports: [{name: db}]\nservice: {protocol: tcp}\n")]
#[case::reuse_above_suppress("flapping: {suppress: 2, reuse: 6}\n")]
#[case::depends_on_nothing("dependsOn: [wbe, db]\n")]
#[case::depends_on_itself("dependsOn: [web]\n")]
#[case::the_same_field_twice("replicas: 1\nreplicas: 2\n")]
#[case::grace_on_readiness("readinessProbe: {tcpSocket: {port: 80}, terminationGracePeriodSeconds: 1}\n")]
#[case::published_port_of_a_process("ports: [{name: http, port: 0, hostPort: 80}]\n")]
#[case::tls_without_https("livenessProbe: {httpGet: {port: 80, caFile: ca.pem}}\n")]
fn a_workload_with(#[context] context: Context, #[case] rest: &str) {
    let name = context.description.unwrap_or("case").to_owned();
    insta::assert_snapshot!(name, said_of(format!("{HEAD}{rest}").as_bytes()));
}

#[rstest]
#[case::no_kind("name: web\n")]
#[case::unknown_kind("kind: workload\nname: web\n")]
#[case::kubernetes_kind("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n")]
#[case::responder("kind: Responder\nname: triage\n")]
#[case::empty_responder("kind: Responder\nname: triage\nsources: []\nrules:\n- \n")]
#[case::misspelt_responder("kind: Responders\nname: triage\n")]
#[case::process_and_container(
    "kind: Workload\nname: web\nprocess: {command: [a]}\ncontainer: {image: nginx}\n"
)]
#[case::no_name("kind: Workload\nprocess: {command: [a]}\n")]
#[case::name_that_is_no_label("kind: Workload\nname: My_Web.App\nprocess: {command: [a]}\n")]
#[case::nothing_to_run("kind: Workload\nname: web\n")]
#[case::not_a_mapping("- kind: Workload\n")]
#[case::target_without_a_check("kind: Target\nname: t\nperiodSeconds: 5\n")]
#[case::target_with_a_bad_url("kind: Target\nname: t\nhttpGet: {url: 127.0.0.1:9000}\n")]
#[case::target_with_a_command("kind: Target\nname: t\nexec: {command: [true]}\n")]
#[case::dns_without_a_name("kind: Target\nname: t\ndns: {server: 127.0.0.1}\n")]
#[case::dns_of_an_address("kind: Target\nname: t\ndns: {name: 127.0.0.1}\n")]
#[case::dns_of_no_name("kind: Target\nname: t\ndns: {name: a..b}\n")]
#[case::dns_of_an_unknown_record("kind: Target\nname: t\ndns: {name: a.b, recordType: AAA}\n")]
#[case::dns_with_a_server_that_is_none("kind: Target\nname: t\ndns: {name: a.b, server: \"ns:port\"}\n")]
#[case::dns_with_records_that_can_not_be(
    "kind: Target\nname: t\ndns: {name: a.b, expectedCodes: NXDOMAIN, minAnswers: 1}\n"
)]
#[case::tls_without_a_host("kind: Target\nname: t\ntls: {port: 443}\n")]
#[case::tls_with_a_url("kind: Target\nname: t\ntls: {host: \"https://a.b/\"}\n")]
#[case::tls_with_a_ca_for_nothing(
    "kind: Target\nname: t\ntls: {host: a.b, caFile: ca.pem, verifyChain: false}\n"
)]
#[case::tls_with_days_without_a_unit("kind: Target\nname: t\ntls: {host: a.b, minValidFor: 14}\n")]
#[case::target_with_two_checks("kind: Target\nname: t\ntls: {host: a.b}\ndns: {name: a.b}\n")]
#[case::target_from_several_nodes("kind: Target\nname: t\ntls: {host: a.b}\nfrom: {nodes: 3, quorum: 2}\n")]
#[case::bad_indentation("kind: Workload\nname: web\n   process: {command: [a]}\n")]
#[case::open_bracket("kind: Workload\nname: web\nprocess: {command: [a}\n")]
#[case::a_tab("kind: Workload\nname: web\nprocess:\n\tcommand: [a]\n")]
#[case::open_quote("kind: Workload\nname: \"web\nprocess: {command: [a]}\n")]
#[case::empty("# only a comment\n---\n")]
#[case::a_custom_tag("kind: Workload\nname: !secret web\n")]
#[case::duplicate_name(
    "kind: Workload\nname: web\nprocess: {command: [a]}\n---\nkind: Target\nname: web\nhttpGet: {url: \"http://127.0.0.1/\"}\n"
)]
#[case::name_of_a_replica(
    "kind: Workload\nname: web\nreplicas: 2\nprocess: {command: [a]}\n---\nkind: Workload\nname: web-1\nprocess: {command: [a]}\n"
)]
#[case::one_address_twice(
    "kind: Workload\nname: a\nprocess: {command: [a]}\nports: [{name: p}]\nservice: {listen: '127.0.0.1:80'}\n---\n\
     kind: Workload\nname: b\nprocess: {command: [a]}\nports: [{name: p}]\nservice: {name: a, listen: '0.0.0.0:80'}\n"
)]
#[case::a_cycle(
    "kind: Workload\nname: a\nprocess: {command: [x]}\ndependsOn: [b]\n---\nkind: Workload\nname: b\nprocess: {command: [x]}\ndependsOn: [c]\n---\n\
     kind: Workload\nname: c\nprocess: {command: [x]}\ndependsOn: [a]\n"
)]
#[case::several_mistakes(
    "kind: Workload\nname: web\nreplicas: -1\nprocess: {command: ./web}\nlivenessProb: {}\n---\nkind: Workload\nname: api\nprocess: {comand: [a]}\n"
)]
fn a_file_with(#[context] context: Context, #[case] text: &str) {
    let name = context.description.unwrap_or("case").to_owned();
    insta::assert_snapshot!(name, said_of(text.as_bytes()));
}

/// The head of a workload that is right once its image is given.
const IMAGE: &str = "kind: Workload\nname: web\ncontainer:\n  ";

#[rstest]
#[case::no_image("pull: always\n")]
#[case::image_and_adopt("image: nginx\n  adopt: {label: autoheal}\n")]
#[case::image_that_is_a_url("image: https://registry.example.com/web\n")]
#[case::image_with_capitals("image: Registry.example.com:5000/Team/web:V2\n")]
#[case::image_with_spaces("image: docker run nginx\n")]
#[case::unknown_pull_policy("image: nginx\n  pull: IfNotPresent\n")]
#[case::adopt_without_a_label("adopt: {}\n")]
#[case::adopt_with_what_has_no_effect(
    "adopt: {label: autoheal=true}\n  env: {A: b}\n  user: root\nresources: {memory: 64Mi}\nports: [{name: http, port: 80, hostPort: 8080}]\n"
)]
#[case::container_command_as_one_word("image: nginx\n  command: [\"nginx -g\"]\n")]
#[case::relative_path_inside("image: nginx\n  workingDir: app\n")]
#[case::volume_without_a_target("image: nginx\n  volumes: [./data]\n")]
#[case::volume_at_home("image: nginx\n  volumes: [\"~/data:/data\"]\n")]
#[case::volume_with_unknown_options("image: nginx\n  volumes: [\"./data:/data:ro,z\"]\n")]
#[case::volume_in_full_with_a_slip(
    "image: nginx\n  volumes: [{source: ./a, target: /a, readonly: true}, {source: b}]\n"
)]
#[case::two_volumes_in_one_place("image: nginx\n  volumes: [\"a:/data\", \"./b:/data/\"]\n")]
#[case::a_label_of_hale("image: nginx\n  labels: {dev.hale.workload: x}\n")]
#[case::secret_and_plain_environment("image: nginx\n  env: {A: b}\n  secretEnv: {A: c}\n")]
#[case::ulimit_that_engines_lack("image: nginx\n  ulimits: {as: 64Mi}\n")]
#[case::healthcheck_that_is_no_switch("image: nginx\n  healthcheck: {test: [CMD, true]}\n")]
#[case::container_port_of_zero("image: nginx\nports: [{name: http}, {name: admin, port: 0}]\n")]
#[case::published_on_one_port_twice(
    "image: nginx\nports: [{name: a, port: 80, hostPort: 8080}, {name: b, port: 81, hostPort: 8080}]\n"
)]
#[case::published_from_the_network_of_the_host(
    "image: nginx\n  network: host\nports: [{name: a, port: 80, hostPort: 0}]\n"
)]
#[case::notify_in_a_container("image: nginx\nlivenessProbe: {notify: {}}\n")]
#[case::field_of_a_process("image: nginx\n  group: www\n")]
fn a_container_with(#[context] context: Context, #[case] rest: &str) {
    let name = context.description.unwrap_or("case").to_owned();
    insta::assert_snapshot!(name, said_of(format!("{IMAGE}{rest}").as_bytes()));
}

/// A responder that is right but for one part, which stands after its place in it.
fn responder(source: &str, rule: &str, rest: &str) -> String {
    let source = if source.is_empty() { "{name: here, kind: hale}" } else { source };
    let rule = if rule.is_empty() { "{name: all, run: {command: [triage]}}" } else { rule };
    format!("kind: Responder\nname: triage\nsources:\n- {source}\nrules:\n- {rule}\n{rest}")
}

#[rstest]
#[case::source_without_a_kind("{name: a, url: \"http://127.0.0.1/mcp\"}")]
#[case::source_of_an_unknown_kind("{name: a, kind: webhok}")]
#[case::source_without_a_name("{kind: hale}")]
#[case::source_with_a_name_that_is_no_label("{name: prod/eu, kind: hale}")]
#[case::two_sources_of_one_name("{name: a, kind: hale}\n- {name: a, kind: hale}")]
#[case::mcp_without_a_url("{name: a, kind: mcp}")]
#[case::mcp_with_a_bad_url("{name: a, kind: mcp, url: \"127.0.0.1:8383/mcp\"}")]
#[case::mcp_with_an_unknown_mode("{name: a, kind: mcp, url: \"http://127.0.0.1/mcp\", mode: fault}")]
#[case::token_in_a_url("{name: a, kind: mcp, url: \"http://me:secret@127.0.0.1/mcp\"}")]
#[case::ca_file_without_https("{name: a, kind: mcp, url: \"http://127.0.0.1/mcp\", caFile: ca.pem}")]
#[case::fields_of_other_kinds(
    "{name: a, kind: hale, mode: faults, fields: {name: /a}, listen: \"127.0.0.1:1\", path: /}"
)]
#[case::token_for_nobody("{name: a, kind: hale, tokenFile: t}")]
#[case::sse_without_fields("{name: a, kind: sse, url: \"http://127.0.0.1/\"}")]
#[case::sse_without_a_name_field("{name: a, kind: sse, url: \"http://127.0.0.1/\", fields: {kind: /kind}}")]
#[case::sse_with_fields_that_are_no_pointers(
    "{name: a, kind: sse, url: \"http://127.0.0.1/\", fields: {name: object.name, kind: /a~2b}}"
)]
#[case::webhook_without_an_address("{name: a, kind: webhook, path: /alerts}")]
#[case::webhook_with_a_url(
    "{name: a, kind: webhook, url: \"http://127.0.0.1:9095/\", listen: \"127.0.0.1:9095\"}"
)]
#[case::webhook_for_everybody("{name: a, kind: webhook, listen: \"0.0.0.0:9095\"}")]
#[case::webhook_with_a_bad_path("{name: a, kind: webhook, listen: \"127.0.0.1:9095\", path: alerts?a=b}")]
#[case::two_webhooks_on_one_address(
    "{name: a, kind: webhook, listen: \"127.0.0.1:9095\"}\n- {name: b, kind: webhook, listen: \"127.0.0.1:9095\", path: /b}"
)]
fn a_responder_with_a_source(#[context] context: Context, #[case] source: &str) {
    let name = context.description.unwrap_or("case").to_owned();
    insta::assert_snapshot!(name, said_of(responder(source, "", "").as_bytes()));
}

#[rstest]
#[case::rule_without_a_name("{run: {command: [a]}}")]
#[case::rule_without_a_program("{name: all, match: {severity: error}}")]
#[case::two_rules_of_one_name("{name: a, run: {command: [a]}}\n- {name: a, run: {command: [b]}}")]
#[case::unknown_field_of_a_match("{name: all, match: {kind: [Pod]}, run: {command: [a]}}")]
#[case::unknown_severity("{name: all, match: {severity: warn}, run: {command: [a]}}")]
#[case::match_of_nothing("{name: all, match: {namespaces: [\"\"]}, run: {command: [a]}}")]
#[case::match_of_an_unknown_cluster("{name: all, match: {clusters: [her, \"prod-*\"]}, run: {command: [a]}}")]
#[case::schedule_without_an_end(
    "{name: all, match: {schedule: {from: \"22:00\", timezone: Berlin}}, run: {command: [a]}}"
)]
#[case::command_as_a_shell_line("{name: all, run: {command: ./triage.sh $(HALE_CLUSTER)}}")]
#[case::command_that_is_empty("{name: all, run: {command: []}}")]
#[case::placeholder_that_is_unknown("{name: all, run: {command: [a, $(HALE_NAMESPCE), $(date)]}}")]
#[case::placeholder_in_the_program("{name: all, run: {command: [./$(HALE_NAME).sh]}}")]
#[case::placeholder_in_the_environment("{name: all, run: {command: [a], env: {A: $(HOME), HALE_NAME: me}}}")]
#[case::all_of_the_environment("{name: all, run: {command: [a], passEnv: [\"*\", A=b]}}")]
#[case::program_with_limits_of_zero("{name: all, run: {command: [a], timeout: 0, maxOutput: 0}}")]
#[case::timeout_without_a_unit("{name: all, run: {command: [a], timeout: 300}}")]
#[case::autonomy_that_is_unknown("{name: all, run: {command: [a]}, autonomy: acts, approvalTimeout: -1h}")]
#[case::artifact_outside_of_the_workspace(
    "{name: all, run: {command: [a]}, successWhen: {artifact: {path: ../../etc/passwd}}}"
)]
#[case::artifact_without_a_path("{name: all, run: {command: [a]}, successWhen: {artifact: {minBytes: 5}}}")]
#[case::recovered_when_without_within(
    "{name: all, run: {command: [a]}, successWhen: {recoveredWhen: {command: [b]}}}"
)]
#[case::step_without_anything("{name: all, run: {command: [a]}, escalate: [{}]}")]
#[case::step_with_a_webhook_and_a_program(
    "{name: all, run: {command: [a]}, escalate: [{command: [b], webhook: {url: \"http://127.0.0.1/\"}}]}"
)]
#[case::step_with_a_webhook_to_nowhere(
    "{name: all, run: {command: [a]}, escalate: {webhook: {tokenFile: t}}}"
)]
fn a_responder_with_a_rule(#[context] context: Context, #[case] rule: &str) {
    let name = context.description.unwrap_or("case").to_owned();
    insta::assert_snapshot!(name, said_of(responder("", rule, "").as_bytes()));
}

#[rstest]
#[case::limits_of_zero(
    "limits: {maxConcurrentRuns: 0, queueSize: 0, maxQueueAge: 0s, costPerHour: 0, workspaceBytes: 0}\n"
)]
#[case::limits_below_zero(
    "limits: {maxPerCluster: -1, duplicateWindow: -5m, costPerHour: -0.5, runsPerHour: many}\n"
)]
#[case::overflow_that_is_unknown("limits: {overflow: drop-newest}\n")]
#[case::unknown_limit("limits: {maxConcurrentRun: 5}\n")]
#[case::unknown_field_of_a_responder("source: []\n")]
#[case::two_responders_of_one_name(
    "---\nkind: Responder\nname: triage\nsources: [{name: a, kind: hale}]\nrules: [{name: a, run: {command: [a]}}]\n"
)]
#[case::address_of_a_service(
    "---\nkind: Responder\nname: other\nsources: [{name: a, kind: webhook, listen: \"127.0.0.1:8080\"}]\nrules: [{name: a, run: {command: [a]}}]\n\
     ---\nkind: Workload\nname: web\nprocess: {command: [a]}\nports: [{name: http}]\nservice: {listen: \"127.0.0.1:8080\"}\n"
)]
fn a_responder_with(#[context] context: Context, #[case] rest: &str) {
    let name = context.description.unwrap_or("case").to_owned();
    insta::assert_snapshot!(name, said_of(responder("", "", rest).as_bytes()));
}

#[test]
fn a_file_that_is_not_utf8() {
    insta::assert_snapshot!(said_of(b"kind: Workload\nname: w\xffb\n"));
}

#[test]
fn a_bomb_is_refused_at_once() {
    let mut text = "kind: Workload\nname: web\nprocess: {command: [a]}\nx0: &x0 [lol, lol]\n".to_owned();
    for n in 1..40 {
        text.push_str(&format!("x{n}: &x{n} [*x{}, *x{}]\n", n - 1, n - 1));
    }
    insta::assert_snapshot!(said_of(text.as_bytes()));
}

#[test]
fn nesting_without_end_is_refused() {
    let said = said_of("[".repeat(100_000).as_bytes());
    assert!(said.contains("hale::file::"), "{said}");
    let said = said_of(format!("kind: Workload\nx: {}", "\n- ".repeat(100)).as_bytes());
    assert!(said.contains("hale::file::"), "{said}");
}

#[test]
fn a_missing_file_and_a_directory_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let errors = read_files(&[dir.path().join("none.yaml"), dir.path().to_path_buf()]).unwrap_err();
    let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(said[0].contains("none.yaml: No such file"), "{said:?}");
    assert!(said[1].contains("is a directory"), "{said:?}");
}

#[test]
fn mistakes_of_several_files_are_told_together_and_point_at_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
    std::fs::write(&a, format!("{HEAD}replicas: x\n")).unwrap();
    std::fs::write(&b, HEAD).unwrap();
    let errors = read_files(&[&a, &b]).unwrap_err();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(errors[0].place(), format!("{}:4:11", a.display()));
    assert_eq!(errors[1].place(), format!("{}:2:7", b.display()));
    let first = format!("name: web is declared twice, first at {}:2:7", a.display());
    assert_eq!(errors[1].to_string(), first);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn reading_never_panics_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_bytes("x", Path::new("/"), &bytes).map_err(|errors| drawn(&errors));
    }

    #[test]
    fn reading_never_panics_on_what_looks_like_yaml(text in "([a-z]{1,3}|kind: Workload|name: a|process|:|: |- |\n|\n  |[{\\[\\]},]|&a |\\*a|<<|!!str |\"|'|#|\t|---\n|[0-9]|é|~|\\|){0,60}") {
        let _ = read_bytes("x", Path::new("/"), text.as_bytes()).map_err(|errors| drawn(&errors));
    }

    /// A right file with a piece cut out, put in or exchanged.
    #[test]
    fn reading_never_panics_on_damaged_files(at in 0..1200_usize, cut in 0..20_usize, put in "[ -~\n\t]{0,6}") {
        let text = damaged(include_str!("contract.yaml"), at, cut, &put);
        let _ = read_bytes("x", Path::new("/"), text.as_bytes()).map_err(|errors| drawn(&errors));
    }

    /// What is taken of a damaged responder keeps the promises of the type, whatever was damaged.
    #[test]
    fn a_damaged_responder_is_refused_or_right(at in 0..1300_usize, cut in 0..20_usize, put in "[ -~\n\t]{0,6}") {
        let text = damaged(include_str!("responder.yaml"), at, cut, &put);
        let read = read_bytes("x", Path::new("/srv"), text.as_bytes());
        for it in read.map_err(|errors| drawn(&errors)).map(|it| it.responders).unwrap_or_default() {
            prop_assert!(!it.sources.is_empty() && !it.rules.is_empty());
            for rule in &it.rules {
                let program = rule.run.command.first().map(String::as_str).unwrap_or_default();
                prop_assert!(!program.is_empty() && (program.starts_with('/') || !program.contains('/')), "{program}");
                prop_assert!(rule.run.timeout.is_none_or(|it| !it.is_zero()));
                let artifact = rule.success.artifact.as_ref().map(|it| it.path.clone()).unwrap_or_default();
                prop_assert!(artifact.is_relative() && !artifact.to_string_lossy().contains(".."), "{artifact:?}");
            }
            prop_assert!(it.limits.max_concurrent_runs > 0 && it.limits.queue_size > 0);
            let _ = lint_responder(&it);
        }
    }
}

/// A text with a piece cut out, put in or exchanged.
fn damaged(right: &str, at: usize, cut: usize, put: &str) -> String {
    let at = right.floor_char_boundary(at.min(right.len()));
    let end = right.floor_char_boundary((at + cut).min(right.len())).max(at);
    format!("{}{put}{}", &right[..at], &right[end..])
}
