//! Workspaces (R8): a directory per run, with its alert, its prompt, and room for what it makes.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use hale_model::spec::Program;

use super::{
    Job,
    account::Account,
    prompt,
    values::{Values, alert_file, prompt_file},
};

/// What a workspace is called until all of it is there.
pub(super) const UNFINISHED: &str = ".new-";

/// Whether this can be the name of a run, and of a directory.
pub(super) fn is_run(id: &str) -> bool {
    let good = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
    !id.is_empty() && id.len() <= 128 && !id.starts_with('.') && id.chars().all(good)
}

/// The values of a run, and its prompt.
pub(super) fn texts(job: &Job, program: &Program, workspace: &Path) -> Result<(Values, String), String> {
    let values = Values::new(job, workspace);
    let prompt = prompt::write(program.prompt_file.as_deref(), job, &values)?;
    Ok((values.with_prompt(prompt.clone()), prompt))
}

/// Makes the workspace of a run; one that is there is complete, and stays as it is.
pub(super) fn make(all: &Path, job: &Job, account: Option<&Account>) -> Result<PathBuf, String> {
    let id = &job.run.id;
    if !is_run(id) {
        return Err(format!("{id:?} can't be the name of a workspace"));
    }
    let workspace = all.join(id);
    match fs::symlink_metadata(&workspace) {
        Ok(it) if it.is_dir() => return Ok(workspace),
        Ok(_) => return Err(format!("{} is there and no directory", workspace.display())),
        Err(_) => {}
    }
    if let Some(account) = account {
        account.may_reach(all)?;
    }
    let (_, prompt) = texts(job, &job.program, &workspace)?;
    let unfinished = all.join(format!("{UNFINISHED}{id}"));
    let _ = fs::remove_dir_all(&unfinished);
    let alert = prompt::json(job);
    let made = fill(&unfinished, &alert, &prompt, account).and_then(|()| fs::rename(&unfinished, &workspace));
    if let Err(error) = made {
        let _ = fs::remove_dir_all(&unfinished);
        return Err(format!("can't make the workspace {}: {error}", workspace.display()));
    }
    Ok(workspace)
}

fn fill(at: &Path, alert: &str, prompt: &str, account: Option<&Account>) -> io::Result<()> {
    let directory = |path: &Path| {
        DirBuilder::new().mode(0o700).create(path)?;
        // Whatever the umask took.
        fs::set_permissions(path, Permissions::from_mode(0o700))
    };
    let (output, logs) = (at.join("output"), at.join("logs"));
    directory(at)?;
    directory(&output)?;
    directory(&logs)?;
    write(&alert_file(at), alert)?;
    write(&prompt_file(at), prompt)?;
    if let Some(account) = account {
        let (uid, gid) = (Some(account.user.uid), Some(account.user.gid));
        for path in [alert_file(at), prompt_file(at), output, logs, at.to_owned()] {
            chown(path, uid, gid)?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    // A full disk may say so only now.
    file.sync_data()
}
