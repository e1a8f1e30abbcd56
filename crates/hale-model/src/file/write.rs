//! A tree as JSON text, with its scalars as they were written.

use super::tree::{Kind, Node};

/// Whether a plain scalar can stand in JSON as it is: a number or a truth value.
pub(super) fn is_token(text: &str) -> bool {
    matches!(text, "true" | "false") || serde_json::from_str::<serde_json::Number>(text).is_ok()
}

/// The tree as JSON. What is null is left out of mappings: it says nothing.
pub(super) fn json(node: &Node) -> String {
    let mut out = String::new();
    add(node, &mut out);
    out
}

fn add(node: &Node, out: &mut String) {
    match &node.kind {
        _ if node.is_null() => out.push_str("null"),
        Kind::Scalar { text, plain: true } if is_token(text) => out.push_str(text),
        Kind::Scalar { text, .. } => add_text(text, out),
        Kind::Seq(nodes) => {
            out.push('[');
            for (at, node) in nodes.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                add(node, out);
            }
            out.push(']');
        }
        Kind::Map(entries) => {
            out.push('{');
            let said = entries.iter().filter(|(_, node)| !node.is_null());
            for (at, (key, node)) in said.enumerate() {
                if at > 0 {
                    out.push(',');
                }
                add_text(&key.text, out);
                out.push(':');
                add(node, out);
            }
            out.push('}');
        }
    }
}

fn add_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
