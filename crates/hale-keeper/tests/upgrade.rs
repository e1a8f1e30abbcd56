//! Another program in the keeper's place (N6), deadlines without an agent (S9), agents of other releases.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
};

use common::{Kept, PATIENCE, is_alive, key, kill, options, wait_for};
use hale_keeper::{
    LaunchOptions, clock, launch_or_connect, link, procfs,
    protocol::{Answer, Deadline, Empty, Event, InstanceState, Op, Text, Upgrade},
    upgrade_in_place,
};
use rstest::rstest;

fn list(kept: &mut Kept) -> Vec<InstanceState> {
    match kept.ask(Op::List(Empty {})) {
        Answer::Instances(all) => all,
        other => panic!("{other:?}"),
    }
}

fn same(kept: &Kept) -> LaunchOptions {
    options(kept.keeper.dir(), |_| {})
}

#[rstest]
fn replicas_notice_nothing_and_no_line_is_lost(#[values(true, false)] cgroups: bool) {
    let mut kept = Kept::new(|options| options.cgroups = cgroups);
    // Lines in two pieces, so that the keeper is always in the middle of one.
    let talks = "i=0; while [ ! -e $D/end ]; do i=$((i+1)); printf 'line '; echo $i; echo $i >&2; \
                 [ $((i % 50)) = 0 ] && sleep 0.01; done; echo $i > $D/last; sleep 0.05; exit 7";
    let talker = kept.script("talks-0", talks);
    let quiet = kept.script("quiet-0", "exec sleep 1000");
    let dies = kept.script("dies-0", "while [ ! -e $D/die ]; do sleep 0.01; done; exit 3");
    wait_for("output", || (kept.log("talks-0").len() > 100).then_some(()));
    let keeper = kept.keeper.pid();
    let began = procfs::process(keeper as i32).unwrap().start_time;
    kept.link = None;
    for _ in 0..3 {
        upgrade_in_place(&same(&kept)).unwrap();
    }
    assert_eq!(procfs::process(keeper as i32).unwrap().start_time, began, "it is the same process");
    fs::write(kept.path("die"), "").unwrap();
    kept.connect();
    wait_for("an end", || (!is_alive(dies.pid as i32)).then_some(()));
    let all = list(&mut kept);
    assert_eq!(all.len(), 3);
    for (state, running) in all.iter().zip([&dies, &quiet, &talker]) {
        assert_eq!(&state.running, running);
    }
    fs::write(kept.path("end"), "").unwrap();
    assert_eq!(kept.ended("talks-0").code, Some(7));
    let last: usize = fs::read_to_string(kept.path("last")).unwrap().trim().parse().unwrap();
    let lines = kept.log("talks-0");
    let told: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("line ")).collect();
    let expected: Vec<String> = (1..=last).map(|it| it.to_string()).collect();
    assert_eq!(told, expected);
    assert_eq!(lines.len(), 2 * last, "its other output is whole as well");
    let record =
        wait_for("the record", || list(&mut kept).into_iter().find(|it| it.key == key("dies-0") && it.gone));
    assert_eq!(record.exit.unwrap().code, Some(3));
    // It still does all that a keeper does.
    assert!(is_alive(quiet.pid as i32));
    kept.stop("quiet-0", 15, 5000);
    assert_eq!(kept.ended("quiet-0").signal, Some(15));
    kept.script("new-0", "exit 4");
    assert_eq!(kept.ended("new-0").code, Some(4));
}

#[test]
fn what_replicas_report_and_stops_that_go_on_outlive_an_upgrade() {
    let mut kept = Kept::new(|_| {});
    let mut start = kept.shell("deaf-0", "trap '' TERM; echo $$ > $D/pids; while :; do sleep 0.05; done");
    start.notify = true;
    kept.start(start).unwrap();
    let pid = kept.pids("pids", 1)[0];
    kept.stop("deaf-0", 15, 400);
    kept.link = None;
    upgrade_in_place(&same(&kept)).unwrap();
    kept.connect();
    assert!(list(&mut kept)[0].stopping);
    let record = wait_for("its end", || list(&mut kept).into_iter().find(|it| it.gone));
    assert_eq!(record.exit.unwrap().signal, Some(9));
    assert!(!is_alive(pid));
}

#[test]
fn a_program_that_does_not_understand_changes_nothing() {
    let mut kept = Kept::new(|_| {});
    let pid = kept.script("web-0", "exec sleep 1000").pid;
    for program in ["/bin/false", "/bin/true", "/no/such/program"] {
        let order = Upgrade { program: Text::from(program), args: Vec::new() };
        let Answer::Error(failure) = kept.ask(Op::Upgrade(Box::new(order))) else { panic!("{program}") };
        assert!(failure.detail.contains("stays as it is"), "{failure:?}");
    }
    assert!(is_alive(pid as i32));
    kill(pid, "KILL");
    assert_eq!(kept.ended("web-0").signal, Some(9));
}

#[test]
fn what_its_agent_no_longer_speaks_for_is_stopped_at_its_time() {
    let mut kept = Kept::new(|_| {});
    let stubborn = kept.script("deaf-0", "trap '' TERM; while :; do sleep 0.05; done").pid;
    let spared = kept.script("spared-0", "exec sleep 1000").pid;
    let at = |ms: u64| Some(clock::boot_nanos() + ms * 1_000_000);
    let both = vec![key("deaf-0"), key("spared-0"), key("unknown-0")];
    kept.ask(Op::Deadline(Deadline { keys: both, at: at(400), grace_ms: 300 }));
    kept.ask(Op::Deadline(Deadline { keys: vec![key("spared-0")], at: None, grace_ms: 0 }));
    kept.link = None;
    upgrade_in_place(&same(&kept)).unwrap();
    wait_for("its end", || (!is_alive(stubborn as i32)).then_some(()));
    assert!(is_alive(spared as i32));
    kept.connect();
    let record = wait_for("the record", || list(&mut kept).into_iter().find(|it| it.gone)).exit.unwrap();
    assert_eq!(record.signal, Some(9));
    // One that is put off again and again is never met.
    for _ in 0..5 {
        kept.ask(Op::Deadline(Deadline { keys: vec![key("spared-0")], at: at(10_000), grace_ms: 0 }));
    }
    assert!(is_alive(spared as i32));
}

#[test]
fn a_keeper_that_lives_is_found_and_one_that_was_killed_is_replaced() {
    let mut kept = Kept::new(|_| {});
    let pid = kept.script("web-0", "exec sleep 1000").pid;
    kept.link = None;
    let mut found = launch_or_connect(same(&kept)).unwrap();
    assert_eq!(found.pid(), kept.keeper.pid());
    assert!(!found.has_ended() && is_alive(pid as i32));
    kill(kept.keeper.pid(), "KILL");
    kept.keeper.wait().unwrap();
    found.wait().unwrap();
    let next = launch_or_connect(same(&kept)).unwrap();
    assert_ne!(next.pid(), found.pid());
    assert!(!is_alive(pid as i32), "what the killed one had left is ended before");
    kept.keeper = next;
    kept.connect();
}

#[test]
fn an_agent_of_an_earlier_release_is_understood_and_a_later_one_hears_what_is_not() {
    let mut kept = Kept::new(|_| {});
    kept.link = None;
    let stream = link::connect(kept.keeper.dir()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut ask = |request: &str| {
        reader.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line
    };
    assert!(ask(r#"{"id":1,"op":{"hello":{"version":1,"release":"0.0.1"}}}"#).contains("welcome"));
    // As the first release wrote a start.
    let start = format!(
        r#"{{"id":2,"op":{{"start":{{"key":{{"replica":"old-0"}},"program":"/bin/sleep","args":["sleep","1000"],"dir":"{}"}}}}}}"#,
        kept.dir().display()
    );
    assert!(ask(&start).contains("started"));
    assert!(ask(r#"{"id":3,"op":{"juggle":{"balls":3}}}"#).contains("unsupported"));
    assert!(ask(r#"{"id":4,"op":{"list":{"newer":true}}}"#).contains("old-0"));
    // What the first release told is read as well.
    let old = r#"{"event":{"gone":{"key":{"replica":"old-0"}}}}"#;
    let message: hale_keeper::protocol::Message = serde_json::from_str(old).unwrap();
    assert!(matches!(message, hale_keeper::protocol::Message::Event(Event::Gone { .. })));
    let welcome: hale_keeper::protocol::Welcome = serde_json::from_str(r#"{"version":1,"pid":3}"#).unwrap();
    assert!(!welcome.ending);
}
