//! Processes (N4).

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use super::{
    convert::{invalid, missing},
    de::{At, Cx, Field, shorten, suggest},
    error::{Code, Problem, Span},
    raw::{RawEnvFrom, RawProcess, RawUlimit},
    scalar::{Many, Text},
};
use crate::spec::{Process, ULIMITS};

pub(super) fn process(at: At<RawProcess>, cx: &Cx<'_>) -> Process {
    let At { span, value: raw } = at;
    let (env, secret_env) = environments(raw.env, raw.secret_env, span, "process", cx);
    Process {
        command: command(raw.command, span, "process.command", cx),
        env,
        secret_env,
        env_from: env_files(raw.env_from, "process", cx),
        working_dir: raw.working_dir.value().map_or_else(|| cx.dir.to_path_buf(), |it| absolute(&it.0, cx)),
        user: raw.user.set().and_then(|at| nonempty(at, "process.user", cx)),
        group: raw.group.set().and_then(|at| nonempty(at, "process.group", cx)),
        ulimits: ulimits(raw.ulimits, "process", cx),
    }
}

/// Reads an argument vector.
pub(super) fn command(field: Field<Vec<Text>>, whole: Span, what: &str, cx: &Cx<'_>) -> Vec<String> {
    let example = "for example [\"./web\", \"--port\", \"$(PORT)\"]";
    match field {
        Field::Bad => Vec::new(),
        Field::Absent => {
            cx.note(missing(whole, format!("{what}: missing")).help(example));
            Vec::new()
        }
        Field::Set(at) => {
            let words: Vec<String> = at.value.into_iter().map(|it| it.0).collect();
            match words.first().map(|it| it.trim()) {
                None => cx.note(invalid(at.span, format!("{what}: is empty")).help(example)),
                Some("") => {
                    cx.note(invalid(at.span, format!("{what}: its first word, the program, is empty")))
                }
                Some(program) if words.len() == 1 && program.contains(char::is_whitespace) => cx.note(
                    invalid(at.span, format!("{what}: `{}` is one word with spaces in it", shorten(program)))
                        .help("give each argument as an item of the list; no shell takes the line apart"),
                ),
                Some(_) => {}
            }
            if words.iter().any(|word| word.contains('\0')) {
                cx.note(invalid(at.span, format!("{what}: a NUL character can't be passed to a program")));
            }
            words
        }
    }
}

/// What is shown and what is not, as two.
pub(super) fn environments(
    env: Field<BTreeMap<String, Field<Text>>>,
    secret: Field<BTreeMap<String, Field<Text>>>,
    whole: Span,
    of: &str,
    cx: &Cx<'_>,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let mut env = environment(env, &format!("{of}.env"), cx);
    let secret = environment(secret, &format!("{of}.secretEnv"), cx);
    for name in secret.keys() {
        if env.remove(name).is_some() {
            let message = format!("{of}: {name} is in env and in secretEnv");
            cx.note(Problem::new(whole, Code::Conflict, message));
        }
    }
    (env, secret)
}

/// Variables of an environment.
pub(super) fn environment(
    field: Field<BTreeMap<String, Field<Text>>>,
    what: &str,
    cx: &Cx<'_>,
) -> BTreeMap<String, String> {
    let Field::Set(At { span, value }) = field else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for (name, value) in value {
        if name.is_empty() || name.contains(['=', '\0']) {
            let found = shorten(&name);
            cx.note(invalid(span, format!("{what}: `{found}` can't be the name of an environment variable")));
        }
        match value {
            Field::Bad => {}
            Field::Absent => {
                cx.note(
                    missing(span, format!("{what}.{name}: has no value")).help("write \"\" for an empty one"),
                );
            }
            Field::Set(at) => {
                if at.value.0.contains('\0') {
                    cx.note(invalid(at.span, format!("{what}.{name}: holds a NUL character")));
                }
                all.insert(name, at.value.0);
            }
        }
    }
    all
}

pub(super) fn env_files(field: Field<Many<Field<RawEnvFrom>>>, of: &str, cx: &Cx<'_>) -> Vec<PathBuf> {
    let entries = field.value().map(|it| it.0).unwrap_or_default().into_iter().filter_map(Field::set);
    entries.filter_map(|at| env_file(at, of, cx)).collect()
}

fn env_file(at: At<RawEnvFrom>, of: &str, cx: &Cx<'_>) -> Option<PathBuf> {
    match at.value.file {
        Field::Set(file) => Some(absolute(&file.value.0, cx)),
        Field::Bad => None,
        Field::Absent => {
            cx.note(missing(at.span, format!("{of}.envFrom: an entry without a file")));
            None
        }
    }
}

pub(super) fn nonempty(at: At<Text>, what: &str, cx: &Cx<'_>) -> Option<String> {
    if at.value.0.is_empty() {
        cx.note(invalid(at.span, format!("{what}: is empty")));
        return None;
    }
    Some(at.value.0)
}

pub(super) fn ulimits(
    field: Field<BTreeMap<String, Field<RawUlimit>>>,
    of: &str,
    cx: &Cx<'_>,
) -> BTreeMap<String, (u64, u64)> {
    let Field::Set(At { span, value }) = field else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for (name, limit) in value {
        if !ULIMITS.contains(&name.as_str()) {
            let problem = Problem::new(
                span,
                Code::UnknownField,
                match suggest(&name, ULIMITS) {
                    Some(meant) => format!("{of}.ulimits.{name}: unknown limit, did you mean {meant}?"),
                    None => format!("{of}.ulimits.{name}: unknown limit"),
                },
            );
            cx.note(problem.help(format!("there are {}", ULIMITS.join(", "))));
            continue;
        }
        let Some(at) = limit.set() else { continue };
        match at.value.0.0.as_slice() {
            [both] => {
                all.insert(name, (both.0, both.0));
            }
            [soft, hard] if soft.0 <= hard.0 => {
                all.insert(name, (soft.0, hard.0));
            }
            _ => cx.note(
                invalid(
                    at.span,
                    format!(
                        "{of}.ulimits.{name}: expected one number, or soft and hard with soft not above hard"
                    ),
                )
                .help("for example 1024 or [1024, 4096]"),
            ),
        }
    }
    all
}

/// A path relative to the file's directory, with `.` and `..` taken out where that needs no look at the disk.
pub(super) fn absolute(path: &str, cx: &Cx<'_>) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in cx.dir.join(Path::new(path)).components() {
        match part {
            Component::CurDir => {}
            part => whole.push(part),
        }
    }
    whole
}
