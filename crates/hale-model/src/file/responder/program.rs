//! Programs of a responder (R8).

use super::{size, source::path, time};
use crate::{
    file::{
        convert::{invalid, missing},
        de::{At, Cx, Field, shorten, suggest},
        error::{Code, Problem, Span},
        process::{absolute, command, environment, nonempty},
        raw_responder::{RawProgram, RawStdin},
        scalar::{Many, Text},
    },
    spec::{LABEL_PLACEHOLDER, PLACEHOLDERS, Program, Stdin, is_placeholder},
};

/// The most bytes of each output that are kept, unless the file says otherwise.
const MAX_OUTPUT: u64 = 10 << 20;

/// Reads a program.
pub(super) fn program(at: At<RawProgram>, what: &str, cx: &Cx<'_>) -> Program {
    let At { span, value: raw } = at;
    placeholders_of_env(&raw, what, cx);
    Program {
        command: arguments(raw.command, span, &format!("{what}.command"), cx),
        timeout: time(&raw.timeout, &format!("{what}.timeout"), cx),
        env: environment(raw.env, &format!("{what}.env"), cx),
        pass_env: pass_env(raw.pass_env, &format!("{what}.passEnv"), cx),
        user: raw.user.set().and_then(|at| nonempty(at, &format!("{what}.user"), cx)),
        prompt_file: path(&raw.prompt_file, &format!("{what}.promptFile"), cx),
        stdin: match raw.stdin.value() {
            Some(RawStdin::Prompt) => Stdin::Prompt,
            Some(RawStdin::None) => Stdin::None,
            Some(RawStdin::Alert) | None => Stdin::Alert,
        },
        max_output: size(&raw.max_output, &format!("{what}.maxOutput"), cx).unwrap_or(MAX_OUTPUT),
    }
}

/// The argument vector; its program is absolute or a bare name afterwards.
fn arguments(field: Field<Vec<Field<Text>>>, whole: Span, what: &str, cx: &Cx<'_>) -> Vec<String> {
    let field = match field {
        Field::Bad => return Vec::new(),
        Field::Absent => Field::Absent,
        Field::Set(At { span, value }) => {
            let mut words = Vec::with_capacity(value.len());
            for (n, word) in value.into_iter().enumerate() {
                match word {
                    Field::Bad => return Vec::new(),
                    Field::Absent => {
                        let problem = missing(span, format!("{what}[{n}]: has no value"));
                        cx.note(problem.help("write \"\" for an empty argument"));
                    }
                    Field::Set(at) => {
                        placeholders(&at, n == 0, &format!("{what}[{n}]"), cx);
                        words.push(at.value);
                    }
                }
            }
            Field::Set(At { span, value: words })
        }
    };
    let mut words = command(field, whole, what, cx);
    if let Some(program) = words.first_mut().filter(|it| it.contains('/')) {
        *program = absolute(program, cx).to_string_lossy().into_owned();
    }
    words
}

/// Every `$(NAME)` must be known: one that is not would reach the program as it stands, with nobody seeing it.
fn placeholders(at: &At<Text>, is_program: bool, what: &str, cx: &Cx<'_>) {
    for name in crate::expand::names_in(&at.value.0) {
        let found = shorten(&name);
        if is_program {
            let message = format!("{what}: the program itself can't hold $({found})");
            let problem = Problem::new(at.span, Code::InvalidValue, message);
            cx.note(problem.help("name one program; its arguments may hold placeholders"));
            return;
        }
        if is_placeholder(&name) {
            continue;
        }
        let message = match suggest(&name, PLACEHOLDERS) {
            Some(meant) => format!("{what}: there is no $({found}), did you mean $({meant})?"),
            None => format!("{what}: there is no $({found})"),
        };
        cx.note(Problem::new(at.span, Code::UnknownName, message).help(format!(
            "there are {} and {LABEL_PLACEHOLDER}<name>; $$({found}) is the text $({found})",
            PLACEHOLDERS.join(", ")
        )));
    }
}

fn placeholders_of_env(raw: &RawProgram, what: &str, cx: &Cx<'_>) {
    let Some(env) = raw.env.as_set() else { return };
    for (name, value) in &env.value {
        if is_placeholder(name) {
            let span = value.as_set().map_or(env.span, |at| at.span);
            let message = format!("{what}.env.{name}: is set by hale");
            cx.note(Problem::new(span, Code::Conflict, message).help("choose another name"));
        }
        if let Some(at) = value.as_set() {
            placeholders(at, false, &format!("{what}.env.{name}"), cx);
        }
    }
}

fn pass_env(field: Field<Many<Field<Text>>>, what: &str, cx: &Cx<'_>) -> Vec<String> {
    let given = field.value().map(|it| it.0).unwrap_or_default().into_iter().filter_map(Field::set);
    let mut names: Vec<String> = Vec::new();
    for at in given {
        let name = at.value.0;
        if name.contains('*') {
            let problem = invalid(at.span, format!("{what}: `{}` is a pattern", shorten(&name)));
            cx.note(problem.help("name each variable: what is not named stays secret to the program"));
        } else if name.is_empty() || name.contains(['=', '\0', '$', ' ']) {
            let message =
                format!("{what}: `{}` can't be the name of an environment variable", shorten(&name));
            cx.note(invalid(at.span, message).help("for example API_KEY; a value is given with env"));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
