//! Declarations as they travel and are stored: one document of a workload file, whole, as JSON.
//!
//! A server and its agents may be of different releases. So what is passed on is what a person wrote, in the format of
//! workload files, and not the value that one release made of it: fields that a reader does not know are an error
//! there, told as such, and never dropped on the way.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    file::{self, Declared, FileError, Responders},
    spec::{Target, Workload},
};

/// One declaration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Document {
    /// `Workload` or `Target`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where its relative paths begin, absolute.
    pub dir: String,
    /// JSON text, which is YAML, too. Numbers stand in it as they were written (`1.10`), so it is to be passed on as
    /// text and not through a number type.
    pub json: String,
    /// Tells one declaration from another: SHA-256, in hex, over what was written and `dir`.
    pub digest: String,
}

impl Document {
    /// What it declares, checked by itself; whether the names it refers to are there is for [`together`] to say.
    ///
    /// # Errors
    /// Every mistake, with its place in `json`.
    pub fn declared(&self) -> Result<Declared, Vec<FileError>> {
        file::read_alone(&self.origin(), Path::new(&self.dir), &self.json)
    }

    /// The workload it declares; `None` when it is a target, or is not understood by this release.
    #[must_use]
    pub fn workload(&self) -> Option<Arc<Workload>> {
        self.declared().ok()?.workloads.into_iter().next()
    }

    /// The target it declares; `None` when it is a workload, or is not understood by this release.
    #[must_use]
    pub fn target(&self) -> Option<Arc<Target>> {
        self.declared().ok()?.targets.into_iter().next()
    }

    /// What a reader must know to understand it (S7): the paths of its fields (`restart.maxRestarts`), without list
    /// indexes and without what people name themselves (environment, headers, labels).
    #[must_use]
    pub fn features(&self) -> BTreeSet<String> {
        let mut features = BTreeSet::new();
        if let Ok(value) = serde_json::from_str(&self.json) {
            add_features("", &value, &mut features);
        }
        features
    }

    fn origin(&self) -> String {
        format!("{} {}", self.kind.to_lowercase(), self.name)
    }
}

/// Every feature that this release knows, as [`Document::features`] names them: what its agent registers (S7).
#[must_use]
pub fn known_features() -> BTreeSet<String> {
    let schema = file::schema_of_documents();
    let mut features = BTreeSet::from(["apiVersion".to_owned(), "kind".to_owned()]);
    add_known("", &schema, &schema, &mut features);
    features
}

/// Adds the fields that a schema allows below a path. Schemas of workload files are not recursive.
fn add_known(path: &str, at: &serde_json::Value, root: &serde_json::Value, features: &mut BTreeSet<String>) {
    let Some(schema) = at.as_object() else { return };
    let referred = schema.get("$ref").and_then(|it| it.as_str()).and_then(|it| it.strip_prefix('#'));
    if let Some(referred) = referred.and_then(|it| root.pointer(it)) {
        add_known(path, referred, root, features);
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        let parts = schema.get(several).and_then(|it| it.as_array()).into_iter().flatten();
        parts.for_each(|part| add_known(path, part, root, features));
    }
    if let Some(items) = schema.get("items") {
        add_known(path, items, root, features);
    }
    for (key, value) in schema.get("properties").and_then(|it| it.as_object()).into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if !OWN_KEYS.contains(&key.as_str()) {
            add_known(&path, value, root, features);
        }
        features.insert(path);
    }
}

/// Fields whose keys are people's own.
const OWN_KEYS: [&str; 6] = ["env", "secretEnv", "ulimits", "labels", "expectedJson", "nodeSelector"];

fn add_features(path: &str, value: &serde_json::Value, features: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                features.insert(path.clone());
                if !OWN_KEYS.contains(&key.as_str()) {
                    add_features(&path, value, features);
                }
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| add_features(path, value, features));
        }
        _ => {}
    }
}

/// The documents of files, each right by itself and no name twice; `-` stands for standard input.
///
/// What they refer to may be elsewhere (on a server): [`together`] checks that.
///
/// # Errors
/// As [`file::read_files`]; a `Responder`, which no server keeps, is one.
pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Document>, Vec<FileError>> {
    file::read_documents(paths, Responders::Refused)
}

/// As [`read`], for files that may hold responders beside: no document is made of those.
///
/// # Errors
/// As [`file::read_files`].
pub fn read_beside<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Document>, Vec<FileError>> {
    file::read_documents(paths, Responders::Taken)
}

/// The documents of a text, as [`read`].
///
/// # Errors
/// As [`read`].
pub fn read_str(name: &str, dir: &Path, text: &str) -> Result<Vec<Document>, Vec<FileError>> {
    file::read_documents_str(name, dir, text)
}

/// Checks documents against each other as if they were one file: names, services, dependencies, cycles.
///
/// # Errors
/// Every mistake, by the document it is in.
pub fn together<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Result<Declared, Vec<FileError>> {
    file::read_together(documents.into_iter().map(|it| (it.origin(), Path::new(&it.dir), it.json.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "kind: Workload\nname: web\nreplicas: 2\nprocess:\n  command: [./web, \"5\"]\n  env: {VERSION: 1.10, COUNTRY: no, ON: true, N: 010}\ndependsOn: [elsewhere]\nlivenessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 0.50}\n---\nkind: Target\nname: api\nhttpGet: {url: \"http://127.0.0.1:9000/\"}\n";

    #[test]
    fn a_document_says_the_same_as_the_file_it_came_from() {
        let dir = Path::new("/srv/app");
        let documents = read_str("app.yaml", dir, FILE).unwrap();
        assert_eq!(documents.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["web", "api"]);
        let web = documents[0].workload().unwrap();
        let direct = file::read_str("app.yaml", dir, &FILE.replace("dependsOn: [elsewhere]\n", "")).unwrap();
        let expected = Workload {
            depends_on: vec!["elsewhere".into()],
            digest: web.digest.clone(),
            ..(*direct.workloads[0]).clone()
        };
        assert_eq!(*web, expected);
        assert_eq!(web.digest, documents[0].digest);
        let again = read_str("x", dir, &documents[0].json).unwrap();
        assert_eq!(again[0].digest, documents[0].digest);
        assert_eq!(again[0].json, documents[0].json);
    }

    #[test]
    fn features_are_field_paths_without_what_people_name() {
        let documents = read_str("app.yaml", Path::new("/"), FILE).unwrap();
        let features = documents[0].features();
        assert!(features.contains("livenessProbe.httpGet.path") && features.contains("process.env"));
        assert!(!features.iter().any(|it| it.contains("VERSION")));
    }

    #[test]
    fn every_feature_of_a_document_is_among_the_known_ones() {
        let known = known_features();
        let documents = read_str("app.yaml", Path::new("/"), FILE).unwrap();
        for document in documents {
            let unknown: Vec<_> = document.features().difference(&known).cloned().collect();
            assert!(unknown.is_empty(), "{unknown:?} not in {known:?}");
        }
        assert!(!known.contains("process.imaginary"));
    }

    #[test]
    fn only_together_it_is_said_that_a_dependency_is_missing() {
        let documents = read_str("app.yaml", Path::new("/"), FILE).unwrap();
        let errors = together(&documents).unwrap_err();
        assert!(errors[0].to_string().contains("elsewhere"), "{}", errors[0]);
    }
}
