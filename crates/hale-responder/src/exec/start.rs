//! From a job to a process: which program, with what arguments, environment and user, in which cgroup.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{self, PipeReader, PipeWriter, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hale_keeper::{cgroup, enter, protocol::User};
use hale_model::spec::Program;
use rustix::io::Errno;

use super::{Job, MARK_VARIABLE, account::Account, values::Values};

/// Where programs are looked for when the responder itself has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All that is needed to start a program.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) dir: PathBuf,
    pub(super) user: Option<User>,
    /// What it gets on its standard input.
    pub(super) input: Option<Vec<u8>>,
    /// Where its outputs go, and how many bytes of each.
    pub(super) logs: [File; 2],
    pub(super) max_output: u64,
    /// The value of its mark.
    pub(super) mark: String,
    /// The cgroup that is made for it, and that it enters.
    pub(super) group: Option<PathBuf>,
}

/// A process that was just made, and our ends of its pipes.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) child: Child,
    pub(super) outputs: [PipeReader; 2],
    pub(super) input: Option<(PipeWriter, Vec<u8>)>,
}

impl Start {
    /// Starts it. Blocks for the few milliseconds that takes.
    pub(super) fn spawn(&mut self) -> Result<Spawned, String> {
        let failed = |error: io::Error| format!("can't make a pipe: {error}");
        let (out, out_writer) = io::pipe().map_err(failed)?;
        let (err, err_writer) = io::pipe().map_err(failed)?;
        let input = match self.input.take() {
            Some(bytes) => Some((io::pipe().map_err(failed)?, bytes)),
            None => None,
        };
        let mut command = Command::new(&self.program);
        command
            .arg0(&self.args[0])
            .args(&self.args[1..])
            .env_clear()
            .envs(&self.env)
            .current_dir(&self.dir)
            .stdout(out_writer)
            .stderr(err_writer)
            .process_group(0);
        let input = match input {
            None => {
                command.stdin(Stdio::null());
                None
            }
            Some(((reader, writer), bytes)) => {
                command.stdin(reader);
                Some((writer, bytes))
            }
        };
        self.make_group();
        enter::before_exec(&mut command, self.group.as_deref(), self.user.clone());
        let child = command.spawn().map_err(|error| {
            self.group.as_deref().map(cgroup::remove_tree);
            self.not_started(&error)
        })?;
        Ok(Spawned { child, outputs: [out, err], input })
    }

    /// Without one the run is kept together by descent and mark.
    fn make_group(&mut self) {
        let Some(group) = &self.group else { return };
        if let Err(error) = cgroup::make(group) {
            tracing::warn!(%error, group = %group.display(), "a run gets no cgroup of its own");
            self.group = None;
        }
    }

    fn not_started(&self, error: &io::Error) -> String {
        let program = self.program.display();
        let why = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::TOOBIG) => {
                "its arguments and environment are too long together: take a file or stdin".to_owned()
            }
            Some(Errno::NOENT) if self.program.exists() => {
                "what it needs to run is missing: look at its first line".to_owned()
            }
            Some(Errno::ACCESS) => match &self.user {
                Some(user) => format!("user {} may not run it: {error}", user.uid),
                None => error.to_string(),
            },
            _ => error.to_string(),
        };
        format!("can't start {program}: {why}")
    }
}

/// The program by its path (R8): as it is written, or the first of this name in `PATH`.
pub(super) fn find(name: &str, path: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        let program = PathBuf::from(name);
        if !program.is_absolute() {
            return Err(format!("the program {name} is not given by its whole path"));
        }
        let it = program.metadata().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no program {name}"),
            _ => format!("can't look at the program {name}: {error}"),
        })?;
        return match (it.is_file(), it.permissions().mode() & 0o111) {
            (true, 0) => Err(format!("the program {name} is not executable: chmod +x {name}")),
            (true, _) if is_text(&program) => Err(format!(
                "the program {name} is text: its first line does not say what runs it (#!/bin/sh)"
            )),
            (true, _) => Ok(program),
            (false, _) if it.is_dir() => Err(format!("the program {name} is a directory")),
            (false, _) => Err(format!("the program {name} is no file")),
        };
    }
    let is_program =
        |file: &PathBuf| file.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(is_program)
        .ok_or_else(|| format!("there is no program {name} in PATH ({path})"))
}

/// Whether a file is a script that does not say of what kind. The C library would try a shell then; nothing runs in a shell
/// here unless that was asked for.
fn is_text(program: &Path) -> bool {
    let mut begin = Vec::new();
    let read = File::open(program).and_then(|file| file.take(128).read_to_end(&mut begin));
    read.is_ok() && !begin.starts_with(b"#!") && !begin.contains(&0)
}

/// The whole environment of a program (R8): `PATH`, `HOME` and `LANG`, without which hardly anything runs as it should;
/// what is known of run and alert; `KUBECONFIG` of the source; what was asked for of the responder's own; the program's own,
/// which wins over all others; and the mark.
pub(super) fn environment(
    job: &Job,
    program: &Program,
    values: &Values,
    account: Option<&Account>,
    mark: &str,
) -> Result<BTreeMap<String, String>, String> {
    let own = |name: &str| env::var(name).ok();
    let mut all = values.variables();
    all.insert("PATH".to_owned(), own("PATH").unwrap_or_else(|| PATH.to_owned()));
    let home = match account {
        Some(account) => account.home.clone(),
        None => own("HOME"),
    };
    all.extend(home.map(|home| ("HOME".to_owned(), home)));
    all.extend(own("LANG").map(|it| ("LANG".to_owned(), it)));
    let kubeconfig = job.kubeconfig.as_deref().map(Path::to_string_lossy);
    all.extend(kubeconfig.map(|it| ("KUBECONFIG".to_owned(), it.into_owned())));
    let wanted = program.pass_env.iter().filter_map(|name| Some((name.clone(), own(name)?)));
    all.extend(wanted);
    for (name, written) in &program.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("env {name:?} can't be the name of a variable"));
        }
        all.insert(name.clone(), values.value(name, written)?);
    }
    all.insert(MARK_VARIABLE.to_owned(), mark.to_owned());
    Ok(all)
}
