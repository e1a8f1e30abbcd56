//! Writing YAML the way a person would: fields in the order they are given, short things on one line.

use std::fmt::Write as _;

/// No line that holds a whole mapping or list is longer than this.
const WIDTH: usize = 100;

/// A value of a workload file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Out {
    /// Text; quoted where it would be read as something else.
    Text(String),
    /// A number, a truth value or a word of the format: never quoted.
    Word(String),
    List(Vec<Out>),
    Map(Fields),
}

/// A mapping, in the order it is written.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Fields(Vec<(String, Out)>);

impl Fields {
    /// Adds a field, or replaces the one of this name.
    pub(super) fn set(&mut self, name: impl Into<String>, value: impl Into<Out>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(it, _)| *it == name) {
            Some(field) => field.1 = value,
            None => self.0.push((name, value)),
        }
    }

    pub(super) fn with(mut self, name: impl Into<String>, value: impl Into<Out>) -> Self {
        self.set(name, value);
        self
    }

    /// Adds a field unless it would say nothing.
    pub(super) fn set_some(&mut self, name: &str, value: Option<impl Into<Out>>) {
        if let Some(value) = value.map(Into::into).filter(|it| !it.is_empty()) {
            self.set(name, value);
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Out> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl Out {
    fn is_empty(&self) -> bool {
        match self {
            Self::List(items) => items.is_empty(),
            Self::Map(fields) => fields.is_empty(),
            _ => false,
        }
    }

    pub(super) fn texts<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(items.into_iter().map(|it| Self::Text(it.into())).collect())
    }

    pub(super) fn word(word: impl ToString) -> Self {
        Self::Word(word.to_string())
    }
}

impl From<Fields> for Out {
    fn from(fields: Fields) -> Self {
        Self::Map(fields)
    }
}

impl From<String> for Out {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Out {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<Out>> for Out {
    fn from(items: Vec<Out>) -> Self {
        Self::List(items)
    }
}

/// A document.
pub(super) fn document(fields: &Fields) -> String {
    let mut text = String::new();
    block(fields, 0, &mut text);
    text
}

fn block(fields: &Fields, indent: usize, text: &mut String) {
    for (name, value) in &fields.0 {
        // Writing to a String can't fail.
        let _ = write!(text, "{:indent$}{}:", "", scalar(name));
        after_key(value, indent, text);
    }
}

fn after_key(value: &Out, indent: usize, text: &mut String) {
    let line = flow(value);
    if let (Out::Text(_) | Out::Word(_), _) | (_, true) = (value, line.len() + indent < WIDTH) {
        let _ = writeln!(text, " {line}");
        return;
    }
    text.push('\n');
    match value {
        Out::Map(fields) => block(fields, indent + 2, text),
        Out::List(items) => {
            for item in items {
                let _ = writeln!(text, "{:indent$}- {}", "", flow(item));
            }
        }
        Out::Text(_) | Out::Word(_) => {}
    }
}

fn flow(value: &Out) -> String {
    match value {
        Out::Text(text) => scalar(text),
        Out::Word(word) => word.clone(),
        Out::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Out::Map(Fields(fields)) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{}: {}", scalar(name), flow(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// Text as it can stand alone and between brackets. What JSON needs quotes for is quoted as JSON quotes it.
fn scalar(text: &str) -> String {
    let fine = |c: char| c.is_alphanumeric() || "_./-+@$%".contains(c);
    let begins = text.starts_with(|c: char| c.is_alphabetic() || "_./$".contains(c));
    let lower = text.to_lowercase();
    let means_more = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", ".inf", ".nan"];
    let number = lower.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
    if begins && !number && text.chars().all(fine) && !means_more.contains(&lower.as_str()) {
        text.to_owned()
    } else {
        // YAML asks for more to be escaped than JSON does.
        let quoted = serde_json::Value::from(text).to_string();
        let escaped = |c: char| match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        };
        quoted.chars().map(escaped).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_as_it_was() {
        let values = [
            "plain",
            "",
            "no",
            "1.10",
            "0x10",
            "a: b",
            "- x",
            "#c",
            "a #b",
            "{x}",
            "[x",
            "it's",
            "\"q\"",
            "~",
            "null",
            "é",
            "tab\there",
            "line\nbreak",
            "*a",
            "&a",
            "!t",
            "%x",
            "@x",
            "`x`",
            "$(PORT)",
            "a,b",
            "trailing ",
            "=",
            ".5",
            "1e3",
            "2001-01-01",
            "12:30:45",
            "<<",
            "?",
            "|",
            ">",
            "\u{1f600}",
            "\u{7f}",
        ];
        let list = Out::texts(values);
        let map = values.iter().fold(Fields::default(), |fields, it| fields.with(format!("k{it}"), *it));
        let text = document(&Fields::default().with("list", list).with("map", map));
        let read: serde_json::Value = serde_saphyr::from_str(&text).expect("it is YAML");
        assert_eq!(read["list"], serde_json::json!(values.to_vec()), "{text}");
        for it in values {
            assert_eq!(read["map"][format!("k{it}")], it, "{text}");
        }
    }

    #[test]
    fn short_things_stand_on_one_line() {
        let port = Fields::default().with("name", "http").with("port", Out::word(80));
        let fields = Fields::default().with("name", "web").with("ports", vec![port.into()]);
        assert_eq!(document(&fields), "name: web\nports: [{name: http, port: 80}]\n");
        let many = Fields::default().with("args", Out::texts(vec!["a-rather-long-argument"; 6]));
        let text = document(&Fields::default().with("container", many));
        assert!(text.starts_with("container:\n  args:\n  - a-rather-long-argument\n  - a"), "{text}");
    }
}
