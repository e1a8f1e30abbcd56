//! A host of its own on this machine: a network namespace with one wire to this one, which can be cut.

use std::process::{Command, Stdio};

/// A host with the address `10.79.N.2`, which reaches this machine at `10.79.N.1`.
pub(crate) struct Host {
    name: String,
    number: u8,
}

/// Why there can be no hosts here, when there can't.
pub(crate) fn unable() -> Option<String> {
    let name = format!("halet{}", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &name]).output();
    match made {
        Ok(output) if output.status.success() => {
            ip(&["netns", "del", &name]);
            None
        }
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(format!("ip: {error}")),
    }
}

impl Host {
    /// Makes one, with the first number from the given one that is free: a run that was killed leaves its wires behind,
    /// and two with the same network would take each other's packets. Tests side by side begin ten apart.
    pub(crate) fn new(from: u8) -> Self {
        let number = (from..=u8::MAX).step_by(40).find(|it| is_free(*it)).unwrap();
        let host = Self { name: format!("halet{}n{number}", std::process::id()), number };
        let (name, outside, inside) = (host.name.as_str(), host.wire("o"), host.wire("i"));
        ip(&["netns", "add", name]);
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", name]);
        ip(&["addr", "add", &format!("10.79.{number}.1/24"), "dev", &outside]);
        ip(&["link", "set", &outside, "up"]);
        ip(&["-n", name, "addr", "add", &format!("{}/24", host.address()), "dev", &inside]);
        ip(&["-n", name, "link", "set", &inside, "up"]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        ip(&["-n", name, "route", "add", "default", "via", &host.gateway()]);
        host
    }

    /// Names of links are short.
    fn wire(&self, end: &str) -> String {
        format!("ht{}{end}{}", std::process::id() % 100_000, self.number)
    }

    /// Its address.
    pub(crate) fn address(&self) -> String {
        format!("10.79.{}.2", self.number)
    }

    /// Where it reaches this machine.
    pub(crate) fn gateway(&self) -> String {
        format!("10.79.{}.1", self.number)
    }

    /// The command, run there. The process is the command's own: `nsenter` makes way for it.
    pub(crate) fn run(&self, command: &Command) -> Command {
        let mut there = Command::new("nsenter");
        there
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        there
    }

    /// Cuts its wire: nothing goes through, and nobody is told.
    pub(crate) fn cut(&self) {
        ip(&["-n", &self.name, "link", "set", &self.wire("i"), "down"]);
    }

    /// Mends it.
    pub(crate) fn heal(&self) {
        ip(&["-n", &self.name, "link", "set", &self.wire("i"), "up"]);
        ip(&["-n", &self.name, "route", "replace", "default", "via", &self.gateway()]);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The wire goes with its end.
        drop(Command::new("ip").args(["link", "del", &self.wire("o")]).stderr(Stdio::null()).status());
        drop(Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status());
    }
}

/// Whether nothing on this machine has that network.
fn is_free(number: u8) -> bool {
    let network = format!("10.79.{number}.0/24");
    let routes = Command::new("ip").args(["route", "show", &network]).output().unwrap();
    assert!(routes.status.success(), "ip route: {}", String::from_utf8_lossy(&routes.stderr));
    routes.stdout.is_empty()
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
