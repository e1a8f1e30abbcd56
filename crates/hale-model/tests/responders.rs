//! Right responders: what they become.

use std::{path::Path, sync::Arc, time::Duration};

use hale_model::{
    document,
    file::{Declared, FileError, read_str, schema},
    lint::lint_responder,
    spec::{
        AlertSeverity, Autonomy, Overflow, PLACEHOLDERS, Remote, Responder, ResponderLimits, SourceKind,
        Stdin, Step, SuccessWhen, is_placeholder,
    },
};

const CONTRACT: &str = include_str!("responder.yaml");
const DIR: &str = "/srv/app";

fn told(errors: &[FileError]) -> String {
    errors.iter().map(|error| format!("{}: {error}\n", error.place())).collect()
}

fn read(text: &str) -> Declared {
    read_str("test.yaml", Path::new(DIR), text).unwrap_or_else(|errors| panic!("{}", told(&errors)))
}

fn one(text: &str) -> Arc<Responder> {
    let declared = read(text);
    assert_eq!(declared.responders.len(), 1);
    Arc::clone(&declared.responders[0])
}

/// A responder with this source, and the least rule.
fn with_source(source: &str) -> Arc<Responder> {
    one(&format!(
        "kind: Responder\nname: r\nsources: [{source}]\nrules: [{{name: all, run: {{command: [triage]}}}}]\n"
    ))
}

/// A responder of the least source, with this rule.
fn with_rule(rule: &str) -> Arc<Responder> {
    one(&format!("kind: Responder\nname: r\nsources: [{{name: here, kind: hale}}]\nrules:\n- {rule}\n"))
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn every_field_of_the_contract_is_taken() {
    let triage = one(CONTRACT);
    assert_eq!(triage.name, "triage");
    let [source] = triage.sources.as_slice() else { panic!("{:?}", triage.sources) };
    assert_eq!((source.name.as_str(), source.labels["env"].as_str()), ("prod-eu", "prod"));
    assert_eq!(source.kubeconfig.as_deref(), Some(Path::new("/srv/app/prod-eu.kubeconfig")));
    let SourceKind::Mcp(mcp) = &source.kind else { panic!("{:?}", source.kind) };
    let plain = Remote { url: "http://127.0.0.1:8383/mcp".into(), token_file: None, ca_file: None };
    assert_eq!(mcp.remote, plain);
    assert_eq!(mcp.mode, "faults");
    assert!(mcp.namespaces.is_empty() && mcp.filters.is_empty());
    let [rule] = triage.rules.as_slice() else { panic!("{:?}", triage.rules) };
    assert_eq!((rule.name.as_str(), rule.autonomy), ("crash-loops", Autonomy::Act));
    assert_eq!(rule.matches.severity, AlertSeverity::Warning);
    assert_eq!(
        (&rule.matches.fault_types, &rule.matches.kinds, &rule.matches.namespaces),
        (&vec!["CrashLoop".to_owned()], &vec!["Pod".to_owned()], &vec!["shop-*".to_owned()])
    );
    assert!(
        rule.matches.clusters.is_empty() && rule.matches.names.is_empty() && rule.matches.schedule.is_empty()
    );
    assert_eq!(rule.run.command, ["/srv/app/triage.sh", "$(HALE_CLUSTER)"]);
    assert_eq!((rule.run.timeout, rule.run.env["MODE"].as_str()), (Some(MINUTE * 5), "fast"));
    assert_eq!(rule.run.pass_env, ["API_KEY"]);
    let artifact = rule.success.artifact.as_ref().unwrap();
    assert_eq!((artifact.path.as_path(), artifact.min_bytes), (Path::new("output/report.md"), 100));
    assert_eq!(rule.success.recovered_within, Some(MINUTE * 10));
    let [Step::Program(page)] = rule.escalate.as_slice() else { panic!("{:?}", rule.escalate) };
    assert_eq!(page.command, ["/srv/app/page.sh"]);
    let expected = ResponderLimits {
        max_queue_age: Some(MINUTE * 10),
        runs_per_hour: Some(30),
        ..ResponderLimits::default()
    };
    assert_eq!(triage.limits, expected);
    assert_eq!(triage.digest.len(), 64);
}

#[test]
fn the_least_responder_has_the_defaults_of_the_rules() {
    let it = with_rule("{name: all, run: {command: [triage]}}");
    let rule = &it.rules[0];
    assert_eq!(rule.matches, Default::default());
    assert_eq!(rule.matches.severity, AlertSeverity::Warning);
    assert_eq!((rule.autonomy, rule.approval_timeout), (Autonomy::Act, MINUTE * 60));
    assert_eq!(rule.success, SuccessWhen::default());
    assert!(rule.escalate.is_empty());
    let run = &rule.run;
    assert_eq!(run.command, ["triage"], "a bare name is looked for in PATH");
    assert_eq!((run.timeout, run.stdin, run.max_output), (None, Stdin::Alert, 10 << 20));
    assert!(run.env.is_empty() && run.pass_env.is_empty() && run.user.is_none() && run.prompt_file.is_none());
    let limits = &it.limits;
    assert_eq!((limits.max_concurrent_runs, limits.max_per_cluster), (5, 1));
    assert_eq!(
        (limits.queue_size, limits.global_queue_size, limits.overflow),
        (10, 100, Overflow::DropOldest)
    );
    assert_eq!((limits.max_queue_age, limits.duplicate_window), (None, MINUTE * 5));
    assert_eq!((limits.failure_breaker, limits.failure_breaker_reset), (3, MINUTE));
    assert_eq!((limits.runs_per_hour, limits.cost_per_hour), (None, None));
    assert_eq!((limits.keep_workspaces, limits.workspace_bytes), (MINUTE * 60 * 24 * 7, 1 << 30));
}

#[test]
fn each_kind_of_source_takes_its_fields() {
    let it = with_source(
        "{name: a, kind: mcp, url: \"https://mcp.example.com/mcp\", tokenFile: a.token, caFile: /etc/ca.pem, \
         mode: events, namespaces: [shop, pay], filters: {labelSelector: app=shop, limit: 5, deep: {a: [true]}}}",
    );
    let SourceKind::Mcp(mcp) = &it.sources[0].kind else { panic!() };
    assert_eq!(mcp.remote.token_file.as_deref(), Some(Path::new("/srv/app/a.token")));
    assert_eq!(mcp.remote.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert_eq!(
        (mcp.mode.as_str(), mcp.namespaces.as_slice()),
        ("events", &["shop".into(), "pay".into()][..])
    );
    let filters = serde_json::to_string(&mcp.filters).unwrap();
    assert_eq!(filters, r#"{"deep":{"a":[true]},"labelSelector":"app=shop","limit":5}"#);

    let it = with_source("{name: b, kind: hale}");
    assert!(matches!(&it.sources[0].kind, SourceKind::Hale(hale) if hale.remote.is_none()));
    let it = with_source("{name: b, kind: hale, url: \"http://127.0.0.1:7450\", tokenFile: t}");
    assert!(matches!(&it.sources[0].kind, SourceKind::Hale(hale) if hale.remote.is_some()));

    let it = with_source(
        "{name: c, kind: sse, url: \"http://127.0.0.1:1/\", fields: {name: /a/b, severity: /s~1t, faultType: /f, \
         kind: /k, namespace: /n, message: /m, timestamp: /t, resolved: /r}}",
    );
    let SourceKind::Sse(sse) = &it.sources[0].kind else { panic!() };
    let fields = &sse.fields;
    assert_eq!((fields.name.as_str(), fields.severity.as_deref()), ("/a/b", Some("/s~1t")));
    let rest = [&fields.fault_type, &fields.kind, &fields.namespace, &fields.message, &fields.timestamp];
    assert_eq!(rest.map(|it| it.as_deref().unwrap()), ["/f", "/k", "/n", "/m", "/t"]);
    assert_eq!(fields.resolved.as_deref(), Some("/r"));

    let it = with_source("{name: d, kind: webhook, listen: \"0.0.0.0:9095\", path: /alerts, hmacFile: key}");
    let SourceKind::Webhook(webhook) = &it.sources[0].kind else { panic!() };
    assert_eq!((webhook.listen, webhook.path.as_str()), ("0.0.0.0:9095".parse().unwrap(), "/alerts"));
    assert_eq!(webhook.hmac_file.as_deref(), Some(Path::new("/srv/app/key")));
}

#[test]
fn a_webhook_of_this_machine_needs_no_token() {
    for listen in ["127.0.0.1:9095", "127.9.9.9:0", "localhost:9095", "[::1]:9095", "[::ffff:127.0.0.1]:9095"]
    {
        let it = with_source(&format!("{{name: d, kind: webhook, listen: \"{listen}\"}}"));
        assert!(matches!(&it.sources[0].kind, SourceKind::Webhook(it) if it.path == "/"));
    }
}

#[test]
fn a_rule_takes_every_field() {
    let it = with_rule(
        "name: night
  match:
    severity: error
    clusters: [here, \"prod-*\"]
    labels: {env: \"prod*\"}
    names: web-*
    schedule: {days: [sat, sun], from: \"22:00\", to: \"06:00\", timezone: Europe/Berlin, reason: nobody is there}
  run:
    command: [bin/fix, --, $(HALE_NAME), \"$(HALE_LABEL_app.kubernetes.io/name)\", $$(date)]
    env: {WHERE: \"$(HALE_NAMESPACE)/$(HALE_NAME)\"}
    user: nobody
    promptFile: ./prompt.md
    stdin: prompt
    maxOutput: 1Mi
  autonomy: approve
  approvalTimeout: 15m
  successWhen: {recoveredWithin: 90s, recoveredWhen: {command: [/usr/bin/check, $(HALE_UID)], timeout: 10s}}
  escalate:
  - {command: [page, $(HALE_STEP)], stdin: none}
  - {webhook: {url: \"https://example.com/hook\", tokenFile: hook.token}}",
    );
    let rule = &it.rules[0];
    assert_eq!(rule.matches.severity, AlertSeverity::Error);
    assert_eq!(rule.matches.names, ["web-*"]);
    assert_eq!(rule.matches.schedule[0].days, [false, false, false, false, false, true, true]);
    assert_eq!(rule.run.command[0], "/srv/app/bin/fix");
    assert_eq!(rule.run.command[4], "$$(date)");
    assert_eq!(rule.run.prompt_file.as_deref(), Some(Path::new("/srv/app/prompt.md")));
    assert_eq!((rule.run.user.as_deref(), rule.run.stdin), (Some("nobody"), Stdin::Prompt));
    assert_eq!(rule.run.max_output, 1 << 20);
    assert_eq!((rule.autonomy, rule.approval_timeout), (Autonomy::Approve, MINUTE * 15));
    let when = rule.success.recovered_when.as_ref().unwrap();
    assert_eq!(when.command, ["/usr/bin/check", "$(HALE_UID)"]);
    let [Step::Program(page), Step::Webhook(hook)] = rule.escalate.as_slice() else {
        panic!("{:?}", rule.escalate)
    };
    assert_eq!((page.command[0].as_str(), page.stdin), ("page", Stdin::None));
    assert_eq!(hook.token_file.as_deref(), Some(Path::new("/srv/app/hook.token")));
}

#[test]
fn very_large_limits_are_taken() {
    let text = CONTRACT.split("limits:").next().unwrap();
    let it = one(&format!(
        "{text}limits: {{maxConcurrentRuns: 18446744073709551615, queueSize: 4294967296, maxQueueAge: 99999999d, \
         keepWorkspaces: 1000000h, workspaceBytes: 1000Ti, costPerHour: 1.5e300}}\n"
    ));
    assert_eq!((it.limits.max_concurrent_runs, it.limits.queue_size), (u32::MAX, u32::MAX));
    assert!(it.limits.max_queue_age.unwrap() > MINUTE * 60 * 24 * 365 * 99);
    assert_eq!(it.limits.cost_per_hour, Some(1.5e300));
}

#[test]
fn every_placeholder_that_is_listed_is_taken() {
    for name in PLACEHOLDERS.into_iter().chain(["HALE_LABEL_app"]) {
        assert!(is_placeholder(name), "{name}");
        let it = with_rule(&format!(
            "{{name: all, run: {{command: [a, \"x$({name})y\"], env: {{A: \"$({name})\"}}}}}}"
        ));
        assert_eq!(it.rules[0].run.command[1], format!("x$({name})y"));
    }
    assert!(!is_placeholder("HALE_LABEL_") && !is_placeholder("HOME"));
}

#[test]
fn responders_stand_beside_workloads_and_have_names_of_their_own() {
    let text = format!("kind: Workload\nname: triage\nprocess: {{command: [a]}}\n---\n{CONTRACT}");
    let declared = read(&text);
    assert_eq!((declared.workloads.len(), declared.responders.len()), (1, 1));
}

#[test]
fn a_responder_is_no_document_of_a_server() {
    let errors = document::read_str("app.yaml", Path::new(DIR), CONTRACT).unwrap_err();
    assert_eq!(errors[0].to_string(), "kind: a Responder is not declared to a server");
    let help = errors[0].help.as_deref().unwrap();
    assert!(help.contains("hale responder") && help.contains("hale up"), "{help}");
    assert_eq!(errors[0].place(), "app.yaml:1:7");
}

#[test]
fn what_is_read_beside_a_responder_are_the_other_documents() {
    let dir = tempfile::tempdir().unwrap();
    let (both, alone) = (dir.path().join("both.yaml"), dir.path().join("alone.yaml"));
    std::fs::write(&both, format!("kind: Workload\nname: a\nprocess: {{command: [a]}}\n---\n{CONTRACT}"))
        .unwrap();
    std::fs::write(&alone, CONTRACT).unwrap();
    let names =
        |documents: Vec<document::Document>| documents.into_iter().map(|it| it.name).collect::<Vec<_>>();
    assert_eq!(names(document::read_beside(&[&both]).unwrap()), ["a"]);
    assert!(document::read_beside(&[&alone]).unwrap().is_empty());
    assert!(document::read(&[&both]).is_err());
}

#[test]
fn what_an_agent_knows_is_of_what_a_server_sends() {
    let known = document::known_features();
    assert!(known.contains("process.command") && !known.contains("sources.kubeconfig"));
}

#[test]
fn the_digest_tells_what_changed() {
    let before = one(CONTRACT);
    let commented = one(&format!("# a comment\n{CONTRACT}"));
    let changed = one(&CONTRACT.replace("runsPerHour: 30", "runsPerHour: 31"));
    assert_eq!(before, commented);
    assert_ne!(before.digest, changed.digest);
}

#[test]
fn the_schema_has_every_part_of_a_responder() {
    let schema = schema();
    let parts = schema["$defs"].as_object().unwrap();
    let of = |name: &str| {
        let part = &parts[name];
        let required = part["required"].as_array().into_iter().flatten().filter_map(|it| it.as_str());
        let required: Vec<_> = required.collect();
        let fields = part["properties"].as_object().into_iter().flatten();
        let fields: Vec<_> = fields
            .map(|(field, it)| {
                let about = it["description"].as_str().unwrap_or_default();
                let mark = if required.contains(&field.as_str()) { "!" } else { "" };
                format!("  {field}{mark}: {about}\n")
            })
            .collect();
        format!("{name}: {}\n{}", part["description"].as_str().unwrap_or_default(), fields.concat())
    };
    let names =
        ["Responder", "Source", "SseFields", "Rule", "Match", "Program", "SuccessWhen", "Artifact", "Step"];
    let all: String = names.into_iter().chain(["Remote", "Limits"]).map(of).collect();
    insta::assert_snapshot!(all);
}

fn warned(responder: &Responder) -> Vec<String> {
    lint_responder(responder).into_iter().map(|it| format!("{} {}", it.code, it.field)).collect()
}

#[test]
fn of_the_contract_one_thing_is_said() {
    let expected = ["recovery_unseen rules.crash-loops.successWhen.recoveredWithin"];
    assert_eq!(warned(&one(CONTRACT)), expected);
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let it = one("kind: Responder
name: r
sources:
- {name: far, kind: mcp, url: \"http://mcp.example.com/mcp\", tokenFile: t}
- {name: near, kind: mcp, url: \"http://127.0.0.1:8383/mcp\", tokenFile: t}
- {name: here, kind: hale}
rules:
- {name: shops, match: {namespaces: [\"shop-*\"]}, run: {command: [bash, -ec, \"echo $(HALE_MESSAGE)\"]}}
- {name: one-shop, match: {severity: error, kinds: [Pod], namespaces: [shop-a, \"shop-b*\"]}, run: {command: [a]}}
- {name: here, match: {clusters: [here]}, run: {command: [a]}, successWhen: {recoveredWithin: 5m}}
- {name: asks, match: {severity: info}, run: {command: [sh, -c, \"echo $(HALE_CLUSTER)\"]}, approvalTimeout: 5m}
- {name: late, match: {names: [a]}, run: {command: [a]}, escalate: {webhook: {url: \"http://a.example.com\", tokenFile: t}}}
limits: {maxPerCluster: 9}
");
    let expected = [
        "token_in_clear sources.far.tokenFile",
        "shell_injection rules.shops.run.command",
        "unreachable_rule rules.one-shop",
        "no_escalation rules.here.successWhen.recoveredWithin",
        "no_effect rules.asks.approvalTimeout",
        "unreachable_rule rules.late",
        "token_in_clear rules.late.escalate[0].webhook.tokenFile",
        "no_budget limits.runsPerHour",
        "no_effect limits.maxPerCluster",
    ];
    assert_eq!(warned(&it), expected);
}

#[test]
fn a_rule_that_can_still_be_reached_is_not_warned_of() {
    for (first, second) in [
        ("severity: error", "severity: warning"),
        ("namespaces: [\"*\"]", "kinds: [Pod]"),
        ("kinds: [Pod]", "kinds: [Pod, Node]"),
        ("names: [\"a?\"]", "names: [ab]"),
        ("labels: {env: prod}", "labels: {env: \"*\"}"),
        ("schedule: {from: \"01:00\", to: \"02:00\"}", "severity: error"),
    ] {
        let it = with_rule(&format!(
            "{{name: a, match: {{{first}}}, run: {{command: [a]}}}}\n- {{name: b, match: {{{second}}}, run: {{command: [a]}}}}"
        ));
        assert_eq!(warned(&it), ["no_budget limits.runsPerHour"], "{first}, then {second}");
    }
}
