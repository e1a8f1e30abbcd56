//! Telling whether a declaration changed.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::{
    tree::{Kind, Node},
    write,
};

/// SHA-256, in hex, over the document as written: fields in the order of their names, without comments, layout and
/// the order they stood in; and over the directory that its relative paths begin at.
///
/// It is taken of what was written, not of the value it became: a field added to a later hale, with its default,
/// changes no digest and so restarts nothing.
pub(super) fn of(node: &Node, dir: &Path) -> String {
    let mut hash = Sha256::new();
    hash.update(dir.as_os_str().as_encoded_bytes());
    add(node, &mut hash);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn add(node: &Node, hash: &mut Sha256) {
    match &node.kind {
        // What JSON can't hold unquoted is the same quoted: a document says it so (`write`).
        Kind::Scalar { text, plain } => {
            add_text(if *plain && write::is_token(text) { b'p' } else { b'q' }, text, hash);
        }
        Kind::Seq(nodes) => {
            hash.update([b'[']);
            nodes.iter().for_each(|node| add(node, hash));
            hash.update([b']']);
        }
        Kind::Map(entries) => {
            let mut sorted: Vec<_> = entries.iter().filter(|(_, node)| !node.is_null()).collect();
            sorted.sort_by(|a, b| a.0.text.cmp(&b.0.text));
            hash.update([b'{']);
            for (key, node) in sorted {
                add_text(b'k', &key.text, hash);
                add(node, hash);
            }
            hash.update([b'}']);
        }
    }
}

/// The length before the text keeps two texts from being taken for one.
fn add_text(kind: u8, text: &str, hash: &mut Sha256) {
    hash.update([kind]);
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}
