//! What both sides of the wire between agents and servers must make of its messages alike (S24).

use hale_model::document::Document;
use sha2::{Digest, Sha256};

use crate::proto;

/// A declaration as it travels: the whole [`Document`] as JSON, under its digest.
#[must_use]
pub fn document(of: &Document) -> proto::Document {
    // A document always has a JSON form.
    let json = serde_json::to_string(of).unwrap_or_default();
    proto::Document { digest: of.digest.clone(), json }
}

/// The declaration in a message.
///
/// # Errors
/// In words: it is none, or not the one its digest names.
pub fn read_document(from: &proto::Document) -> Result<Document, String> {
    let document: Document =
        serde_json::from_str(&from.json).map_err(|error| format!("document {}: {error}", from.digest))?;
    if document.digest != from.digest {
        return Err(format!("document {}: holds one with digest {}", from.digest, document.digest));
    }
    Ok(document)
}

/// What an agent and its server compare from time to time (N8): SHA-256 over the replicas (generation and version) in
/// order of generation, then over the targets in order of name. Of a target its time of last outcome is left out: it
/// changes without being told.
#[must_use]
pub fn digest<'a>(
    replicas: impl IntoIterator<Item = (u64, u64)>,
    targets: impl IntoIterator<Item = &'a proto::Target>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (generation, version) in replicas {
        hash.update(generation.to_be_bytes());
        hash.update(version.to_be_bytes());
    }
    for target in targets {
        let told = proto::Target { last_outcome_at: None, ..target.clone() };
        let bytes = prost::Message::encode_to_vec(&told);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_document_arrives_as_it_was_sent() {
        let text = "kind: Workload\nname: web\nprocess: {command: [./web], env: {VERSION: 1.10}}\n";
        let documents = hale_model::document::read_str("a.yaml", Path::new("/srv/app"), text).unwrap();
        let sent = document(&documents[0]);
        assert_eq!(read_document(&sent).unwrap(), documents[0]);
        let wrong = proto::Document { digest: "0".repeat(64), ..sent };
        assert!(read_document(&wrong).is_err());
        assert!(read_document(&proto::Document { digest: String::new(), json: "{".into() }).is_err());
    }

    #[test]
    fn the_digest_changes_with_a_version_but_not_with_the_time_of_an_outcome() {
        let target = proto::Target { name: "api".into(), ..proto::Target::default() };
        let later = proto::Target { last_outcome_at: Some(7), ..target.clone() };
        assert_eq!(digest([(1, 5)], [&target]), digest([(1, 5)], [&later]));
        assert_ne!(digest([(1, 5)], [&target]), digest([(1, 6)], [&target]));
        assert_ne!(digest([(1, 5)], [&target]), digest([(1, 5)], []));
    }
}
