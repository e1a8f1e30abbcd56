//! Environment: values as they are, and those of ConfigMaps and Secrets that stand in the same manifests.

use hale_model::file::Node;

use super::{Object, pod::Controller};
use crate::local::import::{
    draft::Draft,
    out::{Fields, Out},
    values::{items, pairs, text_at, true_at},
};

/// Where a value comes from, and whether it is to be kept from view.
enum Found {
    Plain(String),
    Secret(String),
}

impl Controller<'_> {
    pub(super) fn env(&self, node: &Node, draft: &mut Draft) {
        for entry in items(node) {
            let Some(name) = text_at(entry, &["name"]) else { continue };
            let Some(from) = entry.get("valueFrom").filter(|it| !it.is_null()) else {
                set(draft, name, Found::Plain(text_at(entry, &["value"]).unwrap_or_default().to_owned()));
                continue;
            };
            let key = |kind: &str| Some((text_at(from, &[kind, "name"])?, text_at(from, &[kind, "key"])?));
            let found = if let Some((map, key)) = key("configMapKeyRef") {
                self.manifest.find("ConfigMap", map).and_then(|it| config(it, key)).map(Found::Plain)
            } else if let Some((secret, key)) = key("secretKeyRef") {
                self.manifest.find("Secret", secret).and_then(|it| secret_value(it, key)).map(Found::Secret)
            } else {
                None
            };
            match found {
                Some(found) => set(draft, name, found),
                None => {
                    let what = format!("{name}: {}, not carried over", describe(from));
                    self.object.note_at(entry, "container.env", &what);
                }
            }
        }
    }

    pub(super) fn env_from(&self, node: &Node, draft: &mut Draft) {
        for entry in items(node) {
            let prefix = text_at(entry, &["prefix"]).unwrap_or_default();
            let sources = [("configMapRef", "ConfigMap"), ("secretRef", "Secret")];
            let named =
                sources.iter().find_map(|(field, kind)| Some((*kind, text_at(entry, &[field, "name"])?)));
            let Some((kind, object_name)) = named else { continue };
            let Some(object) = self.manifest.find(kind, object_name) else {
                let optional = if true_at(entry, &["configMapRef", "optional"]) { " (optional)" } else { "" };
                let what = format!("{kind} {object_name}{optional} is not in these files: not carried over");
                self.object.note_at(entry, "container.envFrom", &what);
                continue;
            };
            for key in keys(object) {
                let found = match kind {
                    "Secret" => secret_value(object, &key).map(Found::Secret),
                    _ => config(object, &key).map(Found::Plain),
                };
                let name = format!("{prefix}{key}");
                match found {
                    Some(found) => set(draft, &name, found),
                    None => {
                        let what =
                            format!("{name}: {key} of {kind} {object_name} is no text, not carried over");
                        self.object.note_at(entry, "container.envFrom", &what);
                    }
                }
            }
        }
    }
}

fn set(draft: &mut Draft, name: &str, found: Found) {
    let (field, other, value) = match found {
        Found::Plain(value) => ("env", "secretEnv", value),
        Found::Secret(value) => ("secretEnv", "env", value),
    };
    let of = |draft: &Draft, field: &str| match draft.container.get(field) {
        Some(Out::Map(fields)) => fields.clone(),
        _ => Fields::default(),
    };
    // The later of two of one name wins; it stands in one place only.
    let others = of(draft, other);
    if others.get(name).is_some() {
        let rest = others.names().filter(|it| *it != name).fold(Fields::default(), |rest, it| {
            rest.with(it, others.get(it).cloned().unwrap_or_else(|| "".into()))
        });
        draft.container.set(other, rest);
    }
    let fields = of(draft, field).with(name, value);
    draft.container.set(field, fields);
}

fn keys(object: &Object<'_>) -> Vec<String> {
    let of = |field: &str| object.node.get(field).map(pairs).unwrap_or_default();
    let all = of("data").into_iter().chain(of("stringData"));
    all.map(|(_, name, _)| name).collect()
}

fn config(object: &Object<'_>, key: &str) -> Option<String> {
    text_at(&object.node, &["data", key]).map(str::to_owned)
}

fn secret_value(object: &Object<'_>, key: &str) -> Option<String> {
    if let Some(plain) = text_at(&object.node, &["stringData", key]) {
        return Some(plain.to_owned());
    }
    base64(text_at(&object.node, &["data", key])?)
}

fn describe(from: &Node) -> String {
    let of = |kind: &str| Some((text_at(from, &[kind, "name"])?, text_at(from, &[kind, "key"])?));
    if let Some((name, key)) = of("configMapKeyRef") {
        format!("{key} of ConfigMap {name} is not in these files")
    } else if let Some((name, key)) = of("secretKeyRef") {
        format!("{key} of Secret {name} is not in these files")
    } else if let Some(path) = text_at(from, &["fieldRef", "fieldPath"]) {
        format!("{path} is a field of a pod")
    } else if let Some(resource) = text_at(from, &["resourceFieldRef", "resource"]) {
        format!("{resource} is a resource of a pod")
    } else {
        "comes from something unknown".to_owned()
    }
}

/// RFC 4648, as Secrets have it; `None`: it is not, or is no text.
fn base64(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut held) = (0_u32, 0);
    for c in text.bytes().filter(|it| !it.is_ascii_whitespace() && *it != b'=') {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_decoded() {
        for (given, expected) in
            [("czNjcmV0", Some("s3cret")), ("aGk=", Some("hi")), ("YQ==", Some("a")), ("%", None)]
        {
            assert_eq!(base64(given).as_deref(), expected, "{given}");
        }
    }
}
