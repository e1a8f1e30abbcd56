//! Golden scripts: what a person would do to a workload, and what they would see.

use std::fmt::Write as _;

use super::*;

/// Runs a script: one command a line; the answer is what was decided meanwhile.
fn run(mut sim: Sim, script: &str) -> String {
    let mut text = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ordinal = |word: &str| word.trim_start_matches("web-").parse::<u32>().unwrap();
        match words[..] {
            ["advance", by] => sim.secs(by.trim_end_matches('s').parse().unwrap()),
            ["fail", kind, web] => sim.fail(ordinal(web), kind.parse().unwrap()),
            ["mend", web] => sim.mend(ordinal(web)),
            ["kill", web] => sim.exit(ordinal(web), Exit::signal(9)),
            ["stop", web] => drop(sim.tell(ordinal(web), Input::Stop { by: ana() })),
            ["start", web] => drop(sim.tell(ordinal(web), Input::Start { by: ana() })),
            ["restart", web] => drop(sim.tell(ordinal(web), Input::Restart { by: ana() })),
            ["dependency", "fails"] => {
                sim.tell_all(WorkloadInput::Dependency(Dependency::Failing { name: "db".to_owned() }))
            }
            ["dependency", "ok"] => sim.tell_all(WorkloadInput::Dependency(Dependency::Ok)),
            ["show"] => {}
            _ => panic!("what is {line}?"),
        }
        let _ = writeln!(text, "> {line}");
        let log = sim.take_log();
        let lines = log.lines().filter(|it| !it.contains("  Starting") && !it.contains("PROBE"));
        lines.for_each(|it| text.extend([it, "\n"]));
        if words == ["show"] {
            show(&sim, &mut text);
        }
    }
    text
}

fn show(sim: &Sim, text: &mut String) {
    let health = sim.it.health(sim.now);
    let _ = writeln!(text, "web {} {}/{} ready", health.status, health.ready, health.desired);
    for (ordinal, it) in sim.it.replicas() {
        let held =
            it.held_by().map_or_else(String::new, |hold| format!(", held by {}: {}", hold.by, hold.reason));
        let _ = writeln!(
            text,
            "  web-{ordinal} {} {} #{} restarts {} ({} in window) last error: {}{held}",
            it.status(sim.now),
            it.phase(),
            it.incarnation(),
            it.restarts(),
            it.restarts_in_window(sim.now),
            it.last_error().unwrap_or("none"),
        );
        for (at, reason) in it.reasons() {
            let _ = writeln!(text, "    {:>8.3} {reason}", at.since(Time::ZERO).as_secs_f64());
        }
    }
}

#[test]
fn two_replicas_one_wedges_and_the_other_is_killed_meanwhile() {
    let sim = Sim::new(2, WorkloadPolicy::default(), probed(&ProbeKind::ALL));
    insta::assert_snapshot!(run(
        sim,
        "advance 5s
         fail readiness web-0
         advance 11s
         fail liveness web-1
         advance 20s
         show
         mend web-0
         advance 5s
         kill web-0
         advance 2s
         show"
    ));
}

#[test]
fn a_database_fails_and_comes_back() {
    let sim = Sim::new(1, WorkloadPolicy::default(), probed(&[ProbeKind::Liveness]));
    insta::assert_snapshot!(run(
        sim,
        "advance 1s
         dependency fails
         fail liveness web-0
         advance 40s
         show
         dependency ok
         mend web-0
         advance 10s
         stop web-0
         start web-0
         restart web-0
         show"
    ));
}
