//! `$(NAME)` in commands, by the rules of Kubernetes.

use std::cell::RefCell;

/// Puts values in for `$(NAME)`.
///
/// A name that `value_of` does not know stays as it is written; `$$` is a dollar sign, so `$$(NAME)` is the text
/// `$(NAME)`. Any other `$` is just a `$`. Values are not expanded again.
#[must_use]
pub fn expand<V: AsRef<str>>(text: &str, value_of: impl Fn(&str) -> Option<V>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|it| it.split_once(')')) {
            match value_of(name) {
                Some(value) => out.push_str(value.as_ref()),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The names in a text that [`expand`] would ask for, in its order.
#[must_use]
pub fn names_in(text: &str) -> Vec<String> {
    let names = RefCell::new(Vec::new());
    let _ = expand(text, |name| {
        names.borrow_mut().push(name.to_owned());
        None::<&str>
    });
    names.into_inner()
}

#[cfg(test)]
mod tests {
    use super::{expand, names_in};

    #[test]
    fn escaped_and_unfinished_names_are_none() {
        assert_eq!(names_in("$(A) $$(B) $$$(C)$(D e) $(E"), ["A", "C", "D e"]);
    }

    #[test]
    fn names_are_put_in_and_dollars_escape() {
        let value = |name: &str| match name {
            "A" => Some("a"),
            "B" => Some("$(A)"),
            "E" => Some(""),
            _ => None,
        };
        for (text, expected) in [
            ("plain", "plain"),
            ("$(A)", "a"),
            ("x$(A)y$(A)", "xaya"),
            ("$(B)", "$(A)"),
            ("$(E)", ""),
            ("$(NONE)", "$(NONE)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$$$$(A)", "$$(A)"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("$($(A))", "$($(A))"),
            ("é$(A)é", "éaé"),
        ] {
            assert_eq!(expand(text, value), expected, "{text}");
        }
    }
}
