//! What a node allows its containers (N4, N5): as whom they run, and which of its paths they see.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use hale_model::spec::Volume;
use hale_supervisor::runtime::SpawnError;

use crate::options::ContainerOptions;

/// Sockets that are root for whoever can write to them, besides those of the engines that hale asks.
const SOCKETS: [&str; 3] = ["/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock"];

/// Users and groups of this machine, for the names in `--allow-user` and the groups of a user.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    pub(crate) fn of_this_machine() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self { passwd: read("/etc/passwd"), group: read("/etc/group") }
    }

    fn entry(&self, uid: u32) -> Option<Vec<&str>> {
        let entries = self.passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        entries.into_iter().find(|it| it.len() >= 4 && it[2].parse() == Ok(uid))
    }

    fn is_in(&self, uid: u32, gid: u32) -> bool {
        let Some(entry) = self.entry(uid) else { return false };
        let groups = self.group.lines().map(|line| line.split(':').collect::<Vec<_>>());
        entry[3].parse() == Ok(gid)
            || groups.into_iter().any(|it| {
                it.len() >= 4 && it[2].parse() == Ok(gid) && it[3].split(',').any(|name| name == entry[0])
            })
    }
}

/// Whether anything is restricted: then nothing in a container may become more than it starts as.
pub(crate) const fn strict(options: &ContainerOptions) -> bool {
    options.no_root || options.allow_users.is_some()
}

/// Whether a container may run as this user, its own or its image's: `UID` or `UID:GID`.
///
/// # Errors
/// `not_allowed`. Names are none that a node could judge: what they stand for is said by the image.
pub(crate) fn user(user: &str, options: &ContainerOptions, accounts: &Accounts) -> Result<(), SpawnError> {
    if !strict(options) {
        return Ok(());
    }
    let flags = "(--no-root and --allow-user)";
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    let uid: u32 = match name {
        "" | "root" => 0,
        name => name.parse().map_err(|_| {
            let what = "the image says who that is: give the user of the container as a number";
            denied(format!("this node runs no container as {name} {flags}: {what}"))
        })?,
    };
    if options.no_root && uid == 0 {
        let what = "give the container a user, as a number that is not 0";
        return Err(denied(format!("this node runs no container as root (--no-root): {what}")));
    }
    if let Some(allowed) = &options.allow_users {
        let named = accounts.entry(uid).is_some_and(|it| allowed.contains(it[0]));
        if !named && !allowed.contains(&uid.to_string()) {
            return Err(denied(format!("this node runs no container as user {uid} (--allow-user)")));
        }
    }
    let Some(group) = group.filter(|it| !it.is_empty()) else { return Ok(()) };
    // 0 is what an engine gives a number that its image does not know, asked for or not.
    let natural = |gid: u32| gid == 0 || gid == uid || accounts.is_in(uid, gid);
    if group.parse().is_ok_and(natural) {
        return Ok(());
    }
    let what = "which is none of the user's own on this machine";
    Err(denied(format!("this node runs no container under group {group} {flags}, {what}")))
}

/// Whether a container may see these paths: through the socket of an engine it would be root of this machine, whoever
/// it runs as.
///
/// # Errors
/// `not_allowed`.
pub(crate) fn volumes(
    volumes: &[Volume],
    options: &ContainerOptions,
    engine: &Path,
) -> Result<(), SpawnError> {
    if !strict(options) {
        return Ok(());
    }
    let sockets: BTreeSet<PathBuf> = SOCKETS
        .iter()
        .map(PathBuf::from)
        .chain([engine.to_owned()])
        .flat_map(|it| [fs::canonicalize(&it).unwrap_or_else(|_| it.clone()), it])
        .collect();
    for volume in volumes.iter().filter(|it| it.source.starts_with('/')) {
        let source = match fs::canonicalize(&volume.source) {
            Ok(source) => source,
            // The engine refuses it by itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(denied(format!(
                    "can't tell what {} is, and so not mounted: {error}",
                    volume.source
                )));
            }
        };
        if let Some(socket) = sockets.iter().find(|it| it.starts_with(&source)) {
            return Err(denied(format!(
                "this node mounts {} into no container (--no-root and --allow-user): with {} it would be root here",
                volume.source,
                socket.display()
            )));
        }
    }
    Ok(())
}

const fn denied(detail: String) -> SpawnError {
    SpawnError { code: "not_allowed", detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv:/bin/false\n".to_owned(),
            group: "web:x:33:\nssl:x:110:web,db\ndocker:x:999:ana\n".to_owned(),
        }
    }

    fn options(no_root: bool, users: &[&str]) -> ContainerOptions {
        let allow_users = (!users.is_empty()).then(|| users.iter().map(|it| (*it).to_owned()).collect());
        ContainerOptions { no_root, allow_users, ..ContainerOptions::new("/nowhere") }
    }

    #[test]
    fn without_root_only_a_number_that_is_not_0_will_do() {
        let none = options(false, &[]);
        let no_root = options(true, &[]);
        for (who, allowed) in [
            ("", false),
            ("root", false),
            ("0", false),
            ("00", false),
            ("+0", false),
            ("0:1000", false),
            // The image may have this name for 0.
            ("app", false),
            ("4294967296", false),
            ("-1", false),
            ("1000", true),
            ("1000:1000", true),
            ("1000:0", true),
            ("33:110", true),
            ("1000:999", false),
            ("33:docker", false),
        ] {
            let result = user(who, &no_root, &accounts());
            assert_eq!(result.is_ok(), allowed, "{who}: {result:?}");
            assert!(result.is_ok() || result.is_err_and(|it| it.code == "not_allowed"), "{who}");
            assert!(user(who, &none, &accounts()).is_ok(), "{who}");
        }
    }

    #[test]
    fn only_users_that_the_node_allows_run_by_number_or_by_their_name_there() {
        let options = options(false, &["web", "1000"]);
        for (who, allowed) in
            [("33", true), ("1000", true), ("1001", false), ("", false), ("0", false), ("web", false)]
        {
            assert_eq!(user(who, &options, &accounts()).is_ok(), allowed, "{who}");
        }
    }

    #[test]
    fn the_socket_of_an_engine_is_mounted_neither_by_itself_nor_with_what_it_is_in() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, inner, link) =
            (dir.path().join("engine.sock"), dir.path().join("data"), dir.path().join("data/up"));
        fs::write(&socket, "").unwrap();
        fs::create_dir(&inner).unwrap();
        std::os::unix::fs::symlink("..", &link).unwrap();
        let mount = |source: &Path| {
            let source = source.to_str().unwrap().to_owned();
            [Volume { source, target: "/x".to_owned(), read_only: true }]
        };
        for (source, allowed) in [
            (&*socket, false),
            (dir.path(), false),
            (Path::new("/"), false),
            (&*link, false),
            (&*inner, true),
        ] {
            let result = volumes(&mount(source), &options(true, &[]), &socket);
            assert_eq!(result.is_ok(), allowed, "{}: {result:?}", source.display());
            assert!(volumes(&mount(source), &options(false, &[]), &socket).is_ok());
        }
        let named = [Volume { source: "data".to_owned(), target: "/x".to_owned(), read_only: false }];
        assert!(volumes(&named, &options(true, &[]), &socket).is_ok());
    }
}
