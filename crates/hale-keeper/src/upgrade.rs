//! The keeper's upgrade: it writes down all it knows, and another program takes its place in the same process (N6).
//!
//! Children stay its children, the lock its lock; descriptors pass on as they are, and what is in a pipe stays there.
//! Connections end: whoever asked connects again. Before it lets go, the other program is asked whether it understands
//! what it will be told; one that does not changes nothing.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsString},
    fs::File,
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStringExt, net::UnixListener, process::CommandExt},
    },
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::EventFlags,
    fs::{MemfdFlags, memfd_create},
};
use serde::{Deserialize, Serialize};

use crate::{
    KeeperError, KeeperOptions,
    capture::{Splitter, Stream},
    cgroup::{Cgroups, Group},
    instance::{Instance, Output},
    keeper::{About, Keeper},
    outside::{Outside, PassedOutside},
    protocol::{ExitRecord, Key, Running, SpawnFailure, Upgrade},
    setup, sys,
    writer::LogState,
};

/// The form of what is passed on. One that is newer by more than its fields is not understood.
const FORM: u32 = 1;

/// How long the other program may take to look at it.
const CHECK_WITHIN: Duration = Duration::from_secs(5);

/// The argument before the number of the descriptor that the state is in.
pub(crate) const RESUME: &str = "--resume";
/// The argument that asks whether the state on stdin is understood.
pub(crate) const CHECK: &str = "--check-resume";

/// Everything that is passed on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    form: u32,
    options: KeeperOptions,
    lock: RawFd,
    listener: RawFd,
    #[serde(default)]
    next_number: u64,
    #[serde(default)]
    ending: Option<u64>,
    cgroups: Cgroups,
    instances: Vec<Passed>,
    #[serde(default)]
    outside: PassedOutside,
    #[serde(default)]
    logs: Vec<LogState>,
}

/// One instance.
#[derive(Debug, Serialize, Deserialize)]
struct Passed {
    number: u64,
    key: Key,
    running: Running,
    pid: i32,
    stop_signal: i32,
    #[serde(default)]
    memo: Option<String>,
    uid: u32,
    started_at: u64,
    started_wall_ms: u64,
    group: Group,
    #[serde(default)]
    stdout: Option<PassedOutput>,
    #[serde(default)]
    stderr: Option<PassedOutput>,
    #[serde(default)]
    notify: Option<RawFd>,
    #[serde(default)]
    notified: BTreeMap<String, (String, u64)>,
    #[serde(default)]
    exit: Option<ExitRecord>,
    #[serde(default)]
    gone: bool,
    #[serde(default)]
    logging: bool,
    #[serde(default)]
    stop_by: Option<u64>,
    #[serde(default)]
    signal_others: Option<i32>,
    #[serde(default)]
    killing_since: Option<u64>,
    #[serde(default)]
    stop_failed_told: bool,
    #[serde(default)]
    wake: Option<u64>,
    #[serde(default)]
    deadline: Option<(u64, u64)>,
}

/// One end of output, in the middle of a line perhaps.
#[derive(Debug, Serialize, Deserialize)]
struct PassedOutput {
    fd: RawFd,
    #[serde(default)]
    partial: Vec<u8>,
    #[serde(default)]
    skipping: bool,
}

impl State {
    /// Reads what was passed on.
    pub(crate) fn read(from: &mut impl Read) -> Result<Self, KeeperError> {
        let wrong =
            |what: String| KeeperError::NotStarted(format!("can't go on from what was passed on: {what}"));
        let mut text = Vec::new();
        from.read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
        let state: Self = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if state.form > FORM {
            return Err(wrong(format!("its form is {}, this release knows {FORM}", state.form)));
        }
        Ok(state)
    }
}

fn pass_output(output: &Output) -> PassedOutput {
    let (partial, skipping) = output.splitter.state();
    PassedOutput { fd: output.pipe.as_raw_fd(), partial, skipping }
}

fn take_output(passed: PassedOutput, stream: Stream) -> io::Result<Output> {
    let pipe = sys::inherit(passed.fd)?;
    Ok(Output { pipe, splitter: Splitter::resumed(stream, passed.partial, passed.skipping) })
}

fn pass(number: u64, it: &Instance) -> Passed {
    Passed {
        number,
        key: it.key.clone(),
        running: it.running.clone(),
        pid: it.pid,
        stop_signal: it.stop_signal,
        memo: it.memo.clone(),
        uid: it.uid,
        started_at: it.started_at,
        started_wall_ms: it.started_wall_ms,
        group: it.group.clone(),
        stdout: it.stdout.as_ref().map(pass_output),
        stderr: it.stderr.as_ref().map(pass_output),
        notify: it.notify.as_ref().map(AsRawFd::as_raw_fd),
        notified: it.notified.clone(),
        exit: it.exit.clone(),
        gone: it.gone,
        logging: it.logging,
        stop_by: it.stop_by,
        signal_others: it.signal_others,
        killing_since: it.killing_since,
        stop_failed_told: it.stop_failed_told,
        wake: it.wake,
        deadline: it.deadline,
    }
}

fn take(it: Passed) -> io::Result<Instance> {
    Ok(Instance {
        key: it.key,
        running: it.running,
        pid: it.pid,
        stop_signal: it.stop_signal,
        memo: it.memo,
        uid: it.uid,
        started_at: it.started_at,
        started_wall_ms: it.started_wall_ms,
        group: it.group,
        stdout: it.stdout.map(|passed| take_output(passed, Stream::Stdout)).transpose()?,
        stderr: it.stderr.map(|passed| take_output(passed, Stream::Stderr)).transpose()?,
        notify: it.notify.map(sys::inherit).transpose()?,
        watch: None,
        notified: it.notified,
        exit: it.exit,
        gone: it.gone,
        logging: it.logging,
        stop_by: it.stop_by,
        signal_others: it.signal_others,
        killing_since: it.killing_since,
        stop_failed_told: it.stop_failed_told,
        wake: it.wake,
        deadline: it.deadline,
    })
}

impl Keeper {
    fn state(&self) -> State {
        State {
            form: FORM,
            options: self.options.clone(),
            lock: self.lock.as_raw_fd(),
            listener: self.listener.as_raw_fd(),
            next_number: self.next_number,
            ending: self.ending,
            cgroups: self.cgroups.clone(),
            instances: self.instances.iter().map(|(number, it)| pass(*number, it)).collect(),
            outside: self.outside.pass(),
            logs: self.logs.state(),
        }
    }

    /// Puts another program in this one's place. Returns only if that can't be: then nothing has changed.
    pub(crate) fn upgrade(&mut self, order: &Upgrade) -> SpawnFailure {
        let error = match self.try_upgrade(order) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        SpawnFailure { code: "internal".to_owned(), detail: format!("the keeper stays as it is: {error}") }
    }

    fn try_upgrade(&mut self, order: &Upgrade) -> io::Result<std::convert::Infallible> {
        let text = serde_json::to_vec(&self.state())?;
        let mut memory = File::from(memfd_create(c"hale-keeper", MemfdFlags::CLOEXEC)?);
        memory.write_all(&text)?;
        let program = order.program.clone().into_os();
        let words: Vec<OsString> = order.args.iter().map(|it| it.clone().into_os()).collect();
        check(&program, &words, &mut memory)?;
        memory.rewind()?;
        let passed = self.passed(&memory);
        let number = OsString::from(memory.as_raw_fd().to_string());
        let all = [OsString::from("hale")].into_iter().chain(words).chain([RESUME.into(), number]);
        let args = all.map(c_string).collect::<io::Result<Vec<_>>>()?;
        let program = c_string(program)?;
        let stays = |flags: i32| passed.iter().try_for_each(|fd| sys::set_flags(*fd, flags));
        stays(0)?;
        let error = sys::exec(&program, &args);
        stays(libc::FD_CLOEXEC)?;
        Err(error)
    }

    /// The descriptors that pass on.
    fn passed(&self, memory: &File) -> Vec<RawFd> {
        let mut all = vec![memory.as_raw_fd(), self.lock.as_raw_fd(), self.listener.as_raw_fd()];
        for it in self.instances.values() {
            let outputs = [&it.stdout, &it.stderr].into_iter().flatten().map(|it| it.pipe.as_raw_fd());
            all.extend(outputs.chain(it.notify.as_ref().map(AsRawFd::as_raw_fd)));
        }
        all
    }

    /// Goes on from what another program has passed on in this descriptor.
    pub(crate) fn resume(memory: &str) -> Result<Self, KeeperError> {
        let wrong = KeeperError::system("take over from the last keeper");
        let number =
            memory.parse().map_err(|_| KeeperError::NotStarted(format!("no descriptor: {memory}")))?;
        let mut memory = File::from(sys::inherit(number).map_err(wrong)?);
        let state = State::read(&mut memory)?;
        let wrong = || KeeperError::system("take over from the last keeper");
        let lock = File::from(sys::inherit(state.lock).map_err(wrong())?);
        let listener = UnixListener::from(sys::inherit(state.listener).map_err(wrong())?);
        let mut keeper = setup::assemble(state.options, state.cgroups, (lock, listener))?;
        keeper.next_number = state.next_number;
        keeper.ending = state.ending;
        keeper.logs.resume(state.logs);
        keeper.outside = Outside::take(state.outside);
        for passed in state.instances {
            let number = passed.number;
            let instance = take(passed).map_err(wrong())?;
            keeper.take_over(number, instance);
        }
        Ok(keeper)
    }

    fn take_over(&mut self, number: u64, instance: Instance) {
        let outputs = [(&instance.stdout, About::Stdout(number)), (&instance.stderr, About::Stderr(number))];
        let pipes = outputs.into_iter().filter_map(|(it, about)| Some((&it.as_ref()?.pipe, about)));
        let watched: Vec<(&OwnedFd, About)> =
            pipes.chain(instance.notify.as_ref().map(|it| (it, About::Notify(number)))).collect();
        for (fd, about) in watched {
            if let Err(error) = self.watch_fd(fd, about, EventFlags::IN) {
                setup::note(&format!("{}: {error}", instance.key));
            }
        }
        if instance.exit.is_none() {
            self.by_pid.insert(instance.pid, number);
        }
        self.by_key.insert(instance.key.clone(), number);
        self.timers.extend(instance.wake.map(|at| (at, number)));
        self.deadlines.extend(instance.deadline.map(|(at, _)| (at, number)));
        self.instances.insert(number, instance);
    }

    /// What happened while one program took the place of the other.
    pub(crate) fn catch_up(&mut self) {
        self.reap();
        let ended: Vec<u64> =
            self.instances.iter().filter(|(_, it)| it.exit.is_some() && !it.gone).map(|it| *it.0).collect();
        ended.into_iter().for_each(|number| self.settle(number));
    }
}

fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Asks the other program whether it understands what it will be told.
fn check(program: &OsString, words: &[OsString], memory: &mut File) -> io::Result<()> {
    memory.rewind()?;
    let mut command = Command::new(program);
    command.arg0("hale").args(words).arg(CHECK).stdin(memory.try_clone()?);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/").spawn()?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > CHECK_WITHIN {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::other(format!("{} does not answer", program.display())));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let mut why = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        let _ = Read::by_ref(&mut stdout).take(1024).read_to_string(&mut why);
    }
    if status.success() && why.trim() == "understood" {
        return Ok(());
    }
    Err(io::Error::other(format!("{} does not understand it: {status} {}", program.display(), why.trim())))
}

/// The answer to that question; true: it does.
pub(crate) fn answer_check() -> bool {
    let read = State::read(&mut io::stdin().lock());
    let answer = match &read {
        Ok(_) => "understood".to_owned(),
        Err(error) => error.to_string(),
    };
    let _ = io::stdout().write_all(answer.as_bytes());
    read.is_ok()
}
