//! From a launch to the order the keeper carries out.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use hale_keeper::protocol::{Start, Text};
use hale_model::expand;

use super::{ProcessOptions, account, environment, key_of, mask::Masker, process_of, spawn_error};
use crate::runtime::{Launch, SpawnError, Surroundings};

/// A finished order.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) start: Start,
    /// What commands of `exec` checks run in, and what may not be shown of any output.
    pub(super) surroundings: Surroundings,
}

/// Resolves everything. Reads files: may block.
pub(super) fn prepare(launch: &Launch, options: &ProcessOptions) -> Result<Prepared, SpawnError> {
    let workload = &launch.workload;
    let process = process_of(workload)?;
    let account = account::find(process.user.as_deref(), process.group.as_deref(), options)?;
    let (env, from_files) = environment::build(launch, account.as_ref(), options.environment)?;
    let value = |name: &str| env.get(OsStr::new(name)).map(|value| value.to_string_lossy());
    let args: Vec<String> = process.command.iter().map(|arg| expand(arg, value)).collect();
    let program = program(&args[0], &process.working_dir, env.get(OsStr::new("PATH")))?;
    let secrets = process.secret_env.values().cloned().chain(from_files);
    let ulimits = process.ulimits.iter().map(|(name, (soft, hard))| (name.clone(), *soft, *hard));
    let text = |it: &OsString| it.to_string_lossy().into_owned();
    let surroundings = Surroundings {
        env: env.iter().map(|(name, value)| (text(name), text(value))).collect(),
        working_dir: process.working_dir.clone(),
        user: account.as_ref().map(|account| (account.user.uid, account.user.gid)),
        masker: Arc::new(Masker::new(secrets)),
        inside: None,
    };
    let start = Start {
        key: key_of(&launch.id),
        program: Text::from(&program),
        args: args.iter().map(Text::from).collect(),
        env: texts(&env),
        dir: Text::from(&process.working_dir),
        user: account.map(|account| account.user),
        ulimits: ulimits.collect(),
        memory: workload.resources.memory,
        cpu: workload.resources.cpu,
        notify: environment::notifies(workload),
        stop_signal: workload.stop_signal,
        // What a later agent wants to know of it and can't find elsewhere.
        memo: serde_json::to_string(&launch.ports).ok(),
        deadline: launch.stop_at.map(|(at, grace)| (at.as_nanos(), super::client::millis(grace))),
    };
    Ok(Prepared { start, surroundings })
}

fn texts(env: &BTreeMap<OsString, OsString>) -> Vec<(Text, Text)> {
    env.iter().map(|(name, value)| (Text::from(name), Text::from(value))).collect()
}

/// The program of this name: absolute as it is, with a slash from the working directory, else by `PATH`.
fn program(name: &str, dir: &Path, path: Option<&OsString>) -> Result<PathBuf, SpawnError> {
    if name.is_empty() {
        return Err(spawn_error("not_found", "the program's name is empty"));
    }
    if name.contains('/') {
        // What is wrong with it, if anything is, the start itself tells best.
        return Ok(dir.join(name));
    }
    let path = path.map(OsString::as_os_str).unwrap_or_default();
    let mut not_executable = None;
    for entry in std::env::split_paths(path) {
        let candidate = dir.join(entry).join(name);
        match fs::metadata(&candidate) {
            Ok(data) if data.is_file() && data.permissions().mode() & 0o111 != 0 => return Ok(candidate),
            Ok(data) if data.is_file() => not_executable = Some(candidate),
            _ => {}
        }
    }
    match not_executable {
        Some(path) => {
            let detail = format!("{} may not be executed: no x bit (chmod +x)", path.display());
            Err(spawn_error("not_executable", detail))
        }
        None => {
            let detail = format!("no such program: {name} (looked in PATH: {})", path.display());
            Err(spawn_error("not_found", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_path_or_from_the_working_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = OsString::from("bin:/bin");
        assert_eq!(program("sh", dir.path(), Some(&path)).unwrap(), Path::new("/bin/sh"));
        assert_eq!(program("./web", dir.path(), Some(&path)).unwrap(), dir.path().join("./web"));
        assert_eq!(program("/a/b", dir.path(), None).unwrap(), Path::new("/a/b"));
        fs::create_dir(dir.path().join("bin")).unwrap();
        let own = dir.path().join("bin/sh");
        fs::write(&own, "").unwrap();
        assert_eq!(program("sh", dir.path(), Some(&path)).unwrap(), Path::new("/bin/sh"));
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(program("sh", dir.path(), Some(&path)).unwrap(), own);
    }

    #[test]
    fn a_program_that_is_nowhere_is_told_with_where_was_looked() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("plain"), "").unwrap();
        let path = dir.path().as_os_str().to_owned();
        let error = program("none", Path::new("/"), Some(&path)).unwrap_err();
        assert_eq!(error.code, "not_found");
        assert!(error.detail.contains(dir.path().to_str().unwrap()), "{error}");
        assert_eq!(program("plain", Path::new("/"), Some(&path)).unwrap_err().code, "not_executable");
    }
}
