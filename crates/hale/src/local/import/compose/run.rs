//! What runs and how it is kept: commands, environment, restarts, limits.

use hale_model::{
    file::{Key, Kind, Node},
    spec::ULIMITS,
};

use super::service::Service;
use crate::local::import::{
    draft::{Draft, size, span},
    out::{Fields, Out},
    values::{at, bytes, entries, items, number_at, pairs, text_at, time},
    words::{self, literal},
};

impl Service<'_> {
    /// A string is taken apart as a shell would; compose runs no shell for it.
    pub(super) fn command(&self, key: &Key, node: &Node, draft: &mut Draft) {
        let words = match &node.kind {
            Kind::Seq(_) => self.compose.texts(node),
            _ => words::split_bare(&self.compose.text(node).unwrap_or_default()),
        };
        if words.is_empty() {
            self.note(key, &key.text, "an empty one can't be given: the image's own is used");
            return;
        }
        let field = if key.text == "entrypoint" { "command" } else { "args" };
        draft.container.set(field, Out::texts(words.iter().map(|it| literal(it))));
    }

    pub(super) fn environment(&self, key: &Key, node: &Node, draft: &mut Draft) {
        let mut env = Fields::default();
        for (at, name, value) in pairs(node) {
            let value = match value {
                Some(value) => self.expanded(at, &value),
                None if at_is_empty_text(at) => String::new(),
                None => match self.compose.variables.get(&name) {
                    Some(value) => value,
                    None => {
                        let field = format!("environment.{name}");
                        self.note_at(
                            at,
                            &field,
                            "is taken from the environment, where it is not set: left out",
                        );
                        continue;
                    }
                },
            };
            env.set(name, value);
        }
        if env.is_empty() && !items(node).is_empty() {
            self.note(key, "environment", "nothing of it could be carried over");
        }
        draft.container.set_some("env", Some(env));
    }

    fn expanded(&self, at: &Node, value: &str) -> String {
        let expanded = self.compose.variables.expand(value);
        for name in self.compose.variables.take_missing() {
            let what = format!("${{{name}}} is set neither in the environment nor in .env: taken as empty");
            self.note_at(at, "environment", &what);
        }
        expanded
    }

    pub(super) fn env_files(&self, node: &Node, draft: &mut Draft) {
        let mut files = Vec::new();
        let nodes: Vec<&Node> = match items(node) {
            [] => vec![node],
            items => items.iter().map(|it| &**it).collect(),
        };
        for node in nodes {
            let Some(path) = self.compose.text(node).or_else(|| self.compose.text_of(node, "path")) else {
                continue;
            };
            let optional = text_at(node, &["required"]) == Some("false");
            if optional && !self.compose.source.dir().join(&path).exists() {
                self.note_at(node, "env_file", &format!("{path} need not be there and is not: left out"));
                continue;
            }
            files.push(Out::Map(Fields::default().with("file", path)));
        }
        draft.container.set_some("envFrom", Some(files));
    }

    pub(super) fn restart(&self, key: &Key, node: &Node, draft: &mut Draft) {
        let given = self.compose.text(node).unwrap_or_default();
        let (word, count) = given.split_once(':').unwrap_or((&given, ""));
        match word {
            "no" | "false" => draft.restart.set("policy", "never"),
            "on-failure" => {
                draft.restart.set("policy", "on-failure");
                draft.restart.set_some("maxRestarts", count.parse::<u64>().ok().map(Out::word));
            }
            "always" | "unless-stopped" => {}
            _ => self.note(key, "restart", "not understood, not carried over"),
        }
    }

    pub(super) fn deploy(&self, node: &Node, draft: &mut Draft) {
        for (key, value) in entries(node).iter().filter(|(_, it)| !it.is_null()) {
            let field = format!("deploy.{}", key.text);
            match key.text.as_str() {
                "replicas" => draft.replicas = self.compose.text(value).and_then(|it| it.parse().ok()),
                "resources" => self.resources(key, value, draft),
                "restart_policy" => self.restart_policy(value, draft),
                "placement" => self.placement(key, value, draft),
                "mode" if self.compose.text(value).as_deref() == Some("replicated") => {}
                "update_config" if at(value, &["order"]).is_some() => {
                    self.note(
                        key,
                        &field,
                        "not carried over: hale starts the new one first, rollout.maxSurge at once",
                    );
                }
                _ => self.note(key, &field, "not carried over"),
            }
        }
    }

    fn resources(&self, key: &Key, node: &Node, draft: &mut Draft) {
        let limit = |name: &str| node.get("limits").and_then(|it| self.compose.text_of(it, name));
        draft.resources.set_some("memory", limit("memory").and_then(|it| bytes(&it, false)).map(size));
        draft.resources.set_some("cpu", limit("cpus").map(Out::Word));
        if limit("pids").is_some() {
            self.note(key, "deploy.resources.limits.pids", "not carried over");
        }
        if at(node, &["reservations"]).is_some() {
            let what = "not carried over: hale places by limits";
            self.note(key, "deploy.resources.reservations", what);
        }
    }

    fn restart_policy(&self, node: &Node, draft: &mut Draft) {
        match self.compose.text_of(node, "condition").as_deref() {
            Some("none") => draft.restart.set("policy", "never"),
            Some("on-failure") => draft.restart.set("policy", "on-failure"),
            _ => {}
        }
        draft.restart.set_some("maxRestarts", number_at(node, &["max_attempts"]).map(Out::word));
        let time =
            |key: &str| self.compose.text_of(node, key).and_then(|it| time(&it)).filter(|it| !it.is_zero());
        draft.restart.set_some("initialBackoff", time("delay").map(span));
        draft.restart.set_some("restartWindow", time("window").map(span));
    }

    fn placement(&self, key: &Key, node: &Node, draft: &mut Draft) {
        let mut labels = Fields::default();
        for constraint in node.get("constraints").map(|it| self.compose.texts(it)).unwrap_or_default() {
            let label = constraint.split_once("==").and_then(|(name, value)| {
                Some((name.trim().strip_prefix("node.labels.")?.to_owned(), value.trim().to_owned()))
            });
            match label {
                Some((name, value)) => labels.set(name, value),
                None => {
                    let what = format!("`{constraint}` is not carried over: hale selects nodes by labels");
                    self.note(key, "deploy.placement", &what);
                }
            }
        }
        if !labels.is_empty() {
            draft.rest.set("placement", Fields::default().with("nodeSelector", labels));
        }
    }

    pub(super) fn ulimits(&self, key: &Key, node: &Node, draft: &mut Draft) {
        let mut limits = Fields::default();
        for (name, value) in entries(node) {
            if name.text == "as" || !ULIMITS.contains(&&*name.text) {
                self.note(key, &format!("ulimits.{}", name.text), "not carried over");
                continue;
            }
            let word = |text: String| Out::Word(if text == "-1" { "unlimited".to_owned() } else { text });
            let both = ["soft", "hard"].map(|it| self.compose.text_of(value, it));
            match (both, self.compose.text(value)) {
                ([Some(soft), Some(hard)], _) => limits.set(&*name.text, vec![word(soft), word(hard)]),
                (_, Some(one)) => limits.set(&*name.text, word(one)),
                _ => self.note(key, &format!("ulimits.{}", name.text), "not understood, not carried over"),
            }
        }
        draft.container.set_some("ulimits", Some(limits));
    }
}

/// `NAME:` in a mapping of environment says the empty text when it is quoted, and asks the environment when not.
fn at_is_empty_text(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { text, plain: false } if text.is_empty())
}
