//! What the files of the project look like: small enough to read, and about the project alone.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Outcome, run};

/// More lines than this and a source file is two files.
const MOST_LINES: usize = 500;

/// In its first lines, this says that a program wrote the file.
const GENERATED: &str = "@generated";

/// Looks at every file that git knows or would add.
pub(super) fn check() -> Outcome {
    let root = run::root();
    let listed = run::read(run::program("git").args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]))?;
    let mut wrong = Vec::new();
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        // What is not text, or was deleted and not yet committed, has nothing to read.
        if let Ok(text) = fs::read_to_string(root.join(name)) {
            wrong.extend(faults(name, &text, &root));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("\n  {}", wrong.join("\n  "))) }
}

/// What is wrong with one file.
fn faults(name: &str, text: &str, root: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    let path = PathBuf::from(name);
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
    let generated = text.lines().take(5).any(|line| line.contains(GENERATED));
    let lines = text.lines().count();
    if extension == "rs" && !generated && lines > MOST_LINES {
        wrong.push(format!("{name}: {lines} lines, at most {MOST_LINES}: split it by idea"));
    }
    if extension == "lock" || name == "LICENSE" {
        return wrong;
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(word) = unwanted(line, root) {
            wrong.push(format!("{name}:{}: `{word}` does not belong into the project", number + 1));
        }
    }
    wrong
}

/// The first thing in a line that is about somebody's machine, or was left for later.
fn unwanted(line: &str, root: &Path) -> Option<String> {
    let root = root.to_string_lossy();
    // Written in two parts, so that this file passes its own check.
    let homes = [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/")];
    let later = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X:")];
    if root.len() > 3 && line.contains(&*root) {
        return Some(root.into_owned());
    }
    homes.iter().chain(&later).find(|word| line.contains(**word)).map(|word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "/src/hale-checkout";

    #[test]
    fn a_long_source_file_is_told_and_a_generated_one_is_not() {
        let long = "fn a() {}\n".repeat(501);
        assert_eq!(faults("a.rs", &long, Path::new(ROOT)).len(), 1);
        assert!(faults("a.rs", &format!("// {GENERATED}\n{long}"), Path::new(ROOT)).is_empty());
        assert!(faults("a.rs", &"fn a() {}\n".repeat(500), Path::new(ROOT)).is_empty());
        assert!(faults("a.md", &long, Path::new(ROOT)).is_empty());
    }

    #[test]
    fn the_folder_of_the_checkout_is_told_with_its_line() {
        let text = format!("one\nsee {ROOT}/target\n");
        let wrong = faults("notes.md", &text, Path::new(ROOT));
        assert_eq!(wrong, [format!("notes.md:2: `{ROOT}` does not belong into the project")]);
    }

    #[test]
    fn what_was_left_for_later_is_told() {
        let text = concat!("// TO", "DO: later\n");
        assert_eq!(faults("a.rs", text, Path::new(ROOT)).len(), 1);
    }
}
