//! Users and groups by name, from `/etc/passwd` and `/etc/group`.
//!
//! Read by hand: the C library's look-up can load any code into the process and hang in it. Users that only a
//! directory service knows can be given by number.

use std::fs;

use hale_keeper::protocol::User;

use super::{ProcessOptions, spawn_error};
use crate::runtime::SpawnError;

/// Who a replica is to run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: User,
    /// Its name, where it has one.
    pub(super) name: Option<String>,
    /// Its home directory, where it has one.
    pub(super) home: Option<String>,
}

/// The two files.
struct Files {
    passwd: String,
    group: String,
}

/// Finds who is asked for; `None` when the replica runs as the agent does.
pub(super) fn find(
    user: Option<&str>,
    group: Option<&str>,
    options: &ProcessOptions,
) -> Result<Option<Account>, SpawnError> {
    let own = rustix::process::geteuid().as_raw();
    if user.is_none() && group.is_none() {
        allow(own, None, options)?;
        return Ok(None);
    }
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let files = Files { passwd: read("/etc/passwd"), group: read("/etc/group") };
    let account = files.account(user, group, own)?;
    allow(account.user.uid, account.name.as_deref(), options)?;
    if let Some(group) = group {
        files.allow_group(user, group, &account, own, options)?;
    }
    Ok(Some(account))
}

/// Whether the node allows this user (N4).
fn allow(uid: u32, name: Option<&str>, options: &ProcessOptions) -> Result<(), SpawnError> {
    if options.no_root && uid == 0 {
        let detail = "this node runs nothing as root (--no-root): give the workload a user";
        return Err(spawn_error("not_allowed", detail));
    }
    let Some(allowed) = &options.allow_users else { return Ok(()) };
    let own = uid == rustix::process::geteuid().as_raw();
    if own || allowed.contains(&uid.to_string()) || name.is_some_and(|name| allowed.contains(name)) {
        return Ok(());
    }
    let shown = name.map_or_else(|| uid.to_string(), ToOwned::to_owned);
    Err(spawn_error("not_allowed", format!("this node does not run replicas as {shown} (--allow-user)")))
}

impl Files {
    fn account(&self, user: Option<&str>, group: Option<&str>, own: u32) -> Result<Account, SpawnError> {
        let wanted = user.map_or_else(|| own.to_string(), ToOwned::to_owned);
        let entry = fields(&self.passwd).find(|it| it.len() >= 6 && (it[0] == wanted || it[2] == wanted));
        let (uid, gid, name, home) = match &entry {
            Some(entry) => {
                let number =
                    |text: &str| text.parse::<u32>().map_err(|_| no_such("user", &wanted, "/etc/passwd"));
                (number(entry[2])?, Some(number(entry[3])?), Some(entry[0]), Some(entry[5]))
            }
            None => (wanted.parse().map_err(|_| no_such("user", &wanted, "/etc/passwd"))?, None, None, None),
        };
        let gid = match group {
            Some(group) => self.group_id(group)?,
            // A number that no file knows: a group of the same number, as containers do it.
            None => gid.unwrap_or(uid),
        };
        let groups = name.map(|name| self.groups_of(name, gid)).unwrap_or_default();
        let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
        Ok(Account { user: User { uid, gid, groups }, name: owned(name), home: owned(home) })
    }

    /// Whether the node allows this group: where users are restricted, only those that the user is in anyway (N4). Else
    /// what a user may not do would be done by a group.
    fn allow_group(
        &self,
        user: Option<&str>,
        group: &str,
        account: &Account,
        own: u32,
        options: &ProcessOptions,
    ) -> Result<(), SpawnError> {
        if !options.no_root && options.allow_users.is_none() {
            return Ok(());
        }
        let natural = self.account(user, None, own)?.user;
        let gid = account.user.gid;
        if gid == natural.gid || natural.groups.contains(&gid) {
            return Ok(());
        }
        let detail = format!(
            "this node runs nothing under group {group}, which the user is not in (--no-root and --allow-user restrict \
             groups, too)"
        );
        Err(spawn_error("not_allowed", detail))
    }

    fn group_id(&self, group: &str) -> Result<u32, SpawnError> {
        let entry = fields(&self.group).find(|it| it.len() >= 3 && (it[0] == group || it[2] == group));
        let number = entry.map_or(group, |it| it[2]);
        number.parse().map_err(|_| no_such("group", group, "/etc/group"))
    }

    /// The supplementary groups of a user, the main one first.
    fn groups_of(&self, name: &str, main: u32) -> Vec<u32> {
        let of_user = fields(&self.group)
            .filter(|it| it.len() >= 4 && it[3].split(',').any(|member| member == name))
            .filter_map(|it| it[2].parse().ok())
            .filter(|gid| *gid != main);
        std::iter::once(main).chain(of_user).collect()
    }
}

fn fields(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.split(':').collect())
}

fn no_such(what: &str, name: &str, file: &str) -> SpawnError {
    spawn_error(
        "no_such_user",
        format!("no such {what}: {name} (looked in {file}; a number is taken as it is)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv:/bin/false\n".to_owned(),
            group: "root:x:0:\nweb:x:33:\nssl:x:110:web,db\nadm:x:4:db\n".to_owned(),
        }
    }

    #[test]
    fn a_user_by_name_brings_its_groups_and_its_home() {
        let account = files().account(Some("web"), None, 0).unwrap();
        assert_eq!(account.user, User { uid: 33, gid: 33, groups: vec![33, 110] });
        assert_eq!(account.home.as_deref(), Some("/srv"));
        assert_eq!(files().account(Some("33"), Some("adm"), 0).unwrap().user.gid, 4);
    }

    #[test]
    fn a_number_that_no_file_knows_is_taken_as_it_is() {
        let account = files().account(Some("1234"), None, 0).unwrap();
        assert_eq!(account.user, User { uid: 1234, gid: 1234, groups: vec![] });
    }

    #[test]
    fn an_unknown_name_is_told_with_where_was_looked() {
        let error = files().account(Some("nobody-here"), None, 0).unwrap_err();
        assert_eq!(error.code, "no_such_user");
        assert!(error.detail.contains("nobody-here") && error.detail.contains("/etc/passwd"));
        assert_eq!(files().account(Some("web"), Some("none"), 0).unwrap_err().code, "no_such_user");
    }

    #[test]
    fn where_users_are_restricted_a_group_is_one_that_the_user_is_in() {
        let strict = ProcessOptions { no_root: true, ..ProcessOptions::default() };
        let may = |user, group, options: &ProcessOptions| {
            let account = files().account(user, Some(group), 33).unwrap();
            files().allow_group(user, group, &account, 33, options).map_err(|error| error.code)
        };
        for group in ["web", "33", "ssl"] {
            assert_eq!(may(Some("web"), group, &strict), Ok(()), "{group}");
            assert_eq!(may(None, group, &strict), Ok(()), "{group} of the agent's own user");
        }
        for group in ["root", "0", "adm", "4711"] {
            assert_eq!(may(Some("web"), group, &strict), Err("not_allowed"), "{group}");
            assert_eq!(may(Some("1234"), group, &strict), Err("not_allowed"), "{group}");
            assert_eq!(may(Some("web"), group, &ProcessOptions::default()), Ok(()));
        }
    }

    #[test]
    fn the_node_decides_which_users_it_allows() {
        let options = ProcessOptions { no_root: true, ..ProcessOptions::default() };
        assert_eq!(allow(0, Some("root"), &options).unwrap_err().code, "not_allowed");
        let allow_users = Some(std::iter::once("web".to_owned()).collect());
        let options = ProcessOptions { allow_users, ..ProcessOptions::default() };
        assert!(allow(33, Some("web"), &options).is_ok());
        assert_eq!(allow(34, Some("db"), &options).unwrap_err().code, "not_allowed");
    }
}
