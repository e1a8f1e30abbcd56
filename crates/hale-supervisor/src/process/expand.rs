//! `$(NAME)` in an argument vector, as Kubernetes has it.

/// Replaces each `$(NAME)` by the value of that name; `$$` stands for one dollar sign, so that `$$(NAME)` is
/// `$(NAME)` as written. A name that has no value is left as it stands.
#[must_use]
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|it| it.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(&value),
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::expand;

    #[rstest]
    #[case("--port=$(PORT)", "--port=80")]
    #[case("$(PORT)$(PORT)", "8080")]
    #[case("$$(PORT)", "$(PORT)")]
    #[case("$$$(PORT)", "$80")]
    #[case("$(NONE)", "$(NONE)")]
    #[case("$(PORT", "$(PORT")]
    #[case("$PORT and $", "$PORT and $")]
    #[case("é$(PORT)é", "é80é")]
    fn a_reference_stands_for_its_value(#[case] text: &str, #[case] expanded: &str) {
        assert_eq!(expand(text, |name| (name == "PORT").then(|| "80".to_owned())), expanded);
    }
}
