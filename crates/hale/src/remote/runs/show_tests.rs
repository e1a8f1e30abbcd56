use std::collections::BTreeMap;

use hale_api::runs::Artifact;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn run(id: &str, state: RunState) -> Run {
    Run {
        id: id.to_owned(),
        responder: "oncall".to_owned(),
        alert: "a1".to_owned(),
        cluster: "eu-1".to_owned(),
        severity: AlertSeverity::Error,
        fault_type: "CrashLoop".to_owned(),
        resource: Resource {
            kind: "Pod".to_owned(),
            name: "web-0".to_owned(),
            namespace: Some("shop".to_owned()),
            ..Resource::default()
        },
        rule: "crashes".to_owned(),
        autonomy: Autonomy::Act,
        step: 0,
        escalates: None,
        state,
        reason: None,
        duplicates: 0,
        queued_at: at(0),
        approve_until: None,
        decided_by: None,
        started_at: None,
        ended_at: None,
        recover_until: None,
        finished_at: None,
        exit_code: None,
        signal: None,
        workspace: None,
        artifacts: Vec::new(),
        cost: None,
        command: vec!["fix-it".to_owned(), "it's web-0".to_owned()],
    }
}

fn failed() -> Run {
    Run {
        reason: Some("exit status 1".to_owned()),
        started_at: Some(at(1)),
        ended_at: Some(at(13)),
        finished_at: Some(at(13)),
        exit_code: Some(1),
        ..run("r1", RunState::Failed)
    }
}

fn alert() -> Alert {
    Alert {
        id: "a1".to_owned(),
        cluster: "eu-1".to_owned(),
        source: "mcp".to_owned(),
        source_id: Some("f-7".to_owned()),
        severity: AlertSeverity::Error,
        fault_type: "CrashLoop".to_owned(),
        resource: run("r1", RunState::Queued).resource,
        message: "back-off \u{1b}[2Jrestarting".to_owned(),
        labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        context: serde_json::Value::Null,
        timestamp: at(-5),
        received_at: at(0),
    }
}

fn shown(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap()
}

#[test]
fn runs_are_listed_as_they_come_with_what_they_are_for() {
    let waiting = run("r3", RunState::AwaitingApproval);
    let going = Run { started_at: Some(at(30)), step: 1, ..run("r2", RunState::Running) };
    let text = shown(|out| list(&[waiting, going, failed()], at(60), out));
    let expected = "\
RUN  STATE              CLUSTER  RESOURCE        FAULT      RULE            SINCE     TOOK  WHY
r3   awaiting_approval  eu-1     Pod shop/web-0  CrashLoop  crashes         1m0s ago        `hale runs approve r3` lets it go on
r2   running            eu-1     Pod shop/web-0  CrashLoop  crashes step 1  1m0s ago  30s
r1   failed             eu-1     Pod shop/web-0  CrashLoop  crashes         1m0s ago  12s   exit status 1
";
    assert_eq!(text, expected);
    assert_eq!(shown(|out| list(&[], at(0), out)), "there are no runs\n");
}

#[test]
fn one_run_is_shown_with_its_timeline_its_alert_and_its_outputs() {
    let run = Run {
        workspace: Some("/var/lib/hale/runs/r1".into()),
        artifacts: vec![Artifact { path: "output/diagnosis.md".into(), bytes: 2048 }],
        duplicates: 2,
        queued_at: at(20),
        started_at: Some(at(21)),
        ended_at: Some(at(33)),
        finished_at: Some(at(33)),
        decided_by: Some("ann via cli".to_owned()),
        ..failed()
    };
    let found = RunDetail {
        run,
        alert: Some(alert()),
        duplicates: Vec::new(),
        stdout: "looking\n".to_owned(),
        stderr: "no such pod\u{7}\n".to_owned(),
    };
    let text = shown(|out| one(&found, at(60), &TimeZone::UTC, out));
    let expected = r"run         r1
state       failed: exit status 1
for         CrashLoop of Pod shop/web-0 in eu-1 (error)
by          rule crashes of oncall (act)
decided by  ann via cli
command     fix-it 'it'\''s web-0'
exit        status 1 after 12s
workspace   /var/lib/hale/runs/r1
artifacts   output/diagnosis.md (2.0 KiB)
shared by   2 more alerts

timeline
  2025-12-31 23:59:55.000  it happened, as the alert says
  2026-01-01 00:00:00.000  its alert was accepted
  2026-01-01 00:00:20.000  it was approved by ann via cli
  2026-01-01 00:00:21.000  its program was started
  2026-01-01 00:00:33.000  its program ended: status 1
  2026-01-01 00:00:33.000  failed

alert
  a1 (mcp, there f-7)
  back-off \u{1b}[2Jrestarting
  team=shop

standard output, its end
  looking

standard error, its end
  no such pod\u{7}
";
    assert_eq!(text, expected);
}

#[test]
fn a_run_that_waits_for_a_person_says_what_to_type_and_until_when() {
    let run = Run { approve_until: Some(at(600)), ..run("r3", RunState::AwaitingApproval) };
    let found =
        RunDetail { run, alert: None, duplicates: Vec::new(), stdout: String::new(), stderr: String::new() };
    let text = shown(|out| one(&found, at(60), &TimeZone::UTC, out));
    assert!(text.contains("`hale runs approve r3` lets it go on, `hale runs reject r3` does not"), "{text}");
    assert!(text.ends_with("2026-01-01 00:10:00.000  it expires unless a person says yes\n"), "{text}");
}

#[test]
fn alerts_say_what_became_of_them_and_why() {
    let records = [
        AlertRecord { alert: alert(), outcome: AlertOutcome::Accepted, reason: None, run: Some("r1".into()) },
        AlertRecord {
            alert: alert(),
            outcome: AlertOutcome::Filtered,
            reason: Some("no rule wants\nit".to_owned()),
            run: None,
        },
    ];
    let text = shown(|out| alerts(&records, at(60), out));
    let expected = r"ALERT  OUTCOME   SEVERITY  CLUSTER  RESOURCE        FAULT      RECEIVED  RUN  WHY
a1     accepted  error     eu-1     Pod shop/web-0  CrashLoop  1m0s ago  r1   back-off \u{1b}[2Jrestarting
a1     filtered  error     eu-1     Pod shop/web-0  CrashLoop  1m0s ago       no rule wants it
";
    assert_eq!(text, expected);
}

#[test]
fn what_others_wrote_does_not_steer_the_terminal() {
    assert_eq!(plain("a\u{1b}[31m\tb\r\n\u{202e}c"), "a\\u{1b}[31m\tb\\u{d}\n\\u{202e}c");
    assert_eq!(line(" a\nb\t"), "a b");
}
