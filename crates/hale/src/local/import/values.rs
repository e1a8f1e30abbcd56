//! Values of other people's files: text, numbers, times and sizes as each tool writes them.

use std::time::Duration;

use hale_model::file::{Key, Kind, Node, parse_duration};
use std::rc::Rc;

/// The entries of a mapping; none of anything else.
pub(super) fn entries(node: &Node) -> &[(Key, Rc<Node>)] {
    match &node.kind {
        Kind::Map(entries) => entries,
        _ => &[],
    }
}

/// The items of a list; none of anything else.
pub(super) fn items(node: &Node) -> &[Rc<Node>] {
    match &node.kind {
        Kind::Seq(items) => items,
        _ => &[],
    }
}

/// The text of a scalar that says something.
pub(super) fn text(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar { text, .. } if !node.is_null() => Some(text),
        _ => None,
    }
}

/// The value at a path of keys.
pub(super) fn at<'n>(node: &'n Node, path: &[&str]) -> Option<&'n Node> {
    path.iter().try_fold(node, |node, key| node.get(key)).filter(|it| !it.is_null())
}

/// The text at a path of keys.
pub(super) fn text_at<'n>(node: &'n Node, path: &[&str]) -> Option<&'n str> {
    at(node, path).and_then(text)
}

/// The number at a path of keys.
pub(super) fn number_at(node: &Node, path: &[&str]) -> Option<u64> {
    text_at(node, path)?.parse().ok()
}

/// Whether something at a path of keys is true.
pub(super) fn true_at(node: &Node, path: &[&str]) -> bool {
    text_at(node, path).is_some_and(|it| it.eq_ignore_ascii_case("true"))
}

/// A mapping of text to text, or a list of `NAME=value`; a name without a value has none.
pub(super) fn pairs(node: &Node) -> Vec<(&Node, String, Option<String>)> {
    match &node.kind {
        Kind::Map(entries) => entries
            .iter()
            .map(|(key, value)| (&**value, key.text.clone(), text(value).map(str::to_owned)))
            .collect(),
        Kind::Seq(items) => items
            .iter()
            .filter_map(|it| {
                let line = text(it)?;
                Some(match line.split_once('=') {
                    Some((name, value)) => (&**it, name.to_owned(), Some(value.to_owned())),
                    None => (&**it, line.to_owned(), None),
                })
            })
            .collect(),
        Kind::Scalar { .. } => Vec::new(),
    }
}

/// `1m30s`, `500ms`, `1.5s`; `us` and `ns` are taken, too. A bare number is in seconds.
pub(super) fn time(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let tiny = [("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9)];
    for (unit, seconds) in tiny {
        if let Some(number) = text.strip_suffix(unit).and_then(|it| it.parse::<f64>().ok()) {
            return Duration::try_from_secs_f64(number * seconds).ok();
        }
    }
    parse_duration(text)
}

/// A number of bytes. In compose, systemd and PM2 `k`, `m` and `g` are powers of 1024; Kubernetes writes `Mi` for that
/// and means powers of 1000 by `M`: `thousands`.
pub(super) fn bytes(text: &str, thousands: bool) -> Option<u64> {
    let letters = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(letters);
    let lower = unit.to_ascii_lowercase();
    let (letter, binary) = match lower.strip_suffix("ib").or_else(|| lower.strip_suffix('i')) {
        Some(letter) => (letter, true),
        None => (lower.strip_suffix('b').unwrap_or(&lower), !thousands),
    };
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    let value = number.trim().parse::<f64>().ok().filter(|it| *it >= 0.0)? * base.powi(power);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is not below 0"
    )]
    let bytes = value.round() as u64;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_mean_what_their_tool_means_by_them() {
        let cases = [
            ("512m", false, Some(512 << 20)),
            ("1.5g", false, Some(3 << 29)),
            ("64kb", false, Some(64 << 10)),
            ("300M", false, Some(300 << 20)),
            ("128Mi", true, Some(128 << 20)),
            ("128M", true, Some(128_000_000)),
            ("1Gi", true, Some(1 << 30)),
            ("4096", true, Some(4096)),
            ("lots", true, None),
        ];
        for (text, thousands, expected) in cases {
            assert_eq!(bytes(text, thousands), expected, "{text}");
        }
        assert_eq!(time("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(time("90"), Some(Duration::from_secs(90)));
        assert_eq!(time("500us"), Some(Duration::from_micros(500)));
        assert_eq!(time("soon"), None);
    }
}
