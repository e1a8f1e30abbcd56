//! The environment of a replica (N4).

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use hale_model::spec::{Check, Process, Workload};

use super::{account::Account, env_file, process_of};
use crate::runtime::{Launch, SpawnError};

/// What a replica's environment begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BaseEnvironment {
    /// That of this process, less `HALE_*` and what a service manager gave it alone: for `hale up`.
    #[default]
    Inherit,
    /// `PATH`, `HOME`, `LANG`: for a server's agent.
    Clean,
}

/// What a service manager says to this process only.
const NOT_INHERITED: [&str; 8] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
];

/// Where programs are looked for when nobody says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds the whole environment; later ones win: base, account, `envFrom` in order, `env`, `secretEnv`, hale's own.
/// The second value is what was read from files, whose values are secret too.
pub(super) fn build(
    launch: &Launch,
    account: Option<&Account>,
    base: BaseEnvironment,
) -> Result<(BTreeMap<OsString, OsString>, Vec<String>), SpawnError> {
    let process = process_of(&launch.workload)?;
    let mut env = base_of(base, std::env::vars_os());
    if let Some(account) = account {
        let told = [("HOME", &account.home), ("USER", &account.name), ("LOGNAME", &account.name)];
        for (name, value) in told {
            if let Some(value) = value {
                env.insert(name.into(), value.into());
            }
        }
    }
    let mut from_files = Vec::new();
    for path in &process.env_from {
        for (name, value) in env_file::read(path)? {
            from_files.push(value.clone());
            env.insert(name.into(), value.into());
        }
    }
    for (name, value) in declared(process) {
        env.insert(name.into(), value.into());
    }
    for (name, value) in own(launch) {
        env.insert(name.into(), value.into());
    }
    Ok((env, from_files))
}

fn base_of(
    base: BaseEnvironment,
    own: impl Iterator<Item = (OsString, OsString)>,
) -> BTreeMap<OsString, OsString> {
    match base {
        BaseEnvironment::Inherit => own.filter(|(name, _)| is_inherited(name)).collect(),
        BaseEnvironment::Clean => [("PATH", PATH), ("HOME", "/"), ("LANG", "C.UTF-8")]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
    }
}

fn is_inherited(name: &OsStr) -> bool {
    !name.as_encoded_bytes().starts_with(b"HALE_") && !NOT_INHERITED.iter().any(|it| name == *it)
}

fn declared(process: &Process) -> impl Iterator<Item = (&String, &String)> {
    process.env.iter().chain(&process.secret_env)
}

/// What hale tells every replica.
fn own(launch: &Launch) -> Vec<(String, String)> {
    let workload = &launch.workload;
    let mut own = vec![
        ("HALE_WORKLOAD".to_owned(), workload.name.clone()),
        ("HALE_REPLICA".to_owned(), launch.id.replica.clone()),
        ("HALE_GENERATION".to_owned(), launch.id.generation.to_string()),
        ("HALE_INCARNATION".to_owned(), launch.id.incarnation.to_string()),
    ];
    // So that a workload can run hale's own subcommands wherever hale is installed.
    if let Some(exe) = std::env::current_exe().ok().and_then(|exe| exe.into_os_string().into_string().ok()) {
        own.push(("HALE_EXE".to_owned(), exe));
    }
    let number = |name: &str| launch.ports.get(name).map(ToString::to_string);
    if let Some(first) = workload.ports.first().and_then(|port| number(&port.name)) {
        own.push(("PORT".to_owned(), first));
    }
    for port in &workload.ports {
        if let Some(number) = number(&port.name) {
            own.push((port_variable(&port.name), number));
        }
    }
    if let Some(micros) = watchdog_micros(workload) {
        own.push(("WATCHDOG_USEC".to_owned(), micros.to_string()));
    }
    own
}

/// `PORT_HTTP` for a port named `http`.
#[must_use]
pub fn port_variable(name: &str) -> String {
    let upper = name.chars().map(|it| if it.is_ascii_alphanumeric() { it.to_ascii_uppercase() } else { '_' });
    format!("PORT_{}", upper.collect::<String>())
}

/// Whether a replica gets a notify socket: any of its probes waits for reports (H9).
pub(super) fn notifies(workload: &Workload) -> bool {
    [&workload.startup, &workload.liveness, &workload.readiness]
        .into_iter()
        .flatten()
        .any(|probe| probe.check == Check::Notify)
}

/// How often a replica has to report that it is alive: the period of its liveness probe. Programs report twice in
/// that time, as `sd_watchdog_enabled(3)` asks them to.
fn watchdog_micros(workload: &Workload) -> Option<u128> {
    let liveness = workload.liveness.as_ref().filter(|probe| probe.check == Check::Notify)?;
    Some(liveness.timing.period.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_meant_for_hale_itself_is_inherited() {
        let own = ["HOME", "HALE_TOKEN", "HALE_INSTANCE", "NOTIFY_SOCKET", "WATCHDOG_USEC", "LANG"];
        let env = base_of(BaseEnvironment::Inherit, own.into_iter().map(|it| (it.into(), "x".into())));
        let names: Vec<_> = env.keys().map(|it| it.to_str().unwrap()).collect();
        assert_eq!(names, ["HOME", "LANG"]);
        let clean = base_of(BaseEnvironment::Clean, std::iter::empty());
        assert_eq!(clean.keys().map(|it| it.to_str().unwrap()).collect::<Vec<_>>(), ["HOME", "LANG", "PATH"]);
    }

    #[test]
    fn a_port_is_told_under_its_name() {
        assert_eq!(port_variable("http"), "PORT_HTTP");
        assert_eq!(port_variable("grpc-web2"), "PORT_GRPC_WEB2");
    }
}
