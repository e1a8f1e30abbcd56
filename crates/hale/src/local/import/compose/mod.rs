//! docker-compose files.

mod health;
mod places;
mod run;
mod service;
mod variables;

use std::{path::Path, rc::Rc};

use hale_model::file::{Key, Kind, Node};

use self::variables::Variables;
use super::{
    draft::{Draft, label},
    source::Source,
    values::{entries, items, text, text_at, true_at},
};
use crate::failure::Failure;

/// One compose file, with what its values are read by.
struct Compose<'a> {
    source: &'a Source,
    variables: Variables,
    /// What compose puts before the names of networks and volumes.
    project: String,
    root: &'a Node,
}

/// The services of a compose file.
///
/// # Errors
/// It is not YAML, or has no services; `.env` can't be read.
pub(super) fn import(source: &Source, env_file: Option<&Path>) -> Result<Vec<Draft>, Failure> {
    let beside = source.dir().join(".env");
    let variables = Variables::read(env_file.unwrap_or(&beside), env_file.is_some());
    let variables = variables.map_err(Failure::InvalidFile)?;
    let documents = source.documents()?;
    let Some(root) = documents.first() else { return Err(source.wrong(0, "nothing is in it")) };
    let Some(services) = root.get("services").filter(|it| !entries(it).is_empty()) else {
        return Err(source.wrong(root.start(), "services: missing, this is no compose file"));
    };
    let project = project(source, &variables, root);
    let compose = Compose { source, variables, project, root };
    compose.top_level();
    let drafts = entries(services).iter().filter_map(|(key, node)| {
        if entries(node).is_empty() {
            source.note_key(key, format!("services.{}: nothing is in it", key.text));
            return None;
        }
        service::Service { compose: &compose, key, node }.draft()
    });
    let drafts: Vec<Draft> = drafts.collect();
    compose.names(services, &drafts);
    Ok(drafts)
}

/// As compose finds it: the file's own, the environment's, else the directory's name.
fn project(source: &Source, variables: &Variables, root: &Node) -> String {
    let own = text_at(root, &["name"]).map(|it| variables.expand(it));
    let dir = || {
        let dir = std::path::absolute(source.dir()).ok()?;
        Some(dir.file_name()?.to_string_lossy().into_owned())
    };
    let name = own.or_else(|| variables.get("COMPOSE_PROJECT_NAME")).or_else(dir).unwrap_or_default();
    let fine = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(*c);
    name.to_lowercase().chars().filter(fine).collect()
}

impl Compose<'_> {
    /// The text of a scalar, with its variables resolved.
    fn text(&self, node: &Node) -> Option<String> {
        let value = self.variables.expand(text(node)?);
        for name in self.variables.take_missing() {
            self.source.note(
                node.start(),
                format!("${{{name}}} is set neither in the environment nor in .env: taken as empty"),
            );
        }
        Some(value)
    }

    fn text_of(&self, node: &Node, key: &str) -> Option<String> {
        self.text(node.get(key)?)
    }

    /// A list of texts; one text is a list of one.
    fn texts(&self, node: &Node) -> Vec<String> {
        match &node.kind {
            Kind::Seq(_) => items(node).iter().filter_map(|it| self.text(it)).collect(),
            _ => self.text(node).into_iter().collect(),
        }
    }

    fn top_level(&self) {
        for (key, node) in entries(self.root) {
            match key.text.as_str() {
                "services" | "name" | "version" => {}
                it if it.starts_with("x-") => {}
                "networks" => self.networks(node),
                "volumes" => {
                    for (key, volume) in entries(node) {
                        if volume.get("driver").is_some() || volume.get("driver_opts").is_some() {
                            let what = "its driver and options are not carried over, make it with docker volume create";
                            self.source.note_key(key, format!("volumes.{}: {what}", key.text));
                        }
                    }
                }
                other => self.source.note_key(key, format!("{other}: not carried over")),
            }
        }
    }

    fn networks(&self, node: &Node) {
        for (key, network) in entries(node) {
            if !true_at(network, &["external"]) && key.text != "default" {
                let name = self.scoped("networks", &key.text);
                let what = format!("hale makes no networks: docker network create {name}");
                self.source.note_key(key, format!("networks.{}: {what}", key.text));
            }
        }
    }

    /// The engine's name of a network or a volume of this file.
    fn scoped(&self, of: &str, name: &str) -> String {
        let declared = self.root.get(of).and_then(|it| it.get(name));
        let given = declared.and_then(|it| self.text_of(it, "name"));
        let external = declared.is_some_and(|it| it.get("external").is_some_and(|it| !it.is_null()));
        let old_style = declared.and_then(|it| text_at(it, &["external", "name"])).map(str::to_owned);
        given
            .or(old_style)
            .unwrap_or_else(|| if external { name.to_owned() } else { format!("{}_{name}", self.project) })
    }

    /// Says once what holds for several services: names that are changed, and names by which they find each other.
    fn names(&self, services: &Node, drafts: &[Draft]) {
        for (key, _) in entries(services) {
            if label(&key.text) != key.text {
                let what = format!("is named {} in hale", label(&key.text));
                self.source.note_key(key, format!("services.{}: {what}", key.text));
            }
        }
        let named = |(_, service): &&(Key, Rc<Node>)| {
            service.get("network_mode").is_none() && service.get("networks").is_none()
        };
        if drafts.len() > 1 && entries(services).iter().filter(named).count() > 1 {
            self.source.note(
                services.start(),
                "services: compose lets them find each other by name in a network of its own, the engine's default \
                 network does not: docker network create one, and give it as container.network",
            );
        }
    }
}
