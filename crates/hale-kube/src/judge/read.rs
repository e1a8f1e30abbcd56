//! Taking facts out of JSON that may be anything: what is not of the expected shape is absent.

use jiff::Timestamp;
use serde_json::Value;

/// Lists are read into lists, but not for ever.
const DEEPEST_LIST: usize = 4;

/// Follows keys into an object.
pub(super) fn at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.get(key)).filter(|it| !it.is_null())
}

/// A string that is not empty.
pub(super) fn text<'v>(value: &'v Value, path: &[&str]) -> Option<&'v str> {
    at(value, path)?.as_str().filter(|it| !it.is_empty())
}

/// A string of our own.
pub(super) fn owned(value: &Value, path: &[&str]) -> Option<String> {
    text(value, path).map(str::to_owned)
}

/// A whole number.
pub(super) fn integer(value: &Value, path: &[&str]) -> Option<i64> {
    at(value, path)?.as_i64()
}

/// A number of things: not negative, and not more than fits.
pub(super) fn count(value: &Value, path: &[&str]) -> Option<u32> {
    let number = integer(value, path)?;
    Some(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}

/// Yes or no.
pub(super) fn flag(value: &Value, path: &[&str]) -> Option<bool> {
    at(value, path)?.as_bool()
}

/// A moment, as the API writes it.
pub(super) fn time(value: &Value, path: &[&str]) -> Option<Timestamp> {
    parse_time(text(value, path)?)
}

/// The elements of an array.
pub(super) fn each<'v>(value: &'v Value, path: &[&str]) -> impl Iterator<Item = &'v Value> {
    at(value, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default().iter()
}

/// RFC 3339; the zero times that are written for "never" are no times: Go's, and that of Unix, which a container that
/// could not be started bears.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    // Cheap first: most strings of an object are no times.
    let bytes = text.as_bytes();
    let looks = bytes.len() >= 20 && bytes.len() <= 40 && bytes[4] == b'-' && bytes[10] == b'T';
    if !looks || text.starts_with("0001-01-01") || text.starts_with("1970-01-01T00:00:00") {
        return None;
    }
    text.parse().ok()
}

/// The objects in a document: itself, or what a list holds. Each with the API version and kind that it has, or that
/// its list implies (`PodList` holds pods that do not say so).
pub(crate) fn list_items(document: &Value) -> Vec<(Option<&str>, Option<&str>, &Value)> {
    let mut found = Vec::new();
    unfold(document, None, None, 0, &mut found);
    found
}

fn unfold<'v>(
    value: &'v Value,
    version: Option<&'v str>,
    kind: Option<&'v str>,
    depth: usize,
    found: &mut Vec<(Option<&'v str>, Option<&'v str>, &'v Value)>,
) {
    let version = text(value, &["apiVersion"]).or(version);
    let kind = text(value, &["kind"]).or(kind);
    let items = match value {
        Value::Array(items) => Some(items),
        Value::Object(_) => at(value, &["items"])
            .and_then(Value::as_array)
            .filter(|_| kind.is_none_or(|kind| kind.ends_with("List"))),
        _ => None,
    };
    let Some(items) = items.filter(|_| depth < DEEPEST_LIST) else {
        found.push((version, kind, value));
        return;
    };
    // What is in a `List` has a kind of its own; what is in a `PodList` is a pod.
    let of = kind.and_then(|it| it.strip_suffix("List")).filter(|it| !it.is_empty());
    for item in items {
        unfold(item, version.filter(|_| of.is_some()), of, depth + 1, found);
    }
}

/// Text of others on one line, without what could move a cursor, and not endless.
pub(super) fn tidy(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut line = String::with_capacity(text.len().min(LONGEST));
    for word in text.split(|it: char| it.is_whitespace() || it.is_control()).filter(|it| !it.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > LONGEST {
            let cut = (0..=LONGEST).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            line.truncate(cut);
            line.push('…');
            break;
        }
    }
    line
}
