//! From a launch to the container that is asked for. Decides everything, asks nobody.

use std::{collections::BTreeMap, collections::HashMap, net::IpAddr};

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
    NetworkingConfig, PortBinding, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use hale_model::{
    expand,
    spec::{Container, Volume, Workload},
};
use hale_supervisor::{
    process::{self, Masker},
    runtime::{Launch, SpawnError},
};

use crate::labels;

/// Networks that are not made by somebody: containers have no names in them.
const UNNAMED: [&str; 4] = ["host", "none", "bridge", "default"];

/// What the engine keeps of a container's output where it is `json-file`: hale keeps its own.
const ENGINE_LOG: [(&str, &str); 2] = [("max-size", "16m"), ("max-file", "2")];

/// The environment of a container, beyond what its image has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) masker: Masker,
}

/// The number of a port inside: as declared, else the one that was picked.
fn inside(workload: &Workload, name: &str, picked: u16) -> u16 {
    workload.port(name).map_or(picked, |port| if port.port == 0 { picked } else { port.port })
}

/// Builds the environment; later ones win: `envFrom` in order, `env`, `secretEnv`, hale's own. Reads files.
pub(crate) fn environment(launch: &Launch, container: &Container) -> Result<Environment, SpawnError> {
    let mut env = BTreeMap::new();
    let mut secrets: Vec<String> = container.secret_env.values().cloned().collect();
    for path in &container.env_from {
        for (name, value) in process::read_env_file(path)? {
            secrets.push(value.clone());
            env.insert(name, value);
        }
    }
    env.extend(container.env.clone());
    env.extend(container.secret_env.clone());
    let workload = &launch.workload;
    env.extend([
        ("HALE_WORKLOAD".to_owned(), workload.name.clone()),
        ("HALE_REPLICA".to_owned(), launch.id.replica.clone()),
        ("HALE_GENERATION".to_owned(), launch.id.generation.to_string()),
        ("HALE_INCARNATION".to_owned(), launch.id.incarnation.to_string()),
    ]);
    let number = |name: &str| Some(inside(workload, name, *launch.ports.get(name)?).to_string());
    if let Some(first) = workload.ports.first().and_then(|port| number(&port.name)) {
        env.insert("PORT".to_owned(), first);
    }
    for port in &workload.ports {
        if let Some(number) = number(&port.name) {
            env.insert(process::port_variable(&port.name), number);
        }
    }
    Ok(Environment { env, masker: Masker::new(secrets) })
}

/// What else goes into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) owner: &'a str,
    /// Where published ports are bound.
    pub(crate) publish: IpAddr,
    /// Whether nothing in it may become more than it starts as (setuid programs, capabilities of files).
    pub(crate) strict: bool,
    /// Whether what the engine keeps of the output is to be bounded.
    pub(crate) bounds_logs: bool,
    /// The environment of the image, for `$(NAME)`.
    pub(crate) image_env: &'a BTreeMap<String, String>,
}

/// The container to create.
pub(crate) fn body(
    launch: &Launch,
    container: &Container,
    image: &str,
    env: &BTreeMap<String, String>,
    around: Around<'_>,
) -> ContainerCreateBody {
    let workload = &launch.workload;
    let value = |name: &str| env.get(name).or_else(|| around.image_env.get(name)).map(String::as_str);
    let expanded = |words: &[String]| {
        let words: Vec<String> = words.iter().map(|word| expand(word, value)).collect();
        (!words.is_empty()).then_some(words)
    };
    let mut labels: HashMap<String, String> = container.labels.clone().into_iter().collect();
    labels.extend(labels::of(around.owner, &workload.name, &launch.id));
    let (exposed, bindings) = ports(launch, around.publish);
    let on_network = container.network.as_deref().filter(|it| !UNNAMED.contains(it) && !it.contains(':'));
    let networking_config = on_network.map(|network| {
        let aliases = Some(vec![launch.id.replica.clone(), workload.name.clone()]);
        let endpoint = EndpointSettings { aliases, ..EndpointSettings::default() };
        NetworkingConfig { endpoints_config: Some(HashMap::from([(network.to_owned(), endpoint)])) }
    });
    let no_check = HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() };
    let named_host = container.network.as_deref() == Some("host");
    ContainerCreateBody {
        image: Some(image.to_owned()),
        hostname: (!named_host).then(|| launch.id.replica.clone()),
        entrypoint: expanded(&container.command),
        cmd: expanded(&container.args),
        env: Some(env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels),
        working_dir: container.working_dir.clone(),
        user: container.user.clone(),
        // An engine that stops it by itself, or is asked to (by the keeper), does it as hale would.
        stop_signal: Some(workload.stop_signal.to_string()),
        exposed_ports: Some(exposed),
        healthcheck: (!container.healthcheck).then_some(no_check),
        host_config: Some(HostConfig { port_bindings: Some(bindings), ..host(workload, container, around) }),
        networking_config,
        ..ContainerCreateBody::default()
    }
}

fn host(workload: &Workload, container: &Container, around: Around<'_>) -> HostConfig {
    let memory = workload.resources.memory.and_then(|it| i64::try_from(it).ok());
    let ulimits = container.ulimits.iter().map(|(name, (soft, hard))| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(limit(*soft)),
        hard: Some(limit(*hard)),
    });
    let log_config = around.bounds_logs.then(|| HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(ENGINE_LOG.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
    });
    // The restart policy is hale's: an engine that restarts, too, would make two of one.
    let never = RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None };
    HostConfig {
        memory,
        // Swap on top of it would make the limit none.
        memory_swap: memory,
        nano_cpus: workload.resources.cpu.map(|cpu| (cpu * 1e9) as i64),
        ulimits: (!container.ulimits.is_empty()).then(|| ulimits.collect()),
        mounts: (!container.volumes.is_empty()).then(|| container.volumes.iter().map(mount).collect()),
        network_mode: container.network.clone(),
        readonly_rootfs: Some(container.read_only),
        restart_policy: Some(never),
        log_config,
        security_opt: around.strict.then(|| vec!["no-new-privileges".to_owned()]),
        ..HostConfig::default()
    }
}

/// `u64::MAX` stands for no limit, and is -1 to an engine.
fn limit(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(-1)
}

fn mount(volume: &Volume) -> Mount {
    let bind = volume.source.starts_with('/');
    Mount {
        target: Some(volume.target.clone()),
        source: Some(volume.source.clone()),
        typ: Some(if bind { MountType::BIND } else { MountType::VOLUME }),
        read_only: Some(volume.read_only),
        ..Mount::default()
    }
}

type Bindings = HashMap<String, Option<Vec<PortBinding>>>;

/// The ports it exposes, and where they are published.
fn ports(launch: &Launch, publish: IpAddr) -> (Vec<String>, Bindings) {
    let (mut exposed, mut bindings) = (Vec::new(), Bindings::new());
    for port in &launch.workload.ports {
        let Some(number) = launch.ports.get(&port.name) else { continue };
        let inside = format!("{}/tcp", inside(&launch.workload, &port.name, *number));
        exposed.push(inside.clone());
        if port.host_port.is_some() {
            let binding =
                PortBinding { host_ip: Some(publish.to_string()), host_port: Some(number.to_string()) };
            bindings.insert(inside, Some(vec![binding]));
        }
    }
    (exposed, bindings)
}

/// Where its ports are reached: published ones where they are published, else by its own address. `host`: the
/// container shares this machine's network.
pub(crate) fn reached_at(
    workload: &Workload,
    container: &Container,
    own: Option<IpAddr>,
    publish: IpAddr,
) -> IpAddr {
    let published = workload.ports.iter().any(|port| port.host_port.is_some());
    let host = container.network.as_deref() == Some("host");
    match own {
        Some(own) if !published && !host => own,
        // A port of all addresses of this machine is reached on this machine.
        _ if publish.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        _ => publish,
    }
}
