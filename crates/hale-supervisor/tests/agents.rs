//! Real agents that are killed and followed by others, over a real keeper and real processes (N6).

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use hale_keeper::{
    LaunchOptions, Link, procfs,
    protocol::{End, Op},
    upgrade_in_place,
};
use hale_model::status::{ReplicaStatus, WorkloadStatus};

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(40);

const KEEPER: &str = env!("CARGO_BIN_EXE_hale-test-keeper");

struct Node {
    dir: tempfile::TempDir,
    agent: Option<Child>,
}

impl Node {
    fn start(assigned: &str) -> Self {
        let mut node = Self { dir: tempfile::tempdir().unwrap(), agent: None };
        node.assign(assigned);
        node.begin();
        node
    }

    fn assign(&self, assigned: &str) {
        fs::write(self.path("assign"), assigned).unwrap();
    }

    fn begin(&mut self) {
        let agent =
            Command::new(env!("CARGO_BIN_EXE_hale-test-agent")).arg(self.dir.path()).arg(KEEPER).spawn();
        self.agent = Some(agent.unwrap());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// SIGKILL; what it had told until then stays.
    fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
        fs::remove_file(self.path("status")).unwrap();
    }

    fn detach(&mut self) {
        fs::write(self.path("detach"), "").unwrap();
        assert!(self.agent.take().unwrap().wait().unwrap().success());
        fs::remove_file(self.path("status")).unwrap();
    }

    fn replica(&self, name: &str) -> Option<ReplicaStatus> {
        let text = fs::read(self.path("status")).ok()?;
        let all: Vec<WorkloadStatus> = serde_json::from_slice(&text).ok()?;
        all.into_iter().flat_map(|it| it.replicas).find(|it| it.name == name)
    }

    fn until(&self, name: &str, what: &str, is: impl Fn(&ReplicaStatus) -> bool) -> ReplicaStatus {
        wait_for(what, || self.replica(name).filter(&is))
    }

    fn told(&self) -> Vec<String> {
        fs::read_to_string(self.path("told")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn told_of(&self, what: &str) -> Vec<String> {
        self.told().into_iter().filter(|line| line.starts_with(what)).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        if let Ok(mut link) = Link::connect(self.dir.path(), PATIENCE) {
            let _ = link.ask(Op::End(End { grace_ms: 0 }));
            let _ = link.wait_closed();
        }
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn is_alive(pid: Option<u32>) -> bool {
    let pid = i32::try_from(pid.unwrap()).unwrap();
    procfs::process(pid).is_some_and(|process| !process.zombie)
}

fn keeper_of(dir: &Path) -> String {
    fs::read_to_string(dir.join("run/keeper.lock")).unwrap()
}

/// Ends twice, then stays.
const FLAKY: &str = "echo x >> $D/runs; [ $(wc -l < $D/runs) -lt 3 ] && exit 5; exec sleep 1000";

#[test]
fn a_killed_agent_leaves_its_replicas_and_the_next_one_knows_all_of_them() {
    let mut node = Node::start(&format!("web 0 7 exec sleep 1000\nflaky 0 8 {FLAKY}\n"));
    let web = node.until("web-0", "web to be ready", |it| it.ready);
    let flaky = node.until("flaky-0", "flaky to be ready", |it| it.ready && it.restarts == 2);
    let keeper = keeper_of(node.dir.path());
    for round in 0..2 {
        node.kill();
        assert!(is_alive(web.pid) && is_alive(flaky.pid));
        let before = node.told().len();
        node.begin();
        let web_now = node.until("web-0", "web to be known again", |_| true);
        assert!(web_now.ready, "{web_now:?}");
        let flaky_now = node.until("flaky-0", "flaky to be known again", |it| it.ready);
        let known = |it: &ReplicaStatus| {
            (it.pid, it.restarts, it.restarts_in_window, it.incarnation, it.generation, it.ports.clone())
        };
        assert_eq!((known(&web_now), known(&flaky_now)), (known(&web), known(&flaky)));
        assert_eq!(flaky_now.last_exit.and_then(|it| it.code), Some(5));
        // It asks its probes again, and there is no flip until they have answered for a while.
        node.until("web-0", "its probe to be asked", |it| {
            it.probes["readiness"].consecutive_successes
                > web_now.probes["readiness"].consecutive_successes + 5
        });
        let told = &node.told()[before..];
        assert!(
            told.iter().all(|line| !line.contains("ready=false") && !line.contains("starting")),
            "{round}: {told:?}"
        );
        assert!(told.contains(&"endpoint web-0 7 ready=true".to_owned()), "{told:?}");
    }
    assert_eq!(keeper_of(node.dir.path()), keeper);
    // What fails from now on counts.
    fs::write(node.path("sick"), "").unwrap();
    node.until("web-0", "web not to be ready", |it| !it.ready);
}

#[test]
fn what_ends_while_no_agent_is_there_is_heard_of_with_its_exit_status() {
    let ends = "[ -e $D/ended ] && exec sleep 1000; while [ ! -e $D/end ]; do sleep 0.02; done; touch $D/ended; exit 42";
    let mut node = Node::start(&format!("web 0 1 {ends}\n"));
    let before = node.until("web-0", "web to be ready", |it| it.ready);
    node.detach();
    assert!(is_alive(before.pid), "an agent that ends in order leaves them as well");
    fs::write(node.path("end"), "").unwrap();
    wait_for("its end", || (!is_alive(before.pid)).then_some(()));
    assert!(node.told_of("event web-0").iter().all(|line| !line.contains("\"code\":42")));
    node.begin();
    let after = node.until("web-0", "it to run again", |it| it.ready && it.restarts == 1);
    assert_eq!(
        (after.last_exit.and_then(|it| it.code), after.incarnation),
        (Some(42), before.incarnation + 1)
    );
    assert_eq!(after.ports, before.ports, "its port was kept for it");
    assert!(node.told_of("event web-0").iter().any(|line| line.contains("\"code\":42")));
}

#[test]
fn what_is_no_longer_placed_here_ends_and_what_has_another_number_goes_on() {
    let mut node = Node::start("gone 0 1 exec sleep 1000\nweb 0 2 exec sleep 1000\n");
    let gone = node.until("gone-0", "one to be ready", |it| it.ready);
    let web = node.until("web-0", "the other to be ready", |it| it.ready);
    node.kill();
    node.assign("web 0 9 exec sleep 1000\n");
    node.begin();
    let now = node.until("web-0", "the other to be known again", |it| it.generation == 9);
    assert_eq!((now.pid, now.ready), (web.pid, true));
    wait_for("the word that it is gone", || {
        node.told().contains(&"removed gone-0 1".to_owned()).then_some(())
    });
    assert!(!is_alive(gone.pid));
}

#[test]
fn a_keeper_is_upgraded_while_its_agent_is_there_and_nothing_is_ended_for_it() {
    let node = Node::start("web 0 1 while :; do echo x; sleep 0.01; done\n");
    let before = node.until("web-0", "web to be ready", |it| it.ready);
    let mut other = LaunchOptions::new(node.dir.path(), false);
    other.command = vec![KEEPER.into()];
    upgrade_in_place(&other).unwrap();
    let after = node.until("web-0", "web to be ready still", |it| it.ready);
    assert_eq!(after.pid, before.pid);
    let pid = rustix::process::Pid::from_raw(i32::try_from(after.pid.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let again = node.until("web-0", "web to run again", |it| it.ready && it.restarts == 1);
    assert_eq!(again.last_exit.and_then(|it| it.signal), Some(9));
}
