//! Who a program runs as (O9): users by name, from `/etc/passwd` and `/etc/group`, or by number.
//!
//! Read by hand: the C library's look-up can load any code into the process and hang in it.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

use hale_keeper::protocol::User;

/// Whom programs may run as.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowed {
    pub(super) no_root: bool,
    pub(super) users: Option<BTreeSet<String>>,
}

/// Who a program is to run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) user: User,
    pub(super) home: Option<String>,
}

impl Allowed {
    /// Finds who is asked for; `None` when that is who the responder runs as.
    pub(super) fn find(&self, user: Option<&str>) -> Result<Option<Account>, String> {
        let own = rustix::process::geteuid().as_raw();
        let Some(user) = user else {
            return self.allow(own, None, own).map(|()| None);
        };
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let account = account(user, &read("/etc/passwd"), &read("/etc/group"))?;
        self.allow(account.user.uid, Some(&account.name), own)?;
        match account.user.uid {
            uid if uid == own => Ok(None),
            _ if own != 0 => {
                Err(format!("can't run as {user}: only root can, and the responder runs as user {own}"))
            }
            _ => Ok(Some(account)),
        }
    }

    fn allow(&self, uid: u32, name: Option<&str>, own: u32) -> Result<(), String> {
        if self.no_root && uid == 0 {
            return Err("nothing is run as root here (--no-root): give the program a user".to_owned());
        }
        let Some(allowed) = &self.users else { return Ok(()) };
        let known = name.is_some_and(|name| allowed.contains(name)) || allowed.contains(&uid.to_string());
        if uid == own || known {
            return Ok(());
        }
        let shown = name.map_or_else(|| uid.to_string(), ToOwned::to_owned);
        Err(format!("nothing is run as {shown} here (--allow-user)"))
    }
}

impl Account {
    /// Whether this user can get to a directory: that takes leave to pass through each one above it.
    pub(super) fn may_reach(&self, path: &Path) -> Result<(), String> {
        for above in path.ancestors() {
            let Ok(it) = fs::metadata(above) else { continue };
            let bit = if it.uid() == self.user.uid {
                0o100
            } else if it.gid() == self.user.gid || self.user.groups.contains(&it.gid()) {
                0o010
            } else {
                0o001
            };
            if self.user.uid != 0 && it.mode() & bit == 0 {
                let (name, mode) = (&self.name, it.mode() & 0o7777);
                let above = above.display();
                return Err(format!(
                    "user {name} can't pass through {above} (mode {mode:o}) to its workspace: chmod o+x {above}, or \
                     give another --data-dir"
                ));
            }
        }
        Ok(())
    }
}

fn account(wanted: &str, passwd: &str, group: &str) -> Result<Account, String> {
    let unknown = || format!("no such user: {wanted} (looked in /etc/passwd; a number is taken as it is)");
    let entry = fields(passwd).find(|it| it.len() >= 6 && (it[0] == wanted || it[2] == wanted));
    let Some(entry) = entry else {
        let uid = wanted.parse().map_err(|_| unknown())?;
        let user = User { uid, gid: uid, groups: Vec::new() };
        return Ok(Account { name: wanted.to_owned(), user, home: None });
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| unknown());
    let (uid, gid) = (number(entry[2])?, number(entry[3])?);
    let others = fields(group)
        .filter(|it| it.len() >= 4 && it[3].split(',').any(|member| member == entry[0]))
        .filter_map(|it| it[2].parse().ok())
        .filter(|it| *it != gid);
    let groups = std::iter::once(gid).chain(others).collect();
    let home = Some(entry[5].to_owned()).filter(|it| !it.is_empty());
    Ok(Account { name: entry[0].to_owned(), user: User { uid, gid, groups }, home })
}

fn fields(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nssl:x:110:web,db\n";

    #[test]
    fn a_user_by_name_brings_its_groups_and_its_home() {
        let found = account("web", PASSWD, GROUP).unwrap();
        assert_eq!(found.user, User { uid: 33, gid: 33, groups: vec![33, 110] });
        assert_eq!(found.home.as_deref(), Some("/srv"));
        let found = account("1234", PASSWD, GROUP).unwrap();
        assert_eq!(found.user, User { uid: 1234, gid: 1234, groups: vec![] });
        assert!(account("nobody-here", PASSWD, GROUP).unwrap_err().contains("/etc/passwd"));
    }

    #[test]
    fn root_and_users_that_are_not_listed_are_refused() {
        let allowed = Allowed { no_root: true, users: Some(std::iter::once("web".to_owned()).collect()) };
        assert!(allowed.allow(0, None, 0).unwrap_err().contains("--no-root"));
        assert!(allowed.allow(33, Some("web"), 0).is_ok());
        assert!(allowed.allow(34, Some("db"), 0).unwrap_err().contains("--allow-user"));
        assert!(allowed.allow(34, Some("db"), 34).is_ok(), "its own user");
    }
}
