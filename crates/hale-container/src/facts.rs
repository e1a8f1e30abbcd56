//! What the engine tells of one container, reduced to what matters here.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use bollard::models::{ContainerInspectResponse, HealthStatusEnum};
use jiff::Timestamp;

/// One container as it is now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Facts {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) running: bool,
    /// Whether it ever ran.
    pub(crate) ran: bool,
    pub(crate) status: String,
    pub(crate) exit_code: i64,
    pub(crate) oom: bool,
    /// What the engine says went wrong.
    pub(crate) error: String,
    /// Its main process by this machine's numbers; absent where it is of another machine, or not told.
    pub(crate) pid: Option<u32>,
    pub(crate) address: Option<IpAddr>,
    /// Where its ports are published: the number inside to address and number outside.
    pub(crate) published: HashMap<u16, Vec<(IpAddr, u16)>>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    /// What its own check says, if it has one and that has come to something, and the last output of that.
    pub(crate) healthy: Option<bool>,
    pub(crate) health_output: String,
    /// Whether it has a check of its own.
    pub(crate) has_check: bool,
}

impl Facts {
    pub(crate) fn of(it: ContainerInspectResponse) -> Self {
        let state = it.state.unwrap_or_default();
        let network = it.network_settings.unwrap_or_default();
        let health = state.health.unwrap_or_default();
        // Of several networks the first by name, so that it is the same after a restart.
        let networks: BTreeMap<_, _> = network.networks.into_iter().flatten().collect();
        let address = networks
            .values()
            .find_map(|endpoint| endpoint.ip_address.as_deref().filter(|it| !it.is_empty())?.parse().ok());
        let published = network.ports.iter().flatten().filter_map(|(inside, bindings)| {
            let (inside, protocol) = inside.split_once('/').unwrap_or((inside, "tcp"));
            let inside = inside.parse().ok().filter(|_| protocol == "tcp")?;
            let outside = bindings.iter().flatten().filter_map(|it| {
                // Podman leaves the address empty where all are meant.
                let address = it.host_ip.as_deref().filter(|it| !it.is_empty()).unwrap_or("0.0.0.0");
                Some((address.parse().ok()?, it.host_port.as_ref()?.parse().ok()?))
            });
            Some((inside, outside.collect()))
        });
        let health_output = health.log.iter().flatten().next_back().and_then(|it| it.output.clone());
        let started = time(state.started_at.as_deref());
        let check = it.config.and_then(|it| it.healthcheck?.test).unwrap_or_default();
        Self {
            id: it.id.unwrap_or_default(),
            name: it.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            running: state.running.unwrap_or_default(),
            ran: started.is_some(),
            status: state.status.map(|it| it.to_string()).unwrap_or_default(),
            exit_code: state.exit_code.unwrap_or_default(),
            oom: state.oom_killed.unwrap_or_default(),
            error: state.error.unwrap_or_default(),
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
            address,
            published: published.collect(),
            started,
            finished: time(state.finished_at.as_deref()),
            healthy: match health.status {
                Some(HealthStatusEnum::HEALTHY) => Some(true),
                Some(HealthStatusEnum::UNHEALTHY) => Some(false),
                _ => None,
            },
            health_output: health_output.unwrap_or_default(),
            has_check: check.first().is_some_and(|it| it != "NONE"),
        }
    }

    /// What its own check says, in one line.
    pub(crate) fn health_detail(&self) -> String {
        let output = self.health_output.split_whitespace().collect::<Vec<_>>().join(" ");
        health_detail(&output)
    }
}

/// What a container's own check said last, in one line.
pub(crate) fn health_detail(output: &str) -> String {
    if output.is_empty() {
        return "the container's own health check".to_owned();
    }
    format!("the container's own health check: {}", &output[..output.floor_char_boundary(500)])
}

/// A moment as engines tell it; `0001-01-01T00:00:00Z` stands for none.
fn time(text: Option<&str>) -> Option<Timestamp> {
    let at: Timestamp = text?.parse().ok()?;
    (at > Timestamp::UNIX_EPOCH).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_tells_is_read() {
        let text = serde_json::json!({
            "Id": "abc", "Name": "/web",
            "State": {
                "Status": "running", "Running": true, "Pid": 42, "ExitCode": 0, "OOMKilled": false,
                "StartedAt": "2026-11-22T14:00:00.123456789Z", "FinishedAt": "0001-01-01T00:00:00Z",
                "Health": { "Status": "unhealthy", "FailingStreak": 3, "Log": [
                    { "ExitCode": 1, "Output": "first" }, { "ExitCode": 1, "Output": "no\nanswer\n" } ] }
            },
            "Config": { "Healthcheck": { "Test": ["CMD", "true"] } },
            "NetworkSettings": {
                "Ports": {
                    "80/udp": [{ "HostIp": "127.0.0.1", "HostPort": "30001" }],
                    "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "20001" }],
                    "53/udp": [{ "HostIp": "127.0.0.1", "HostPort": "20002" }],
                    "81/tcp": null
                },
                "Networks": {
                    "c": { "IPAddress": "172.19.0.2" }, "bridge": { "IPAddress": "172.17.0.2" },
                    "d": { "IPAddress": "172.20.0.2" }, "a": { "IPAddress": "" }
                }
            }
        });
        let facts = Facts::of(serde_json::from_value(text).unwrap());
        assert!(facts.running && facts.ran && facts.finished.is_none());
        assert_eq!((facts.name.as_str(), facts.pid), ("web", Some(42)));
        assert_eq!(
            facts.published,
            HashMap::from([(80, vec![("127.0.0.1".parse().unwrap(), 20001)]), (81, vec![])])
        );
        assert_eq!(facts.address, Some("172.17.0.2".parse().unwrap()));
        assert_eq!((facts.has_check, facts.healthy), (true, Some(false)));
        assert_eq!(facts.health_detail(), "the container's own health check: no answer");
    }
}
