//! Command lines as the words of an argument vector, as a POSIX shell would take them apart, without any expansion.

/// What a line comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// These words.
    Plain(Vec<String>),
    /// It needs a shell: pipes, redirections, variables, lists of commands.
    Shell,
}

/// Takes a line apart. A quote that is not closed needs a shell, too: it will say what is wrong.
pub(super) fn split(line: &str) -> Words {
    take_apart(line, false)
}

/// The same where no shell would ever see the line: what a shell gives a meaning to stands for itself.
pub(super) fn split_bare(line: &str) -> Vec<String> {
    match take_apart(line, true) {
        Words::Plain(words) => words,
        // A quote that is not closed.
        Words::Shell => line.split_whitespace().map(str::to_owned).collect(),
    }
}

fn take_apart(line: &str, bare: bool) -> Words {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Words::Shell,
                        Some('\'') => break,
                        Some(c) => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Words::Shell,
                        Some('$' | '`') if !bare => return Words::Shell,
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            None => return Words::Shell,
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                        },
                        Some(c) => word.push(c),
                    }
                }
            }
            '\\' => match chars.next() {
                None => return Words::Shell,
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
            },
            c if c.is_whitespace() => words.extend(word.take()),
            '#' if word.is_none() && !bare => break,
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '*' | '?' | '[' | '~' if !bare => {
                return Words::Shell;
            }
            '=' if words.is_empty() && !bare => return Words::Shell,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Words::Plain(words)
}

/// The words, or a shell that takes the line.
pub(super) fn or_shell(line: &str) -> Vec<String> {
    match split(line) {
        Words::Plain(words) if !words.is_empty() => words,
        _ => ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
    }
}

/// Text in an argument where it must stay as it is: neither `$(NAME)` nor `$$` means anything in it.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let after = rest[at..].trim_start_matches('$');
        let dollars = rest.len() - at - after.len();
        out += &rest[..at];
        // One by itself stands for itself anyway.
        let plain = dollars == 1 && !after.starts_with('(');
        out += &"$".repeat(if plain { 1 } else { 2 * dollars });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_apart_as_in_a_shell() {
        let cases: [(&str, Option<&[&str]>); 12] = [
            ("nginx -g 'daemon off;'", Some(&["nginx", "-g", "daemon off;"])),
            ("a  b\tc\n", Some(&["a", "b", "c"])),
            (r#"say "a \"b\" \n c""#, Some(&["say", r#"a "b" \n c"#])),
            (r"a\ b c", Some(&["a b", "c"])),
            ("a '' b", Some(&["a", "", "b"])),
            ("a # comment", Some(&["a"])),
            ("a --x=y", Some(&["a", "--x=y"])),
            ("a | b", None),
            ("A=b c", None),
            ("echo $HOME", None),
            ("echo \"$HOME\"", None),
            ("echo 'open", None),
        ];
        for (line, expected) in cases {
            let expected = match expected {
                Some(words) => Words::Plain(words.iter().map(|it| (*it).to_owned()).collect()),
                None => Words::Shell,
            };
            assert_eq!(split(line), expected, "{line}");
        }
        assert_eq!(or_shell("a | b"), ["/bin/sh", "-c", "a | b"]);
    }

    #[test]
    fn what_is_literal_comes_out_of_an_expansion_as_it_was() {
        for text in
            ["$", "a$", "$HOME", "$(HOME)", "echo $$ > pid", "$$(HOME)", "$$$(HOME)", "$$$$", "é$$é", "$ ("]
        {
            assert_eq!(hale_model::expand(&literal(text), |_| Some("x")), text);
        }
        assert_eq!(literal("$HOME"), "$HOME");
    }
}
