//! Whether a text is a set of manifests (K1): YAML, each document an object of Kubernetes. Pure.

use hale_api::problem::Mistake;
use serde_json::Value;

/// The most mistakes that are told.
const MOST: usize = 20;

/// The most documents of one set.
const MOST_DOCUMENTS: usize = 5000;

/// Looks at a text.
///
/// # Errors
/// Every mistake, with its line; up to twenty.
pub(super) fn check(text: &str) -> Result<(), Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut documents = 0;
    for (line, document) in documents_of(text) {
        if mistakes.len() >= MOST {
            break;
        }
        match parse(document) {
            Ok(Value::Null) => {}
            Ok(value) => {
                documents += 1;
                object(&value, line, &mut mistakes);
            }
            Err((at, message)) => mistakes.push(mistake(line + at.saturating_sub(1), message, None)),
        }
    }
    if mistakes.is_empty() && documents == 0 {
        mistakes.push(mistake(1, "there is no manifest in it".to_owned(), None));
    }
    if documents > MOST_DOCUMENTS {
        mistakes.push(mistake(1, format!("at most {MOST_DOCUMENTS} documents are taken"), None));
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

fn mistake(line: usize, message: String, help: Option<&str>) -> Mistake {
    Mistake { place: format!("manifests:{line}"), message, help: help.map(str::to_owned) }
}

/// The documents of a stream, each with the number of its first line that says something. `---` at the beginning of a
/// line begins one: what stands inside of a manifest is indented.
fn documents_of(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut from, mut first, mut at) = (0, 1, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let mark = line.strip_prefix("---");
        if mark.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            documents.push((first, &text[from..at]));
            // What follows on the line of the mark belongs to the new document.
            (from, first) = (at + 3, number);
        }
        at += line.len();
    }
    documents.push((first, &text[from..]));
    documents
}

/// The value of one document, or the line in it, from 1, and what is wrong there.
fn parse(document: &str) -> Result<Value, (usize, String)> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: document.len().saturating_add(1_000),
            max_nodes: document.len().saturating_add(1_000),
            max_total_scalar_bytes: document.len().saturating_add(1_000),
            max_aliases: 1_000,
        },
    };
    if document.lines().all(|it| it.trim().is_empty() || it.trim_start().starts_with('#')) {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str_with_options(document, options).map_err(|error| {
        let line = error.location().map_or(1, |it| usize::try_from(it.line()).unwrap_or(1));
        let words = error.without_snippet().to_string();
        (line, words.lines().next().unwrap_or_default().to_owned())
    })
}

fn object(value: &Value, line: usize, mistakes: &mut Vec<Mistake>) {
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|it| !it.is_empty());
    if !value.is_object() {
        mistakes.push(mistake(line, "this document is no object of Kubernetes".to_owned(), None));
        return;
    }
    // A list is as many objects as it has.
    let kind = text("kind");
    if let Some(items) = value.get("items").and_then(Value::as_array)
        && kind.is_some_and(|it| it.ends_with("List"))
    {
        items.iter().for_each(|it| object(it, line, mistakes));
        return;
    }
    let name = value.get("metadata").and_then(|it| it.get("name")).and_then(Value::as_str);
    let generated = value.get("metadata").and_then(|it| it.get("generateName")).is_some();
    for (what, there) in [
        ("apiVersion", text("apiVersion").is_some()),
        ("kind", kind.is_some()),
        ("metadata.name", name.is_some()),
    ] {
        if !there {
            let of = kind.map(|it| format!(" of kind {it}")).unwrap_or_default();
            let help = (what == "metadata.name" && generated)
                .then_some("generateName makes another object each time it is applied: give it a name");
            mistakes.push(mistake(line, format!("the object{of} that begins here has no {what}"), help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<String> {
        check(text)
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|it| format!("{}: {}", it.place, it.message))
            .collect()
    }

    const GOOD: &str = "# the shop\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  text: |\n    ---\n    x\n---\n# nothing\n--- \napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}\n";

    #[test]
    fn objects_one_after_the_other_and_lists_of_them_are_manifests() {
        assert_eq!(places(GOOD), Vec::<String>::new());
        assert_eq!(
            places("{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}}"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_mistake_has_its_line() {
        let text =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nkind: Pod\nmetadata: {generateName: b-}\n";
        let found = places(text);
        assert_eq!(
            found,
            [
                "manifests:4: the object of kind Pod that begins here has no apiVersion",
                "manifests:4: the object of kind Pod that begins here has no metadata.name",
            ]
        );
        let broken = places("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nkind: [\n");
        assert_eq!(broken.len(), 1);
        let line: usize = broken[0].split(':').nth(1).unwrap().parse().unwrap();
        assert!((4..=6).contains(&line), "{broken:?}");
        assert_eq!(places("- a\n- b\n"), ["manifests:1: this document is no object of Kubernetes"]);
        assert_eq!(places("# only words\n"), ["manifests:1: there is no manifest in it"]);
        assert_eq!(places(""), ["manifests:1: there is no manifest in it"]);
    }
}
