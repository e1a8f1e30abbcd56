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

/// Lines of ports, volumes, healthchecks and others, what becomes of each, and what is noted.
const COMPOSE: &[(&str, &str, &str)] = &[
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
    ("volumes: [{type: bind, source: data, target: /d}]", "volumes: [\"./data:/d\"]", ""),
    (
        "volumes: [{type: bind, source: /d, target: /d, bind: {propagation: shared}}]",
        "volumes: [\"/d:/d\"]",
        "bind.propagation is not carried over",
    ),
    ("command: echo $$$$", "args: [echo, $$$$]", ""),
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

/// Each line of ports, volumes and healthchecks that compose files have, and what becomes of it.
#[test]
fn every_way_to_write_a_thing_in_a_compose_file_is_understood() {
    for (line, expected, noted) in COMPOSE {
        let rest = if line.starts_with("restart") { "" } else { "\n    restart: always" };
        let text = format!("name: p\nservices:\n  web:\n    image: busybox\n    {line}{rest}\n");
        let mut command = hale();
        for name in ["B", "C", "NOWHERE"] {
            command.env_remove(name);
        }
        let done = run(command.args(["import", "compose", "-"]).env("HOME", "/srv/me").write_stdin(text));
        assert_eq!(done.code, 0, "{line}: {}\n{}", done.out, done.err);
        assert!(done.out.replace('\n', " ").contains(expected), "{line}: {}", done.out);
        match *noted {
            "" => assert_eq!(done.err, "", "{line}"),
            noted => assert!(done.err.contains(noted), "{line}: {}", done.err),
        }
        let check = run(hale().args(["check", "-"]).write_stdin(done.out.clone()));
        assert_eq!(check.code, 0, "{line}: {}\n{}", done.out, check.err);
    }
}

/// Lines of other tools, the command (or another part) that becomes of them, and what is noted.
#[test]
fn lines_that_mean_more_than_they_seem_to_become_what_they_mean() {
    let unit = |rest: &str| format!("[Service]\n{rest}\n");
    let app = |rest: &str| format!(r#"{{"apps": [{{"name": "a", "script": "app.js", {rest}}}]}}"#);
    let cases = [
        (
            "pm2",
            app(r#""node_args": "--max-old-space-size=4096""#),
            "[node, \"--max-old-space-size=4096\", app.js]",
            "",
        ),
        ("pm2", app(r#""args": "--port=80 *.js""#), "app.js, \"--port=80\", \"*.js\"]", ""),
        ("procfile", "w: echo $$ > pid; exec x".to_owned(), "echo $$$$ > pid; exec x", ""),
        ("procfile", "w: x --a $PORT_ADMIN --b $PORTAL".to_owned(), "x --a $PORT_ADMIN --b $PORTAL", ""),
        ("procfile", "w: x $PORT/a".to_owned(), "$(PORT)/a", ""),
        ("procfile", "w: x ${PORT:-5000}".to_owned(), "ports: [{name: http", ""),
        ("systemd", unit("ExecStart=/bin/x"), "policy: never", ""),
        ("systemd", unit("ExecStart=/bin/x\nRestart=no"), "policy: never", ""),
        (
            "systemd",
            unit("ExecStart=/bin/x --url http://h/?a=1 --name \"a b\" ${OPT}"),
            "\"a b\", \"$(OPT)\"]",
            "",
        ),
        (
            "systemd",
            unit("ExecStart=/usr/sbin/sshd -D $SSHD_OPTS"),
            "$(SSHD_OPTS)",
            "systemd makes words of it",
        ),
    ];
    for (kind, text, expected, noted) in cases {
        let done = run(hale().args(["import", kind, "-"]).write_stdin(text.clone()));
        assert_eq!(done.code, 0, "{text}: {}\n{}", done.out, done.err);
        assert!(done.out.contains(expected), "{text}: {}", done.out);
        assert!(done.err.contains(noted), "{text}: {}", done.err);
        let check = run(hale().args(["check", "-"]).write_stdin(done.out.clone()));
        assert_eq!(check.code, 0, "{text}: {}\n{}", done.out, check.err);
    }
    let always =
        run(hale().args(["import", "systemd", "-"]).write_stdin(unit("ExecStart=/bin/x\nRestart=always")));
    assert!(!always.out.contains("policy"), "{}", always.out);
}

#[test]
fn of_two_sources_of_a_variable_the_later_counts_and_a_path_below_a_volume_is_kept() {
    let manifest = r#"
kind: ConfigMap
metadata: {name: base}
data: {A: base, B: base, C: base}
---
kind: ConfigMap
metadata: {name: over}
data: {A: over, C: over}
---
kind: Secret
metadata: {name: binary}
data: {KEY: "//8="}
---
kind: Pod
metadata: {name: p}
spec:
  containers:
    - name: c
      image: busybox
      env: [{name: C, value: own}]
      envFrom: [{configMapRef: {name: base}}, {configMapRef: {name: over}}, {secretRef: {name: binary}}]
      volumeMounts:
        - {name: d, mountPath: /etc/app, subPath: app}
        - {name: d, mountPath: /etc/expr, subPathExpr: $(X)}
  volumes: [{name: d, hostPath: {path: /srv/}}]
"#;
    let done = run(hale().args(["import", "kubernetes", "-"]).write_stdin(manifest));
    assert_eq!(done.code, 0, "{}", done.err);
    for part in ["A: over", "B: base", "C: own", "/srv/app:/etc/app"] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    assert!(!done.out.contains("/etc/expr"), "{}", done.out);
    for part in ["subPathExpr", "KEY of Secret binary is no text"] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
}
