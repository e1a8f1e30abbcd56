//! One service: which key becomes what.

use hale_model::file::{Key, Node};

use super::Compose;
use crate::local::import::{
    draft::{Draft, label, seconds, size},
    out::Out,
    values::{bytes, entries, text, time, true_at},
};

/// A service of a compose file.
pub(super) struct Service<'a> {
    pub(super) compose: &'a Compose<'a>,
    pub(super) key: &'a Key,
    pub(super) node: &'a Node,
}

impl Service<'_> {
    /// The workload, unless it is one that compose would not start by itself.
    pub(super) fn draft(&self) -> Option<Draft> {
        if let Some(profiles) = self.node.get("profiles").filter(|it| !it.is_null()) {
            let names = self.compose.texts(profiles).join(", ");
            let what = format!("not imported: compose starts it with the profile {names} only");
            self.compose.source.note_key(self.key, format!("services.{}: {what}", self.key.text));
            return None;
        }
        let mut draft = Draft::named(&self.key.text);
        self.image(&mut draft);
        for (key, node) in entries(self.node) {
            if !node.is_null() {
                self.field(key, node, &mut draft);
            }
        }
        if draft.container.get("network") == Some(&"host".into()) {
            draft.ports.iter_mut().for_each(|it| it.host_port = None);
        }
        if self.node.get("restart").is_none()
            && self.node.get("deploy").and_then(|it| it.get("restart_policy")).is_none()
        {
            self.note(
                self.key,
                "restart",
                "not given, compose would not restart it; hale does (restart: {policy: never} for a job)",
            );
        }
        Some(draft)
    }

    pub(super) fn note(&self, key: &Key, field: &str, what: &str) {
        self.compose.source.note_key(key, format!("services.{}.{field}: {what}", self.key.text));
    }

    /// Note on a value rather than on its key.
    pub(super) fn note_at(&self, node: &Node, field: &str, what: &str) {
        self.compose.source.note(node.start(), format!("services.{}.{field}: {what}", self.key.text));
    }

    fn image(&self, draft: &mut Draft) {
        let built = self.node.get("build").filter(|it| !it.is_null());
        let given = self.compose.text_of(self.node, "image");
        let image = given.unwrap_or_else(|| format!("{}-{}", self.compose.project, self.key.text));
        if let Some(build) = built {
            let dir = self.compose.text(build).or_else(|| self.compose.text_of(build, "context"));
            let dir = dir.unwrap_or_else(|| ".".to_owned());
            self.note_at(build, "build", &format!("hale builds no images: docker build -t {image} {dir}"));
        }
        draft.container.set("image", image);
    }

    fn field(&self, key: &Key, node: &Node, draft: &mut Draft) {
        let plain = || self.compose.text(node);
        match key.text.as_str() {
            "image" | "build" | "profiles" => {}
            "pull_policy" => self.pull(key, node, draft),
            "command" | "entrypoint" => self.command(key, node, draft),
            "environment" => self.environment(key, node, draft),
            "env_file" => self.env_files(node, draft),
            "working_dir" => draft.container.set_some("workingDir", plain()),
            "user" => draft.container.set_some("user", plain()),
            "read_only" => draft.container.set_some("readOnly", plain().map(Out::Word)),
            "volumes" => self.volumes(node, draft),
            "tmpfs" => self.note(key, "tmpfs", "not carried over"),
            "ports" => self.ports(node, draft),
            "expose" => self.expose(node, draft),
            "networks" => self.networks(key, node, draft),
            "network_mode" => self.network_mode(key, node, draft),
            "labels" => self.labels(node, draft),
            "ulimits" => self.ulimits(key, node, draft),
            "healthcheck" => self.healthcheck(key, node, draft),
            "depends_on" | "links" => self.depends_on(key, node, draft),
            "restart" => self.restart(key, node, draft),
            "stop_signal" => draft.rest.set_some("stopSignal", plain()),
            "stop_grace_period" => {
                let time = plain().and_then(|it| time(&it));
                draft.rest.set_some("terminationGracePeriodSeconds", time.map(seconds));
            }
            "scale" => draft.replicas = plain().and_then(|it| it.parse().ok()),
            "mem_limit" => self.memory(key, node, draft),
            "cpus" => draft.resources.set_some("cpu", plain().map(Out::Word)),
            "deploy" => self.deploy(node, draft),
            "container_name" => {
                self.note(key, "container_name", "hale names containers itself, after their replica");
            }
            "init" if !true_at(self.node, &["init"]) => {}
            "tty" | "stdin_open" if !true_at(self.node, &[&key.text]) => {}
            "privileged" if !true_at(self.node, &["privileged"]) => {}
            other if other.starts_with("x-") => {}
            other => self.note(key, other, "not carried over"),
        }
    }

    fn pull(&self, key: &Key, node: &Node, draft: &mut Draft) {
        match self.compose.text(node).as_deref() {
            Some("always") => draft.container.set("pull", "always"),
            Some("never") => draft.container.set("pull", "never"),
            Some("missing" | "if_not_present") => {}
            _ => self.note(key, "pull_policy", "not carried over: hale has missing, always and never"),
        }
    }

    fn labels(&self, node: &Node, draft: &mut Draft) {
        let mut labels = crate::local::import::out::Fields::default();
        for (_, name, value) in crate::local::import::values::pairs(node) {
            labels.set(name, self.compose.variables.expand(&value.unwrap_or_default()));
        }
        draft.container.set_some("labels", Some(labels));
    }

    fn memory(&self, key: &Key, node: &Node, draft: &mut Draft) {
        match self.compose.text(node).and_then(|it| bytes(&it, false)) {
            Some(bytes) => draft.resources.set("memory", size(bytes)),
            None => self.note(key, &key.text, "no size that is understood, not carried over"),
        }
    }

    fn depends_on(&self, key: &Key, node: &Node, draft: &mut Draft) {
        let named: Vec<(String, Option<&Node>)> = match entries(node) {
            [] => self.compose.texts(node).into_iter().map(|it| (it, None)).collect(),
            entries => entries.iter().map(|(key, node)| (key.text.clone(), Some(&**node))).collect(),
        };
        for (name, how) in named {
            // A link may give another name to what it links: `db:database`.
            let name = name.split(':').next().unwrap_or_default().to_owned();
            let condition = how.and_then(|it| it.get("condition")).and_then(text);
            let field = format!("{}.{name}", key.text);
            let there = self.compose.root.get("services").and_then(|it| it.get(&name));
            if there.is_none_or(|it| it.get("profiles").is_some_and(|it| !it.is_null())) {
                self.note(key, &field, "not carried over: it is not among what is imported");
                continue;
            }
            if condition == Some("service_completed_successfully") {
                let what = "hale waits for what is healthy, not for what has ended: not carried over";
                self.note(key, &field, what);
                continue;
            }
            let name = label(&name);
            if !draft.depends_on.contains(&name) {
                draft.depends_on.push(name);
            }
        }
    }
}
