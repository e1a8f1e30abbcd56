//! How a keeper begins: its own session, its lock, its socket, its cgroups; and what it says of that to its parent.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    event::epoll::{self, CreateFlags, EventFlags},
    fs::{FlockOperation, Mode, OFlags, flock},
    process::{Resource, Rlimit, getpid, getrlimit, set_child_subreaper, setrlimit, setsid, umask},
};

use crate::{
    KeeperError, KeeperOptions,
    cgroup::Cgroups,
    clock,
    keeper::{About, Keeper},
    outside::Outside,
    procfs, sys,
    writer::LogBook,
};

/// The names in `DIR/run`.
pub(crate) const SOCKET: &str = "keeper.sock";
const LOCK: &str = "keeper.lock";
const MARK: &str = "mark";
const CGROUPS: &str = "cgroups";

/// How long a keeper that is to end with its agent waits for the first hello.
const FIRST_HELLO_NANOS: u64 = 10_000_000_000;

/// Reads `--options JSON`.
pub(crate) fn options(arguments: impl IntoIterator<Item = OsString>) -> Result<KeeperOptions, KeeperError> {
    let wrong = |what: String| KeeperError::NotStarted(what);
    let mut arguments = arguments.into_iter();
    let (Some(name), Some(value), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err(wrong("expected --options JSON; hale starts it by itself".to_owned()));
    };
    if name != "--options" {
        return Err(wrong(format!("unknown argument {}", name.display())));
    }
    let text = value.to_str().ok_or_else(|| wrong("the options are not UTF-8".to_owned()))?;
    serde_json::from_str(text).map_err(|error| wrong(format!("the options are wrong: {error}")))
}

/// Makes everything ready to work.
pub(crate) fn prepare(options: KeeperOptions) -> Result<Keeper, KeeperError> {
    // A terminal's Ctrl-C reaches neither it nor what it spawns. Fails only where it leads a group already.
    let _ = setsid();
    set_child_subreaper(Some(getpid())).map_err(KeeperError::system("become the subreaper"))?;
    let run = run_dir(&options.dir)?;
    let lock = hold(&options.dir)?;
    let mark = mark(&options.dir)?;
    let soft_nofile = options.soft_nofile.or(raise_open_files());
    let cgroups = if options.cgroups { Cgroups::find(&mark) } else { Cgroups::default() };
    let bases: Vec<String> = cgroups.bases().map(|path| path.display().to_string()).collect();
    fs::write(run.join(CGROUPS), bases.join("\n")).map_err(KeeperError::path("write", run.join(CGROUPS)))?;
    let listener = listen(&run)?;
    assemble(KeeperOptions { soft_nofile, ..options }, cgroups, (lock, listener))
}

/// A keeper without instances, that holds its directory and listens.
pub(crate) fn assemble(
    options: KeeperOptions,
    cgroups: Cgroups,
    (lock, listener): (File, UnixListener),
) -> Result<Keeper, KeeperError> {
    let mark = mark(&options.dir)?;
    let logs_dir = options.dir.join("logs");
    let logs = LogBook::new(logs_dir.clone(), options.logs).map_err(KeeperError::path("make", logs_dir))?;
    let signals = sys::signal_file(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
        .map_err(KeeperError::system("read signals"))?;
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(KeeperError::system("make an epoll"))?;
    let watched = epoll::add(&epoll, &signals, About::Signals.pack(), EventFlags::IN)
        .and_then(|()| epoll::add(&epoll, &listener, About::Listener.pack(), EventFlags::IN));
    watched.map_err(KeeperError::system("watch a descriptor"))?;
    let agent_by = options.end_with_agent.then(|| clock::boot_nanos() + FIRST_HELLO_NANOS);
    Ok(Keeper {
        options,
        mark,
        boot_id: procfs::boot_id(),
        pid: getpid().as_raw_nonzero().get(),
        reset_oom_score: oom_score() < 0,
        epoll,
        signals,
        listener,
        lock,
        connections: HashMap::new(),
        agent: None,
        agent_by,
        instances: HashMap::new(),
        by_key: HashMap::new(),
        by_pid: HashMap::new(),
        timers: BTreeSet::new(),
        deadlines: BTreeSet::new(),
        outside: Outside::default(),
        next_number: 0,
        logs,
        cgroups,
        ending: None,
        buffer: vec![0; 64 * 1024],
    })
}

/// `DIR/run`, made if need be, for nobody else to see.
pub(crate) fn run_dir(dir: &Path) -> Result<PathBuf, KeeperError> {
    let run = dir.join("run");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&run);
    made.map_err(KeeperError::path("make", &run))?;
    Ok(run)
}

/// The lock of a data directory.
pub(crate) fn lock_path(dir: &Path) -> PathBuf {
    dir.join("run").join(LOCK)
}

/// Takes the lock of a data directory and writes this process into it.
pub(crate) fn hold(dir: &Path) -> Result<File, KeeperError> {
    run_dir(dir)?;
    let path = lock_path(dir);
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(KeeperError::path("open", &path))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(KeeperError::Held { pid: holder(&mut file), dir: dir.to_owned() });
    }
    let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(KeeperError::path("write", &path))?;
    Ok(file)
}

/// Which process wrote itself into the lock; 0 when none did.
fn holder(file: &mut File) -> i32 {
    let mut text = String::new();
    let _ = file.rewind();
    let _ = file.read_to_string(&mut text);
    text.trim().parse().unwrap_or(0)
}

/// The mark of a data directory: made once, by chance.
pub(crate) fn mark(dir: &Path) -> Result<String, KeeperError> {
    let path = run_dir(dir)?.join(MARK);
    if let Some(mark) = existing_mark(dir) {
        return Ok(mark);
    }
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map_err(KeeperError::system("get a random name"))?;
    let mark: String = uuid.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    fs::write(&path, &mark).map_err(KeeperError::path("write", &path))?;
    Ok(mark)
}

/// The mark of a data directory that had a keeper before.
pub(crate) fn existing_mark(dir: &Path) -> Option<String> {
    let text = fs::read_to_string(dir.join("run").join(MARK)).ok()?;
    let text = text.trim();
    (text.len() == 16 && text.chars().all(|it| it.is_ascii_hexdigit())).then(|| text.to_owned())
}

/// The cgroups the last keeper of a data directory used.
pub(crate) fn last_cgroups(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(dir.join("run").join(CGROUPS)).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).map(PathBuf::from).collect()
}

/// Listens in the run directory. Its path may be longer than a socket address holds, so it is named by descriptor.
fn listen(run: &Path) -> Result<UnixListener, KeeperError> {
    let path = run.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(KeeperError::path("remove", path)(error));
        }
        _ => {}
    }
    let dir = open_dir(run)?;
    let before = umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(short_path(&dir));
    umask(before);
    let listener = bound.and_then(|it| it.set_nonblocking(true).map(|()| it));
    listener.map_err(KeeperError::path("listen on", path))
}

/// A directory, only to name what is in it.
pub(crate) fn open_dir(path: &Path) -> Result<File, KeeperError> {
    let opened = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    opened.map(File::from).map_err(|errno| KeeperError::path("open", path)(errno.into()))
}

/// The keeper's socket in an opened run directory: short, however deep that is.
pub(crate) fn short_path(run: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", run.as_raw_fd()))
}

/// Raises this process's soft limit of open files to the hard one; the soft limit before, if it was lower.
pub(crate) fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current?;
    if Some(soft) == limit.maximum {
        return None;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).ok().map(|()| soft)
}

fn oom_score() -> i32 {
    fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|it| it.trim().parse().ok()).unwrap_or(0)
}

/// Tells the parent, who waits for this line, and lets go of its pipe.
pub(crate) fn say_ready() {
    let _ = io::stdout().write_all(b"ready\n").and_then(|()| io::stdout().flush());
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

/// Tells the parent why there will be no keeper.
pub(crate) fn say_failed(error: &KeeperError) {
    let _ = io::stdout().write_all(format!("{error}\n").as_bytes());
}

/// Writes a line to the keeper's own log (its stderr).
pub(crate) fn note(text: &str) {
    let mut line = Vec::new();
    clock::write_rfc3339(clock::wall_micros(), &mut line);
    line.push(b' ');
    line.extend_from_slice(text.as_bytes());
    line.push(b'\n');
    let _ = io::stderr().write_all(&line);
}
