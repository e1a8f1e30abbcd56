//! The container of a pod.

use hale_model::file::Node;

use super::pod::Controller;
use crate::local::import::{
    draft::{Draft, size},
    out::Out,
    values::{bytes, entries, items, number_at, text, text_at, true_at},
};

impl Controller<'_> {
    pub(super) fn container(&self, node: &Node, pod: &Node, draft: &mut Draft) {
        let words = |node: &Node| Out::texts(items(node).iter().filter_map(|it| text(it)));
        // The fields that stand first are set first.
        for field in ["image", "command", "args"] {
            match (field, node.get(field).filter(|it| !it.is_null())) {
                ("image", Some(image)) => draft.container.set_some("image", text(image)),
                (_, Some(given)) => draft.container.set_some(field, Some(words(given))),
                ("image", None) => self.object.note_at(node, "image", "missing"),
                _ => {}
            }
        }
        self.ports(node, draft);
        // Of two of one name the later wins, and what env says itself before all: whichever stands first.
        for (field, value) in ["envFrom", "env"].iter().filter_map(|it| Some((*it, node.get(it)?))) {
            match field {
                "envFrom" => self.env_from(value, draft),
                _ => self.env(value, draft),
            }
        }
        for (key, value) in entries(node).iter().filter(|(_, it)| !it.is_null()) {
            let note = |what: &str| self.object.note_at(value, &format!("container.{}", key.text), what);
            match key.text.as_str() {
                "name"
                | "image"
                | "command"
                | "args"
                | "ports"
                | "env"
                | "envFrom"
                | "terminationMessagePath"
                | "terminationMessagePolicy"
                | "securityContext" => {}
                "imagePullPolicy" => match text(value) {
                    Some("Always") => draft.container.set("pull", "always"),
                    Some("Never") => draft.container.set("pull", "never"),
                    _ => {}
                },
                "workingDir" => draft.container.set_some("workingDir", text(value)),
                "resources" => self.resources(value, draft),
                "livenessProbe" | "readinessProbe" | "startupProbe" => self.probe(&key.text, value, draft),
                "volumeMounts" => self.mounts(value, pod, draft),
                "lifecycle" => {
                    note(
                        "hooks are not carried over; drainSeconds waits for requests before the stop signal",
                    );
                }
                "tty" | "stdin" | "stdinOnce" if text(value) == Some("false") => {}
                _ => note("not carried over"),
            }
        }
        self.security(node, pod, draft);
    }

    fn ports(&self, node: &Node, draft: &mut Draft) {
        for port in node.get("ports").map(items).unwrap_or_default() {
            let inside = number_at(port, &["containerPort"]).and_then(|it| u16::try_from(it).ok());
            let Some(inside) = inside.filter(|it| *it > 0) else { continue };
            if !matches!(text_at(port, &["protocol"]), None | Some("TCP")) {
                let what = format!("{inside}: only tcp is carried over");
                self.object.note_at(port, "container.ports", &what);
                continue;
            }
            let host = number_at(port, &["hostPort"]).and_then(|it| u16::try_from(it).ok());
            draft.add_port(text_at(port, &["name"]), inside, host);
        }
    }

    fn resources(&self, node: &Node, draft: &mut Draft) {
        let of = |kind: &str, name: &str| text_at(node, &[kind, name]);
        let memory = of("limits", "memory").and_then(|it| bytes(it, true));
        draft.resources.set_some("memory", memory.map(size));
        let cpu = of("limits", "cpu").and_then(|it| match it.strip_suffix('m') {
            Some(thousandths) => thousandths.parse::<f64>().ok().map(|it| it / 1000.0),
            None => it.parse().ok(),
        });
        draft.resources.set_some("cpu", cpu.map(Out::word));
        let differ = ["cpu", "memory"]
            .iter()
            .any(|it| of("requests", it).is_some() && of("requests", it) != of("limits", it));
        if differ {
            let what = "requests are not carried over: hale places by limits";
            self.object.note_at(node, "container.resources", what);
        }
    }

    fn mounts(&self, node: &Node, pod: &Node, draft: &mut Draft) {
        let mut volumes: Vec<Out> = Vec::new();
        for mount in items(node) {
            let (Some(name), Some(target)) = (text_at(mount, &["name"]), text_at(mount, &["mountPath"]))
            else {
                continue;
            };
            let volume = pod.get("volumes").map(items).unwrap_or_default();
            let volume = volume.iter().find(|it| text_at(it, &["name"]) == Some(name));
            if let Some(path) = text_at(mount, &["subPathExpr"]) {
                let what = format!("{target}: subPathExpr {path} is not resolved, not carried over");
                self.object.note_at(mount, "container.volumeMounts", &what);
                continue;
            }
            let below =
                text_at(mount, &["subPath"]).map(|it| it.trim_matches('/')).filter(|it| !it.is_empty());
            match volume.and_then(|it| text_at(it, &["hostPath", "path"])) {
                Some(source) => {
                    let source = below.map_or_else(
                        || source.to_owned(),
                        |below| format!("{}/{below}", source.trim_end_matches('/')),
                    );
                    let read_only = true_at(mount, &["readOnly"]);
                    volumes.push(format!("{source}:{target}{}", if read_only { ":ro" } else { "" }).into());
                }
                None => {
                    let kind = volume.and_then(|it| entries(it).iter().find(|(key, _)| key.text != "name"));
                    let kind = kind.map_or("a claim", |(key, _)| key.text.as_str());
                    let what = format!("{target}: {kind} is not carried over, only hostPath is");
                    self.object.note_at(mount, "container.volumeMounts", &what);
                }
            }
        }
        draft.container.set_some("volumes", Some(volumes));
    }

    /// User and group, of the container or else of the pod.
    fn security(&self, node: &Node, pod: &Node, draft: &mut Draft) {
        let contexts = [node.get("securityContext"), pod.get("securityContext")];
        let of = |name: &str| contexts.iter().flatten().find_map(|it| text_at(it, &[name]));
        if let Some(user) = of("runAsUser") {
            let user = of("runAsGroup").map_or_else(|| user.to_owned(), |group| format!("{user}:{group}"));
            draft.container.set("user", user);
        }
        draft
            .container
            .set_some("readOnly", of("readOnlyRootFilesystem").filter(|it| *it == "true").map(Out::word));
        let known = ["runAsUser", "runAsGroup", "readOnlyRootFilesystem", "runAsNonRoot"];
        for context in contexts.into_iter().flatten() {
            for (key, value) in entries(context).iter().filter(|(key, _)| !known.contains(&&*key.text)) {
                self.object.note_at(value, &format!("securityContext.{}", key.text), "not carried over");
            }
        }
    }
}
