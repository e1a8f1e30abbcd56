//! What makes pods: how many, where, and how they are replaced.

use hale_model::file::Node;

use super::{Manifest, Object, template};
use crate::local::import::{
    draft::{Draft, span},
    out::{Fields, Out},
    values::{at, entries, items, number_at, pairs, text, text_at, time, true_at},
};

/// A Deployment or another kind that makes pods.
pub(super) struct Controller<'a> {
    pub(super) manifest: &'a Manifest<'a>,
    pub(super) object: &'a Object<'a>,
}

impl Controller<'_> {
    pub(super) fn draft(&self) -> Draft {
        let mut draft = Draft::named(&self.object.name);
        if let Some(namespace) = at(&self.object.node, &["metadata", "namespace"])
            && text(namespace) != Some("default")
        {
            self.object.note_at(namespace, "metadata.namespace", "not carried over: hale has one namespace");
        }
        if self.object.kind != "Pod" {
            self.controller(&mut draft);
        }
        if let Some(template) = template(self.object) {
            self.template(template, &mut draft);
        }
        self.service(&mut draft);
        draft
    }

    fn controller(&self, draft: &mut Draft) {
        let Some(spec) = self.object.node.get("spec") else { return };
        let mut rollout = Fields::default();
        for (key, node) in entries(spec) {
            let note = |what: &str| self.object.note_at(node, &format!("spec.{}", key.text), what);
            match key.text.as_str() {
                "selector" | "template" | "revisionHistoryLimit" | "serviceName" | "paused" => {}
                "replicas" => draft.replicas = text(node).and_then(|it| it.parse().ok()),
                "minReadySeconds" => {
                    rollout.set_some("minReadySeconds", text(node).filter(|it| *it != "0").map(Out::word));
                }
                "progressDeadlineSeconds" => {
                    rollout.set_some("progressDeadline", text(node).and_then(time).map(span));
                }
                "strategy" | "updateStrategy" => self.strategy(node, draft, &mut rollout),
                "volumeClaimTemplates" => {
                    for claim in items(node) {
                        let name = text_at(claim, &["metadata", "name"]).unwrap_or("a claim");
                        let what =
                            format!("{name}: give a path of the node, or a volume of its engine, in volumes");
                        self.object.note_at(claim, "spec.volumeClaimTemplates", &what);
                    }
                }
                "podManagementPolicy" if text(node) == Some("OrderedReady") => {}
                _ => note("not carried over"),
            }
        }
        if self.object.kind == "DaemonSet" {
            self.object.note("one on every node is not carried over: give replicas");
        }
        draft.rest.set_some("rollout", Some(rollout));
    }

    fn strategy(&self, node: &Node, draft: &Draft, rollout: &mut Fields) {
        match text_at(node, &["type"]) {
            None | Some("RollingUpdate") => {}
            Some(other) => {
                self.object.note_at(
                    node,
                    "spec.strategy.type",
                    &format!("{other}: hale rolls, new ones first"),
                );
            }
        }
        let Some(surge) = text_at(node, &["rollingUpdate", "maxSurge"]) else { return };
        let replicas = draft.replicas.unwrap_or(1);
        let surge = match surge.strip_suffix('%') {
            Some(share) => share.parse::<u64>().ok().map(|it| (it * replicas).div_ceil(100)),
            None => surge.parse().ok(),
        };
        rollout.set_some("maxSurge", surge.map(Out::word));
    }

    fn template(&self, template: &Node, draft: &mut Draft) {
        let mut labels = Fields::default();
        for (_, name, value) in at(template, &["metadata", "labels"]).map(pairs).unwrap_or_default() {
            labels.set(name, value.unwrap_or_default());
        }
        let Some(spec) = template.get("spec") else { return };
        for (key, node) in entries(spec).iter().filter(|(_, it)| !it.is_null()) {
            self.pod_field(&key.text, node, draft);
        }
        let containers = spec.get("containers").map(items).unwrap_or_default();
        if let Some(first) = containers.first() {
            self.container(first, spec, draft);
        }
        for more in containers.iter().skip(1) {
            let name = text_at(more, &["name"]).unwrap_or("unnamed");
            let what = format!("{name}: a replica is one container, this one is not carried over");
            self.object.note_at(more, "spec.containers", &what);
        }
        draft.container.set_some("labels", Some(labels));
        if true_at(spec, &["hostNetwork"]) {
            draft.container.set("network", "host");
            draft.ports.iter_mut().for_each(|it| it.host_port = None);
        }
    }

    fn pod_field(&self, field: &str, node: &Node, draft: &mut Draft) {
        let note = |what: &str| self.object.note_at(node, &format!("spec.{field}"), what);
        match field {
            // Volumes are told of where they are mounted, the user is read with the container.
            "containers" | "volumes" | "hostNetwork" | "dnsPolicy" | "schedulerName" | "securityContext"
            | "enableServiceLinks" | "serviceAccount" => {}
            "terminationGracePeriodSeconds" => {
                draft.rest.set_some("terminationGracePeriodSeconds", text(node).map(Out::word));
            }
            "nodeSelector" => {
                let labels = pairs(node).into_iter().fold(Fields::default(), |labels, (_, name, value)| {
                    labels.with(name, value.unwrap_or_default())
                });
                draft.rest.set("placement", Fields::default().with("nodeSelector", labels));
                note("carried over: the agents of those nodes need these labels (hale agent --label)");
            }
            "restartPolicy" => match text(node) {
                Some("Never") => draft.restart.set("policy", "never"),
                Some("OnFailure") => draft.restart.set("policy", "on-failure"),
                _ => {}
            },
            "initContainers" => {
                for init in items(node) {
                    let name = text_at(init, &["name"]).unwrap_or("unnamed");
                    let what = format!("{name}: nothing runs before a replica, not carried over");
                    self.object.note_at(init, "spec.initContainers", &what);
                }
            }
            "imagePullSecrets" => {
                note("credentials come from the Docker configuration of the node (docker login)")
            }
            _ => note("not carried over"),
        }
    }

    /// A Service becomes the service of the workload where it speaks HTTP.
    fn service(&self, draft: &mut Draft) {
        let mut given = false;
        for service in self.manifest.services(self.object) {
            let ports = at(&service.node, &["spec", "ports"]).map(items).unwrap_or_default();
            let carried = ports.iter().find(|it| !given && self.is_http(it, draft));
            for port in ports {
                let number = text_at(port, &["port"]).unwrap_or("?");
                if carried.is_some_and(|it| it.start() == port.start()) {
                    continue;
                }
                let what =
                    format!("{number}: a workload has one service, and it speaks HTTP: not carried over");
                service.note_at(port, "spec.ports", &what);
            }
            let Some(port) = carried.and_then(|it| self.target(it, draft)) else { continue };
            given = true;
            let named = &mut draft.ports[port];
            // It is reached from other nodes, too.
            if draft.container.get("network").is_none() {
                named.host_port = named.host_port.or(Some(0));
            }
            let fields =
                Fields::default().with("name", service.name.as_str()).with("port", named.name.as_str());
            draft.rest.set("service", fields);
            if let Some(kind) = text_at(&service.node, &["spec", "type"]).filter(|it| *it != "ClusterIP") {
                let what = format!("{kind}: give service.listen for the gateway to listen on");
                service.note_at(&service.node, "spec.type", &what);
            }
        }
    }

    fn is_http(&self, port: &Node, draft: &Draft) -> bool {
        let name = text_at(port, &["appProtocol"]).or(text_at(port, &["name"])).unwrap_or_default();
        let http = |it: &str| it.starts_with("http") || it == "web";
        let usual = [80, 3000, 5000, 8000, 8080].contains(&number_at(port, &["port"]).unwrap_or(0));
        let target = self.target(port, draft);
        let probed = target.is_some_and(|it| http(&draft.ports[it].name));
        http(name) || probed || (name.is_empty() && usual)
    }

    /// Which of the workload's ports a Service's port goes to.
    fn target(&self, port: &Node, draft: &Draft) -> Option<usize> {
        let to = text_at(port, &["targetPort"]).or(text_at(port, &["port"]))?;
        draft.ports.iter().position(|it| it.name == to || it.port.to_string() == to)
    }
}
