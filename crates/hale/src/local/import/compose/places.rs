//! What a service touches of the machine: ports, volumes, networks.

use hale_model::file::{Key, Node};

use super::service::Service;
use crate::local::import::{
    draft::Draft,
    out::{Fields, Out},
    values::{entries, items, true_at},
};

/// A range of ports, one for one.
fn range(text: &str) -> Option<Vec<u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.parse::<u16>().ok()?, to.parse::<u16>().ok()?);
    (from > 0 && from <= to && to - from < 100).then(|| (from..=to).collect())
}

impl Service<'_> {
    pub(super) fn ports(&self, node: &Node, draft: &mut Draft) {
        for item in items(node) {
            match self.compose.text(item) {
                Some(text) => self.short_port(item, &text, draft),
                None => self.long_port(item, draft),
            }
        }
    }

    /// `8080:80`, `127.0.0.1:8080:80/tcp`, `80`, `3000-3005:3000-3005`.
    fn short_port(&self, item: &Node, whole: &str, draft: &mut Draft) {
        let (text, protocol) = whole.split_once('/').unwrap_or((whole, "tcp"));
        if protocol != "tcp" {
            return self.note_at(item, "ports", &format!("{whole}: only tcp is published, not carried over"));
        }
        let (before, inside) = text.rsplit_once(':').map_or(("", text), |it| it);
        let (address, published) = before.rsplit_once(':').map_or(("", before), |it| it);
        self.address(item, whole, address);
        let (inside, outside) = (range(inside), (!published.is_empty()).then(|| range(published)));
        match (inside, outside) {
            (Some(inside), None) => inside.into_iter().for_each(|it| draft.add_port(None, it, Some(0))),
            (Some(inside), Some(Some(outside))) if inside.len() == outside.len() => {
                for (inside, outside) in inside.into_iter().zip(outside) {
                    draft.add_port(None, inside, Some(outside));
                }
            }
            _ => self.note_at(item, "ports", &format!("{whole}: not understood, not carried over")),
        }
    }

    fn long_port(&self, item: &Node, draft: &mut Draft) {
        let of = |key: &str| self.compose.text_of(item, key);
        let Some(inside) = of("target").and_then(|it| it.parse::<u16>().ok()) else {
            return self.note_at(item, "ports", "not understood, not carried over");
        };
        if of("protocol").is_some_and(|it| it != "tcp") {
            return self.note_at(
                item,
                "ports",
                &format!("{inside}: only tcp is published, not carried over"),
            );
        }
        self.address(item, &inside.to_string(), &of("host_ip").unwrap_or_default());
        let published = of("published").map_or(Some(0), |it| it.parse::<u16>().ok());
        if published.is_none() {
            let what = format!("{inside}: published on one of a range, hale picks a free one");
            self.note_at(item, "ports", &what);
        }
        draft.add_port(of("name").as_deref(), inside, Some(published.unwrap_or(0)));
    }

    fn address(&self, item: &Node, port: &str, address: &str) {
        if !matches!(address.trim_matches(['[', ']']), "" | "0.0.0.0" | "::") {
            let what = format!("{port}: published on the address of the node, not on {address} alone");
            self.note_at(item, "ports", &what);
        }
    }

    pub(super) fn expose(&self, node: &Node, draft: &mut Draft) {
        for item in items(node) {
            let text = self.compose.text(item).unwrap_or_default();
            match range(text.strip_suffix("/tcp").unwrap_or(&text)) {
                Some(ports) => ports.into_iter().for_each(|it| draft.add_port(None, it, None)),
                None => self.note_at(item, "expose", &format!("{text}: not carried over")),
            }
        }
    }

    pub(super) fn volumes(&self, node: &Node, draft: &mut Draft) {
        let volumes: Vec<Out> = items(node)
            .iter()
            .filter_map(|item| match self.compose.text(item) {
                Some(text) => self.short_volume(item, &text),
                None => self.long_volume(item),
            })
            .collect();
        draft.container.set_some("volumes", Some(volumes));
    }

    fn short_volume(&self, item: &Node, text: &str) -> Option<Out> {
        let mut parts = text.splitn(3, ':');
        let (source, target, options) = (parts.next()?, parts.next(), parts.next().unwrap_or(""));
        let Some(target) = target else {
            let what = format!("{text}: a volume without a name is not carried over");
            self.note_at(item, "volumes", &what);
            return None;
        };
        let mut read_only = false;
        for option in options.split(',').filter(|it| !it.is_empty()) {
            match option {
                "ro" => read_only = true,
                "rw" => {}
                other => {
                    self.note_at(item, "volumes", &format!("{text}: the option {other} is not carried over"))
                }
            }
        }
        Some(volume(&self.source_of(source), target, read_only))
    }

    fn long_volume(&self, item: &Node) -> Option<Out> {
        let of = |key: &str| self.compose.text_of(item, key);
        let kind = of("type").unwrap_or_else(|| "volume".to_owned());
        let (Some(source), Some(target)) = (of("source"), of("target")) else {
            let what = format!("a {kind} without a source is not carried over");
            self.note_at(item, "volumes", &what);
            return None;
        };
        if kind != "bind" && kind != "volume" {
            self.note_at(item, "volumes", &format!("{target}: a {kind} is not carried over"));
            return None;
        }
        for (of, option) in [("bind", "propagation"), ("volume", "subpath"), ("volume", "nocopy")] {
            if item.get(of).and_then(|it| it.get(option)).is_some_and(|it| !it.is_null()) {
                self.note_at(item, "volumes", &format!("{target}: {of}.{option} is not carried over"));
            }
        }
        // There a name is a path, too.
        let bare = kind == "bind" && !source.starts_with(['/', '.', '~']);
        let source = if bare { format!("./{source}") } else { source };
        Some(volume(&self.source_of(&source), &target, true_at(item, &["read_only"])))
    }

    /// A path as it is, `~` resolved; a volume by the name that compose gave it, so that its data is found.
    fn source_of(&self, source: &str) -> String {
        if let Some(rest) = source.strip_prefix('~') {
            let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
            return format!("{home}{rest}");
        }
        match source.starts_with(['/', '.']) {
            true => source.to_owned(),
            false => self.compose.scoped("volumes", source),
        }
    }

    pub(super) fn networks(&self, key: &Key, node: &Node, draft: &mut Draft) {
        let names: Vec<String> = match entries(node) {
            [] => self.compose.texts(node),
            entries => entries.iter().map(|(key, _)| key.text.clone()).collect(),
        };
        if entries(node).iter().any(|(_, it)| !entries(it).is_empty()) {
            self.note(key, "networks", "aliases and addresses are not carried over");
        }
        let Some((first, more)) = names.split_first() else { return };
        if !more.is_empty() {
            let what = format!("a container is in one network: {} and not {}", first, more.join(", "));
            self.note(key, "networks", &what);
        }
        if first != "default" {
            draft.container.set("network", self.compose.scoped("networks", first));
        }
    }

    pub(super) fn network_mode(&self, key: &Key, node: &Node, draft: &mut Draft) {
        let mode = self.compose.text(node).unwrap_or_default();
        match mode.as_str() {
            "host" | "none" => draft.container.set("network", mode),
            "bridge" | "default" => {}
            _ => self.note(key, "network_mode", &format!("{mode}: not carried over")),
        }
    }
}

fn volume(source: &str, target: &str, read_only: bool) -> Out {
    // A colon would end the source in the short form.
    if source.contains(':') || target.contains(':') {
        let mut fields = Fields::default().with("source", source).with("target", target);
        fields.set_some("readOnly", read_only.then(|| Out::word("true")));
        return fields.into();
    }
    format!("{source}:{target}{}", if read_only { ":ro" } else { "" }).into()
}
