//! A workload file in the making.

use std::time::Duration;

use super::out::{Fields, Out, document};

/// One workload, field by field; what is empty is not written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) replicas: Option<u64>,
    pub(super) process: Fields,
    pub(super) container: Fields,
    pub(super) ports: Vec<Port>,
    pub(super) resources: Fields,
    /// `startupProbe`, `livenessProbe`, `readinessProbe`.
    pub(super) probes: Fields,
    pub(super) restart: Fields,
    pub(super) depends_on: Vec<String>,
    /// What is left, by its names in a workload file.
    pub(super) rest: Fields,
}

/// A port of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) host_port: Option<u16>,
}

impl Draft {
    pub(super) fn named(name: &str) -> Self {
        Self { name: label(name), ..Self::default() }
    }

    /// Adds a port; one that is there already is not added again. Its name is made one of its own.
    pub(super) fn add_port(&mut self, name: Option<&str>, port: u16, host_port: Option<u16>) {
        if let Some(it) = self.ports.iter_mut().find(|it| it.port == port && port != 0) {
            it.host_port = it.host_port.or(host_port);
            return;
        }
        let usual = name.map(label).filter(|it| !it.is_empty()).unwrap_or_else(|| usual_name(port));
        let taken = |name: &str| self.ports.iter().any(|it| it.name == name);
        let name = if taken(&usual) { format!("{usual}-{port}") } else { usual };
        self.ports.push(Port { name, port, host_port });
    }

    /// The document.
    pub(super) fn write(&self) -> String {
        let mut all = Fields::default().with("kind", "Workload").with("name", self.name.as_str());
        all.set_some("replicas", self.replicas.filter(|it| *it != 1).map(Out::word));
        all.set_some("process", Some(self.process.clone()));
        all.set_some("container", Some(self.container.clone()));
        let ports: Vec<Out> = self.ports.iter().map(|it| port(it).into()).collect();
        all.set_some("ports", Some(ports));
        all.set_some("resources", Some(self.resources.clone()));
        for kind in ["startupProbe", "livenessProbe", "readinessProbe"] {
            all.set_some(kind, self.probes.get(kind).cloned());
        }
        all.set_some("restart", Some(self.restart.clone()));
        all.set_some("dependsOn", Some(Out::texts(self.depends_on.iter().cloned())));
        for name in self.rest.names() {
            all.set_some(name, self.rest.get(name).cloned());
        }
        document(&all)
    }
}

fn port(it: &Port) -> Fields {
    let mut fields = Fields::default().with("name", it.name.as_str()).with("port", Out::word(it.port));
    fields.set_some("hostPort", it.host_port.map(Out::word));
    fields
}

/// What is usually behind a port.
fn usual_name(port: u16) -> String {
    match port {
        80 | 3000 | 5000 | 8000 | 8080 => "http".to_owned(),
        443 | 8443 => "https".to_owned(),
        3306 => "mysql".to_owned(),
        5432 => "postgres".to_owned(),
        6379 => "redis".to_owned(),
        _ => format!("port-{port}"),
    }
}

/// A name as names are in workload files: lower case letters, digits and dashes.
pub(super) fn label(name: &str) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(fine).take(63).collect();
    name.trim_matches('-').to_owned()
}

/// A time in seconds, as the `…Seconds` fields have it.
pub(super) fn seconds(time: Duration) -> Out {
    Out::word(time.as_secs_f64())
}

/// A time with its unit, as all others have it.
pub(super) fn span(time: Duration) -> Out {
    let millis = time.as_millis();
    Out::word(match (millis % 1000, millis / 1000) {
        (0, seconds) if seconds >= 60 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        (0, seconds) => format!("{seconds}s"),
        _ => format!("{millis}ms"),
    })
}

/// A size in bytes, in the largest unit that says it exactly.
pub(super) fn size(bytes: u64) -> Out {
    for (unit, name) in [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")] {
        if bytes.is_multiple_of(unit) && bytes > 0 {
            return Out::word(format!("{}{name}", bytes / unit));
        }
    }
    Out::word(bytes)
}
