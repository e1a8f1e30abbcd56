//! Objects in text, as `kubectl get -o json` or `-o yaml` prints them (C11).
//!
//! A text is one object, a list, or several of either, one after the other. What is in a list and is not an object of
//! Kubernetes is counted and left out; a text that is none at all is an error.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::judge::{Added, Kind, World, list_items, parse_time};

/// What was read of one text or several.
#[derive(Debug, Default)]
pub struct Dump {
    /// The objects that tell of health.
    pub world: World,
    /// The newest moment that any object tells of: when they were asked for, as nearly as can be known.
    pub newest: Option<Timestamp>,
    /// Objects that tell of health.
    pub kept: usize,
    /// Objects of other kinds.
    pub ignored: usize,
    /// Things in lists that have no kind or no name.
    pub nameless: usize,
}

/// Why a text was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DumpError {
    /// Where, from 1, if that can be said.
    pub line: Option<u64>,
    /// Where in the line, from 1.
    pub column: Option<u64>,
    /// What is wrong.
    pub message: String,
}

impl DumpError {
    fn of(message: impl Into<String>) -> Self {
        Self { line: None, column: None, message: message.into() }
    }
}

impl Dump {
    /// Takes a text in, JSON or YAML.
    ///
    /// # Errors
    /// It is neither, or holds something else than Kubernetes objects. Nothing of it is taken in then.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), DumpError> {
        let text = decode(bytes)?;
        let documents = parse(text.trim_start_matches('\u{feff}'))?;
        if documents.is_empty() {
            return Err(DumpError::of("it is empty"));
        }
        for document in &documents {
            proper(document)?;
        }
        for document in &documents {
            self.take(document);
        }
        Ok(())
    }

    fn take(&mut self, document: &Value) {
        let items = list_items(document);
        // An empty list says of what kind there is nothing.
        let kind = document.get("kind").and_then(Value::as_str);
        let of = kind.and_then(|it| it.strip_suffix("List")).filter(|_| items.is_empty());
        if let Some(kind) = of.and_then(|it| Kind::of(document.get("apiVersion").and_then(Value::as_str), it))
        {
            self.world.complete(kind);
        }
        for (version, kind, object) in items {
            match self.world.add(version, kind, object) {
                Added::Kept => self.kept += 1,
                Added::Ignored => self.ignored += 1,
                Added::Nameless => self.nameless += 1,
            }
            self.newest = self.newest.max(newest(object));
        }
    }
}

/// UTF-8; or UTF-16 with a mark, which is what a redirected PowerShell writes.
fn decode(bytes: &[u8]) -> Result<String, DumpError> {
    let wide = |unit: fn([u8; 2]) -> u16| {
        let units = bytes[2..].chunks_exact(2).map(|it| unit([it[0], it[1]]));
        char::decode_utf16(units)
            .collect::<Result<String, _>>()
            .map_err(|_| DumpError::of("it is broken UTF-16"))
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
            DumpError::of(format!("it is not text: byte {} is not UTF-8", error.valid_up_to()))
        }),
    }
}

/// The documents in a text, whatever they are.
///
/// # Errors
/// It is neither JSON nor YAML.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, DumpError> {
    let text = text.trim_start_matches('\u{feff}');
    // Documents of YAML may be written as JSON is, with marks between them.
    parse(text).or_else(|error| yaml(text).map_err(|_| error))
}

fn parse(text: &str) -> Result<Vec<Value>, DumpError> {
    if text.trim_start().starts_with(['{', '[']) { json(text) } else { yaml(text) }
}

/// One document or several, one after the other.
fn json(text: &str) -> Result<Vec<Value>, DumpError> {
    let documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    documents.collect::<Result<_, _>>().map_err(|error| DumpError {
        line: u64::try_from(error.line()).ok().filter(|it| *it > 0),
        column: u64::try_from(error.column()).ok().filter(|it| *it > 0),
        message: format!("it is not valid JSON: {}", error_words(&error)),
    })
}

/// Without the place, which is told apart.
fn error_words(error: &serde_json::Error) -> String {
    let words = error.to_string();
    words.split(" at line ").next().unwrap_or(&words).to_owned()
}

/// As much as a whole cluster's may be, and still no bomb: what is not in the text is not made of it, except by aliases,
/// of which `kubectl` writes none.
fn yaml(text: &str) -> Result<Vec<Value>, DumpError> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: text.len().saturating_add(1_000),
            max_nodes: text.len().saturating_add(1_000),
            max_total_scalar_bytes: text.len().saturating_add(1_000),
            max_documents: 100_000,
            max_aliases: 1_000,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| DumpError {
        line: error.location().map(|it| it.line()),
        column: error.location().map(|it| it.column()),
        message: format!("it is not valid YAML: {}", one_line(&error.without_snippet().to_string())),
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A document is an object with a kind, or a list.
fn proper(document: &Value) -> Result<(), DumpError> {
    let problem = match document {
        Value::Array(_) => return Ok(()),
        Value::Object(it) if it.contains_key("kind") || it.contains_key("items") => {
            let kind = it.get("kind").and_then(Value::as_str);
            match kind {
                Some("Status") if !it.contains_key("items") => {
                    let said = it.get("message").and_then(Value::as_str).unwrap_or("no message");
                    format!("it holds an answer of the API server in place of objects: {said}")
                }
                _ => return Ok(()),
            }
        }
        Value::Object(_) => "it holds something that has no kind".to_owned(),
        _ => "it holds something that is no object".to_owned(),
    };
    Err(DumpError::of(format!("{problem}; expected what kubectl get -o json prints")))
}

/// Where objects tell of something that was. Elsewhere there are moments to come: when a certificate ends, say.
const MOMENTS: [&str; 24] = [
    "acquireTime",
    "completionTime",
    "creationTimestamp",
    "deprecatedFirstTimestamp",
    "deprecatedLastTimestamp",
    "eventTime",
    "finishedAt",
    "firstTimestamp",
    "lastHeartbeatTime",
    "lastObservedTime",
    "lastProbeTime",
    "lastScaleTime",
    "lastScheduleTime",
    "lastSuccessfulTime",
    "lastTimestamp",
    "lastTransitionTime",
    "lastUpdate",
    "lastUpdateTime",
    "observedTime",
    "renewTime",
    "resizeTime",
    "startTime",
    "startedAt",
    "time",
];

/// The newest moment that an object tells of.
fn newest(object: &Value) -> Option<Timestamp> {
    let asked = object.get("metadata").and_then(|meta| {
        // It says when the object is to be gone; it was asked for before that.
        let gone = parse_time(meta.get("deletionTimestamp")?.as_str()?)?;
        let grace = meta.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0).max(0);
        gone.checked_sub(SignedDuration::from_secs(grace)).ok()
    });
    asked.max(newest_in(object))
}

fn newest_in(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Array(items) => items.iter().filter_map(newest_in).max(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "annotations" | "labels" | "data"))
            .filter_map(|(key, value)| match value {
                Value::String(text) if MOMENTS.binary_search(&key.as_str()).is_ok() => parse_time(text),
                Value::String(_) => None,
                _ => newest_in(value),
            })
            .max(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Dump, DumpError> {
        let mut dump = Dump::default();
        dump.read(text.as_bytes()).map(|()| dump)
    }

    #[test]
    fn keys_of_moments_are_sorted_because_they_are_searched() {
        assert!(MOMENTS.is_sorted());
    }

    #[test]
    fn one_object_a_list_and_several_documents_are_read() {
        let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#;
        assert_eq!(read(pod).unwrap().kept, 1);
        assert_eq!(read(&format!(r#"{{"kind":"List","items":[{pod},{pod}]}}"#)).unwrap().kept, 2);
        assert_eq!(read(&format!("{pod}\n{pod}")).unwrap().kept, 2);
        assert_eq!(read(&format!("[{pod}]")).unwrap().kept, 1);
        let yaml =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n---\nkind: Pod\nmetadata:\n  name: b\n";
        assert_eq!(read(yaml).unwrap().kept, 2);
    }

    #[test]
    fn a_list_of_pods_holds_pods_that_do_not_say_so() {
        let dump =
            read(r#"{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"name":"a"}},7]}"#).unwrap();
        assert_eq!((dump.kept, dump.nameless), (1, 1));
    }

    #[test]
    fn a_redirected_powershell_is_read() {
        let text = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#;
        let bytes: Vec<u8> =
            "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let mut dump = Dump::default();
        dump.read(&bytes).unwrap();
        assert_eq!(dump.kept, 1);
    }

    #[test]
    fn what_is_not_kubernetes_is_an_error_that_says_where() {
        for (text, says) in [
            ("", "it is empty"),
            ("{\n  \"kind\": \"Pod\",\n  oops\n}", "not valid JSON"),
            ("kind: Pod\nmetadata: [", "not valid YAML"),
            ("just words", "no object"),
            ("{}", "no kind"),
            ("42", "no object"),
            (r#"{"kind":"Status","message":"pods is forbidden"}"#, "pods is forbidden"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(says), "{text}: {error:?}");
        }
        assert_eq!(read("{\n\"a\":,\n}").unwrap_err().line, Some(2));
        assert!(read("a: 1\nb: [").unwrap_err().line.is_some());
        assert!(Dump::default().read(&[b'{', 0xff]).unwrap_err().message.contains("UTF-8"));
    }

    #[test]
    fn aliases_do_not_make_much_of_little() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(", "));
        }
        assert!(read(&bomb).is_err());
    }

    #[test]
    fn now_is_the_newest_moment_that_was_and_not_one_to_come() {
        let text = r#"{"kind":"List","items":[
            {"kind":"Pod","metadata":{"name":"a","creationTimestamp":"2026-01-01T00:00:00Z",
              "deletionTimestamp":"2026-01-01T00:02:00Z","deletionGracePeriodSeconds":30,
              "annotations":{"time":"2031-01-01T00:00:00Z"}}},
            {"kind":"Certificate","metadata":{"name":"b"},"status":{"notAfter":"2030-01-01T00:00:00Z"}}]}"#;
        let dump = read(text).unwrap();
        assert_eq!(dump.newest, Some("2026-01-01T00:01:30Z".parse().unwrap()));
        assert_eq!((dump.kept, dump.ignored), (1, 1));
    }
}
