//! Wrong files: what is said about each. The snapshots are the messages as a person sees them.

use std::path::Path;

use hale_model::file::{FileError, read_bytes, read_files};
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
        let right = include_str!("contract.yaml");
        let at = right.floor_char_boundary(at.min(right.len()));
        let end = right.floor_char_boundary((at + cut).min(right.len())).max(at);
        let text = format!("{}{put}{}", &right[..at], &right[end..]);
        let _ = read_bytes("x", Path::new("/"), text.as_bytes()).map_err(|errors| drawn(&errors));
    }
}
