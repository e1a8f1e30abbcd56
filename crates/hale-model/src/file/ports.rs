//! The ports of a replica: of this machine for a process, inside and published for a container.

use std::collections::BTreeSet;

use super::{
    convert::{invalid, label, missing},
    de::{At, Cx, Field},
    error::{Code, Problem},
    raw::RawPort,
};
use crate::spec::{ContainerFrom, Port, Run};

pub(super) fn ports(field: Field<Vec<Field<RawPort>>>, run: &Run, cx: &Cx<'_>) -> Vec<Port> {
    let mut seen = BTreeSet::new();
    let mut ports: Vec<Port> = Vec::new();
    for at in field.value().unwrap_or_default().into_iter().filter_map(Field::set) {
        let Some(name) = at.value.name.as_set() else {
            if !at.value.name.is_written() {
                cx.note(
                    missing(at.span, "ports: a port has no name").help("for example {name: http, port: 0}"),
                );
            }
            continue;
        };
        let port = at.value.port.as_set().map_or(0, |at| at.value);
        let label = label(name, "ports: a port's name", cx);
        if !seen.insert(label.clone()) {
            cx.note(Problem::new(name.span, Code::Duplicate, format!("ports: two ports are named {label}")));
        }
        if port != 0 && ports.iter().any(|it| it.port == port) {
            cx.note(Problem::new(at.span, Code::Duplicate, format!("ports: {port} is given to two ports")));
        }
        let host_port = host_port(&at, &label, &ports, run, cx);
        if port == 0 && run.as_container().is_some() && !matches!(at.value.port, Field::Bad) {
            cx.note(
                invalid(at.span, format!("ports: {label} of a container needs the port that it has inside"))
                    .help("hostPort: 0 beside it publishes it on a free port of this machine"),
            );
        }
        ports.push(Port { name: label, port, host_port });
    }
    ports
}

fn host_port(at: &At<RawPort>, name: &str, before: &[Port], run: &Run, cx: &Cx<'_>) -> Option<u16> {
    let host = at.value.host_port.as_set()?;
    let conflict = |why: String, help: &str| {
        cx.note(
            Problem::new(host.span, Code::Conflict, format!("ports: hostPort of {name}: {why}")).help(help),
        );
    };
    match run.as_container() {
        None => conflict(
            "a process has ports of this machine already".to_owned(),
            "leave hostPort out; it publishes a port of a container",
        ),
        Some(container) if matches!(container.from, ContainerFrom::Adopted { .. }) => conflict(
            "whoever made the container published its ports".to_owned(),
            "leave hostPort out: the port that it is published on is found",
        ),
        Some(container) if container.network.as_deref() == Some("host") => conflict(
            "a container in the network of this machine has ports of this machine already".to_owned(),
            "leave hostPort out, or network: host",
        ),
        Some(_) if host.value != 0 && before.iter().any(|it| it.host_port == Some(host.value)) => {
            let message = format!("ports: hostPort {} is given to two ports", host.value);
            cx.note(Problem::new(host.span, Code::Duplicate, message));
        }
        Some(_) => {}
    }
    Some(host.value)
}
