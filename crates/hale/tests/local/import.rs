//! `hale import`: what comes out, what is listed as not carried over, and that it is right.

use std::path::PathBuf;

use crate::{Done, hale, run};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/local/import").join(name)
}

/// Imports a file, and has `hale check` look over what came of it.
fn import(kind: &str, name: &str) -> Done {
    let path = file(name);
    let dir = path.parent().expect("it is in a directory");
    let name = path.file_name().expect("it has a name");
    let mut command = hale();
    for name in ["LOG_LEVEL", "FROM_OUTSIDE", "DB_PASSWORD", "COMPOSE_PROJECT_NAME"] {
        command.env_remove(name);
    }
    let done = run(command.current_dir(dir).args(["import", kind]).arg(name).env("WEB_VERSION", "1.5"));
    let check = run(hale().args(["check", "-"]).write_stdin(done.out.clone()));
    assert_eq!(check.code, 0, "{}\n{}", done.out, check.err);
    done
}

fn whole(done: &Done) -> String {
    format!("exit {}\n{}\n== not carried over ==\n{}", done.code, done.out, done.err)
}

#[test]
fn a_compose_file_becomes_containers() {
    insta::assert_snapshot!(whole(&import("compose", "shop/compose.yaml")));
}

#[test]
fn manifests_become_containers_with_what_they_refer_to() {
    insta::assert_snapshot!(whole(&import("kubernetes", "manifest.yaml")));
}

#[test]
fn a_unit_becomes_a_process() {
    insta::assert_snapshot!(whole(&import("systemd", "web.service")));
}

#[test]
fn an_ecosystem_file_becomes_processes() {
    insta::assert_snapshot!(whole(&import("pm2", "ecosystem.json")));
}

#[test]
fn programs_of_supervisord_become_processes() {
    insta::assert_snapshot!(whole(&import("supervisord", "supervisord.conf")));
}

#[test]
fn the_lines_of_a_procfile_become_processes() {
    insta::assert_snapshot!(whole(&import("procfile", "Procfile")));
}

#[test]
fn what_is_not_of_its_kind_is_refused_with_its_place() {
    let cases = [
        ("compose", "kind: Deployment\n", "services: missing, this is no compose file"),
        ("compose", "services: [\n", "not valid YAML"),
        ("kubernetes", "services: {}\n", "kind: missing, this is no manifest"),
        ("systemd", "[Timer]\nOnCalendar=daily\n", "no ExecStart="),
        ("pm2", "module.exports = {apps: []}\n", "node -p"),
        ("pm2", "{\"apps\": []}", "none has a script"),
        ("supervisord", "[supervisord]\nnodaemon=true\n", "no [program:…]"),
        ("procfile", "# nothing\n", "no line `name: command`"),
    ];
    for (kind, text, expected) in cases {
        let done = run(hale().args(["import", kind, "-"]).write_stdin(text));
        assert_eq!((done.code, done.out.as_str()), (3, ""), "{kind}: {}", done.err);
        assert!(done.err.contains(expected), "{kind}: {}", done.err);
    }
    let done = run(hale().args(["import", "compose", "/nowhere/compose.yaml"]));
    assert_eq!(done.code, 3);
    assert!(done.err.contains("/nowhere/compose.yaml: No such file"), "{}", done.err);
    let done =
        run(hale().args(["import", "kubernetes", "-"]).write_stdin("kind: Ingress\nmetadata: {name: a}\n"));
    assert_eq!((done.code, done.out.as_str()), (1, ""));
    assert!(done.err.contains("a Ingress is not carried over"), "{}", done.err);
}

/// Each line of ports, volumes and healthchecks that compose files have, and what becomes of it.
#[test]
fn every_way_to_write_a_thing_in_a_compose_file_is_understood() {
    let cases = [
        ("ports: [\"80\"]", "ports: [{name: http, port: 80, hostPort: 0}]", ""),
        ("ports: [\"8080:80\"]", "ports: [{name: http, port: 80, hostPort: 8080}]", ""),
        ("ports: [\"0.0.0.0:8080:80/tcp\"]", "port: 80, hostPort: 8080}]", ""),
        ("ports: [\"[::1]:8080:80\"]", "port: 80, hostPort: 8080}]", "on the address of the node"),
        ("ports: [\"7000-7001:8000-8001\"]", "port: 8001, hostPort: 7001}", ""),
        (
            "ports: [{target: 80, published: \"8080\", name: web}]",
            "ports: [{name: web, port: 80, hostPort: 8080}]",
            "",
        ),
        ("ports: [{target: 80, published: 8000-9000}]", "port: 80, hostPort: 0}]", "one of a range"),
        ("ports: [\"8000-8001:80\"]", "", "not understood"),
        ("volumes: [\"~/x:/x\"]", "volumes: [\"/srv/me/x:/x\"]", ""),
        ("volumes: [\"data:/x:z,ro\"]", "volumes: [\"p_data:/x:ro\"]", "the option z is not carried over"),
        ("volumes: [{type: bind, source: ./a, target: /a, read_only: true}]", "volumes: [\"./a:/a:ro\"]", ""),
        ("command: echo 'a b' c", "args: [echo, \"a b\", c]", ""),
        ("command: echo \"*\" $$HOME", "args: [echo, \"*\", $HOME]", ""),
        ("entrypoint: []", "", "an empty one can't be given"),
        ("healthcheck: {test: [NONE]}", "healthcheck: off", ""),
        ("healthcheck: {interval: 5s}", "", "without test"),
        (
            "healthcheck: {test: [CMD-SHELL, \"a || b\"], retries: 2}",
            "command: [/bin/sh, \"-c\", \"a || b\"]",
            "",
        ),
        ("restart: on-failure", "policy: on-failure", ""),
        ("pull_policy: always", "pull: always", ""),
        ("pull_policy: daily", "", "hale has missing, always and never"),
        (
            "deploy: {placement: {constraints: [node.labels.disk == ssd]}}",
            "placement: {nodeSelector: {disk: ssd}}",
            "",
        ),
        ("environment: {A: \"${B:-${C:-d}}\"}", "env: {A: d}", ""),
        ("environment: {A: $NOWHERE}", "env: {A: \"\"}", "NOWHERE} is set neither"),
        ("privileged: true", "", "privileged: not carried over"),
        ("privileged: false", "", ""),
    ];
    for (line, expected, noted) in cases {
        let rest = if line.starts_with("restart") { "" } else { "\n    restart: always" };
        let text = format!("name: p\nservices:\n  web:\n    image: busybox\n    {line}{rest}\n");
        let mut command = hale();
        for name in ["B", "C", "NOWHERE"] {
            command.env_remove(name);
        }
        let done = run(command.args(["import", "compose", "-"]).env("HOME", "/srv/me").write_stdin(text));
        assert_eq!(done.code, 0, "{line}: {}\n{}", done.out, done.err);
        assert!(done.out.replace('\n', " ").contains(expected), "{line}: {}", done.out);
        match noted {
            "" => assert_eq!(done.err, "", "{line}"),
            noted => assert!(done.err.contains(noted), "{line}: {}", done.err),
        }
        let check = run(hale().args(["check", "-"]).write_stdin(done.out.clone()));
        assert_eq!(check.code, 0, "{line}: {}\n{}", done.out, check.err);
    }
}
