//! What is asked for and has less effect here than one would think: looked for, and said, once a placement.

use std::{collections::HashSet, net::IpAddr, sync::Mutex, sync::PoisonError};

use hale_health::Generation;
use hale_model::spec::{Container, Workload};
use hale_supervisor::runtime::{InstanceId, Launch, RuntimeEvent};

use crate::{facts::Facts, link::State, shared::Shared};

/// What was said is remembered, so much of it; then all is forgotten, and said once more.
const REMEMBERED: usize = 10_000;

/// What was said already.
#[derive(Debug, Default)]
pub(crate) struct Warned(Mutex<HashSet<(String, Generation, &'static str)>>);

impl Warned {
    /// Whether this is the first time.
    fn first(&self, id: &InstanceId, code: &'static str) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= REMEMBERED {
            said.clear();
        }
        said.insert((id.replica.clone(), id.generation, code))
    }
}

/// What an engine does by itself.
#[derive(Debug, Clone, Copy)]
struct Can {
    run_checks: bool,
    tell_oom: bool,
}

impl Shared {
    /// Says what of a container that was started is not as it looks.
    pub(crate) async fn warn_of(
        &self,
        launch: &Launch,
        container: &Container,
        facts: &Facts,
        address: IpAddr,
    ) {
        let State::Up(engine) = self.link.state() else { return };
        let can = Can { run_checks: engine.runs_checks, tell_oom: engine.tells_oom };
        let far = !self.options.publish.is_loopback() && address != self.options.publish;
        for (code, detail) in warnings(&launch.workload, container, facts, can, far) {
            if self.warned.first(&launch.id, code) {
                tracing::warn!(replica = launch.id.replica, code, "{detail}");
                self.say(&launch.id, &detail);
                self.tell(RuntimeEvent::Warning { id: launch.id.clone(), code, detail }).await;
            }
        }
    }
}

/// What is to be said. `far`: its own address is all it is reached at, and gateways are on other machines.
fn warnings(
    workload: &Workload,
    container: &Container,
    facts: &Facts,
    can: Can,
    far: bool,
) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if container.healthcheck && facts.has_check && !can.run_checks {
        let instead = match workload.liveness {
            Some(_) => "the livenessProbe alone tells whether it is well",
            None => "declare a livenessProbe",
        };
        let detail = format!(
            "the HEALTHCHECK of its image is never run: Podman leaves that to timers of systemd, which is not there; \
             {instead}"
        );
        all.push(("healthcheck_not_run", detail));
    }
    if workload.resources.memory.is_some() && !can.tell_oom {
        let detail = "Podman does not tell here (cgroups of version 1) when a container is killed for want of memory: \
                      such an end shows as signal 9"
            .to_owned();
        all.push(("oom_not_told", detail));
    }
    if let (Some(service), true) = (&workload.service, far) {
        let detail = format!(
            "its port {} is not published, so that it is reached from its own machine alone: it is no endpoint of the \
             service {}; give the port hostPort: 0",
            service.port, service.name
        );
        all.push(("unpublished", detail));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(text: &str) -> Workload {
        let declared = hale_model::file::read_str("web.yaml", std::path::Path::new("/"), text).unwrap();
        (*declared.workloads[0]).clone()
    }

    #[test]
    fn only_what_has_no_effect_is_said() {
        let text = "kind: Workload\nname: web\ncontainer: {image: \"web:1\"}\nports: [{name: http, port: 80}]\n\
                    resources: {memory: 64Mi}\nservice: {name: web, port: http}\n";
        let web = workload(text);
        let container = web.run.as_container().unwrap();
        let facts = Facts { has_check: true, ..Facts::default() };
        let codes = |facts: &Facts, can, far| {
            let all = warnings(&web, container, facts, can, far);
            all.into_iter().map(|it| it.0).collect::<Vec<_>>()
        };
        let (all, none) =
            (Can { run_checks: true, tell_oom: true }, Can { run_checks: false, tell_oom: false });
        assert!(codes(&facts, all, false).is_empty());
        assert_eq!(codes(&facts, none, true), ["healthcheck_not_run", "oom_not_told", "unpublished"]);
        assert_eq!(codes(&Facts::default(), none, false), ["oom_not_told"]);
        let off = Container { healthcheck: false, ..container.clone() };
        assert_eq!(warnings(&web, &off, &facts, none, false)[0].0, "oom_not_told");
    }
}
