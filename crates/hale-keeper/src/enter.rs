//! Commands that others start: into a cgroup, and as another user, before the first instruction of their program.
//!
//! For a parent with threads, where the keeper's own way of making a child can't be taken. The user is changed here and
//! not by std's `uid`: older kernels ask who moves itself into a cgroup, not who opened its file, and std changes the
//! user before anything of ours runs, without its supplementary groups.
#![expect(unsafe_code, reason = "what runs between fork and exec can't be had otherwise")]

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
};

use crate::{protocol::User, sys::check};

/// Lets a command enter a cgroup of version 2, then become a user. A cgroup that can't be entered harms no start: whether
/// it was is seen by its members. A user that can't be is an error of the start.
pub fn before_exec(command: &mut Command, group: Option<&Path>, user: Option<User>) {
    let open = |group: &Path| OpenOptions::new().write(true).open(group.join("cgroup.procs")).ok();
    let group = group.and_then(open);
    let step = move || {
        if let Some(mut group) = group.as_ref() {
            let _ = group.write(b"0");
        }
        user.as_ref().map_or(Ok(()), become_user)
    };
    // SAFETY: between fork and exec it makes plain system calls on what was opened and allocated before.
    unsafe { command.pre_exec(step) };
}

fn become_user(user: &User) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of a live vector.
    check(unsafe { libc::setgroups(user.groups.len(), user.groups.as_ptr()) })?;
    // SAFETY: takes a number only.
    check(unsafe { libc::setgid(user.gid) })?;
    // SAFETY: takes a number only.
    check(unsafe { libc::setuid(user.uid) })
}
