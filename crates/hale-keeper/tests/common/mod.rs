//! A real keeper in a directory of the test's own, and real processes under it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "each test file uses a part of it"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hale_keeper::{
    KeeperOptions, LaunchOptions, Launched, Link, launch, procfs,
    protocol::{Answer, End, Event, ExitRecord, Key, Op, Running, SpawnFailure, Start, Stop, Text},
};

/// Longer than anything here takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Kept {
    pub(crate) keeper: Launched,
    pub(crate) link: Option<Link>,
    dir: tempfile::TempDir,
}

impl Kept {
    pub(crate) fn new(change: impl FnOnce(&mut KeeperOptions)) -> Self {
        Self::below("", change)
    }

    /// In a directory of this name below the test's own.
    pub(crate) fn below(name: &str, change: impl FnOnce(&mut KeeperOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join(name);
        fs::create_dir_all(&data).unwrap();
        let keeper = launch(options(&data, change)).unwrap();
        let mut kept = Self { keeper, link: None, dir };
        kept.connect();
        kept
    }

    pub(crate) fn connect(&mut self) {
        let mut link = Link::connect(self.keeper.dir(), PATIENCE).unwrap();
        assert!(matches!(link.hello().unwrap(), Answer::Welcome(_)));
        self.link = Some(link);
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn ask(&mut self, op: Op) -> Answer {
        self.link.as_mut().unwrap().ask(op).unwrap()
    }

    /// Starts a shell script; `$D` in it is the test's directory.
    pub(crate) fn script(&mut self, replica: &str, script: &str) -> Running {
        let start = self.shell(replica, script);
        self.start(start).unwrap()
    }

    pub(crate) fn shell(&self, replica: &str, script: &str) -> Start {
        self.program(replica, "/bin/sh", &["sh", "-c", script])
    }

    pub(crate) fn program(&self, replica: &str, program: &str, args: &[&str]) -> Start {
        let env = [("PATH", "/usr/bin:/bin"), ("D", self.dir().to_str().unwrap())];
        Start {
            key: key(replica),
            program: Text::from(program),
            args: args.iter().map(Text::from).collect(),
            env: env.iter().map(|(name, value)| (Text::from(name), Text::from(value))).collect(),
            dir: Text::from(self.dir()),
            user: None,
            ulimits: Vec::new(),
            memory: None,
            cpu: None,
            notify: false,
            stop_signal: 15,
            memo: None,
            deadline: None,
        }
    }

    pub(crate) fn start(&mut self, start: Start) -> Result<Running, SpawnFailure> {
        match self.ask(Op::Start(Box::new(start))) {
            Answer::Started(running) => Ok(running),
            Answer::Failed(failure) => Err(failure),
            other => panic!("a start was answered with {other:?}"),
        }
    }

    pub(crate) fn stop(&mut self, replica: &str, signal: i32, grace_ms: u64) {
        self.ask(Op::Stop(Stop { key: key(replica), signal, grace_ms }));
    }

    pub(crate) fn event(&mut self) -> Event {
        self.link.as_mut().unwrap().event().unwrap()
    }

    /// Waits until an instance has ended and is gone.
    pub(crate) fn ended(&mut self, replica: &str) -> ExitRecord {
        let mut record = None;
        loop {
            match self.event() {
                Event::Exited { key, exit } if key.replica == replica => record = Some(exit),
                Event::Gone { key } if key.replica == replica => {
                    return record.expect("gone before it exited");
                }
                _ => {}
            }
        }
    }

    pub(crate) fn log(&self, replica: &str) -> Vec<String> {
        let files = hale_keeper::logs::files(self.keeper.dir(), replica);
        let lines = hale_keeper::logs::tail(&files, usize::MAX, u64::MAX).unwrap();
        lines.into_iter().map(|line| line.text).collect()
    }

    /// The numbers a script wrote into a file, one a line.
    pub(crate) fn pids(&self, name: &str, count: usize) -> Vec<i32> {
        let path = self.path(name);
        wait_for("pids to be written", || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
            (pids.len() >= count && text.ends_with('\n')).then_some(pids)
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Ok(mut link) = Link::connect(self.keeper.dir(), PATIENCE) {
            let _ = link.ask(Op::End(End { grace_ms: 0 }));
            let _ = link.wait_closed();
        }
        let _ = self.keeper.wait();
    }
}

pub(crate) fn options(dir: &Path, change: impl FnOnce(&mut KeeperOptions)) -> LaunchOptions {
    let mut options = LaunchOptions::new(dir, false);
    options.command = vec![env!("CARGO_BIN_EXE_hale-keeper").into()];
    change(&mut options.keeper);
    options
}

pub(crate) fn key(replica: &str) -> Key {
    Key { replica: replica.to_owned(), generation: 1, incarnation: 1 }
}

/// Waits until there is something, and says what was waited for if it never comes.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn is_alive(pid: i32) -> bool {
    procfs::process(pid).is_some_and(|process| !process.zombie)
}

pub(crate) fn kill(pid: u32, signal: &str) {
    let done = std::process::Command::new("/bin/kill").args(["-s", signal, &pid.to_string()]).status();
    // Without /bin/kill the shell's own.
    if done.is_err() {
        let line = format!("kill -s {signal} {pid}");
        std::process::Command::new("/bin/sh").args(["-c", &line]).status().unwrap();
    }
}
