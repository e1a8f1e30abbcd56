//! Placeholders (R8): what `$(NAME)` stands for, in arguments, in the environment and in prompts.
//!
//! What an alert says was written by somebody else. Each placeholder stays within its one argument; none can become an
//! option of the program, because an argument that begins with `-` only by its value is refused.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::alert::as_variable;

use super::Job;

/// One argument, or one variable, is at most so long to the kernel, its last NUL included.
pub(super) const MAX_ARGUMENT: usize = 128 * 1024;
/// What of an alert goes into one variable of the environment.
const MAX_VARIABLE: usize = 8 * 1024;
/// How many labels of an alert go into the environment.
const MAX_LABELS: usize = 64;

/// What a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The responder and its files.
    Own,
    /// The alert: anybody.
    Alert,
}

/// The values of one run.
#[derive(Debug, Clone)]
pub(super) struct Values {
    own: BTreeMap<&'static str, String>,
    alert: BTreeMap<&'static str, String>,
    labels: BTreeMap<String, String>,
}

/// The files of a workspace that placeholders name.
pub(super) fn alert_file(workspace: &Path) -> PathBuf {
    workspace.join("alert.json")
}

/// See [`alert_file`].
pub(super) fn prompt_file(workspace: &Path) -> PathBuf {
    workspace.join("prompt.md")
}

impl Values {
    pub(super) fn new(job: &Job, workspace: &Path) -> Self {
        let (run, alert) = (&job.run, &job.alert);
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        let own = BTreeMap::from([
            ("HALE_RUN_ID", run.id.clone()),
            ("HALE_CLUSTER", alert.cluster.clone()),
            ("HALE_WORKSPACE", shown(workspace)),
            ("HALE_SEVERITY", alert.severity.as_str().to_owned()),
            ("HALE_RULE", run.rule.clone()),
            ("HALE_STEP", run.step.to_string()),
            ("HALE_PROMPT_FILE", shown(&prompt_file(workspace))),
            ("HALE_ALERT_FILE", shown(&alert_file(workspace))),
        ]);
        let resource = &alert.resource;
        let alert_values = BTreeMap::from([
            ("HALE_FAULT_TYPE", alert.fault_type.clone()),
            ("HALE_KIND", resource.kind.clone()),
            ("HALE_NAME", resource.name.clone()),
            ("HALE_NAMESPACE", resource.namespace.clone().unwrap_or_default()),
            ("HALE_UID", resource.uid.clone().unwrap_or_default()),
            ("HALE_MESSAGE", alert.message.clone()),
        ]);
        Self { own, alert: alert_values, labels: alert.labels.clone() }
    }

    /// Adds the text of `prompt.md`, for arguments. It is the responder's own as a whole; that no option comes of it is
    /// seen to as with all others.
    pub(super) fn with_prompt(mut self, prompt: String) -> Self {
        self.own.insert("HALE_PROMPT", prompt);
        self
    }

    /// The value of a name, and where it comes from.
    pub(super) fn get(&self, name: &str) -> Option<(Origin, &str)> {
        let own = self.own.get(name).map(|it| (Origin::Own, it.as_str()));
        let alert = || self.alert.get(name).map(|it| (Origin::Alert, it.as_str()));
        own.or_else(alert).or_else(|| {
            let wanted = name.strip_prefix("HALE_LABEL_")?;
            let as_it_is = self.labels.get(wanted);
            let by_variable =
                || self.labels.iter().find(|(key, _)| as_variable(key) == wanted).map(|it| it.1);
            as_it_is.or_else(by_variable).map(|it| (Origin::Alert, it.as_str()))
        })
    }

    /// Puts values in; what an unknown name is told as.
    fn expand(&self, text: &str) -> Result<String, String> {
        let unknown = RefCell::new(None);
        let expanded = hale_model::expand(text, |name| {
            let value = self.get(name).map(|it| it.1);
            if value.is_none() {
                unknown.borrow_mut().get_or_insert_with(|| name.to_owned());
            }
            value
        });
        match unknown.into_inner() {
            None => Ok(expanded),
            Some(name) if name.starts_with("HALE_LABEL_") => {
                Err(format!("the alert has no label for $({name}) in {text:?}"))
            }
            Some(name) => {
                Err(format!("there is no $({name}), in {text:?}; write $$({name}) for the text itself"))
            }
        }
    }

    /// The argument vector, its first being the program as it is written.
    pub(super) fn arguments(&self, command: &[String]) -> Result<Vec<String>, String> {
        let program = command.first().filter(|it| !it.is_empty()).ok_or("the command is empty")?;
        if hale_model::expand(program, |_| Some("")) != *program {
            return Err(format!("the program itself takes no placeholders: {program:?}"));
        }
        let mut all = vec![program.clone()];
        let mut options_are_over = false;
        for written in &command[1..] {
            let argument = self.expand(written)?;
            if argument.contains('\0') {
                return Err(format!("the argument {written:?} would hold a NUL byte"));
            }
            if argument.len() >= MAX_ARGUMENT {
                let length = argument.len();
                return Err(format!(
                    "the argument {written:?} would have {length} bytes, and at most {} can be given: take a file or \
                     stdin",
                    MAX_ARGUMENT - 1
                ));
            }
            if argument.starts_with('-') && !written.starts_with('-') && !options_are_over {
                let begin: String = argument.chars().take(40).collect();
                return Err(format!(
                    "the argument {written:?} would begin with \"-\" by its value ({begin:?}) and could be taken for an \
                     option: write it after \"--\""
                ));
            }
            if is_script(&all, program) && self.holds_data(written) {
                return Err(format!(
                    "the argument {written:?} is a script for {program}, and what an alert says would become a part of \
                     it: write \"$HALE_NAME\" there, the variable, and not $(HALE_NAME)"
                ));
            }
            options_are_over |= written == "--";
            all.push(argument);
        }
        Ok(all)
    }

    /// Whether values from the alert would be put into this.
    fn holds_data(&self, written: &str) -> bool {
        let marked = hale_model::expand(written, |name| {
            self.get(name).map(|(origin, _)| if origin == Origin::Alert { "\0" } else { "" })
        });
        marked.contains('\0')
    }

    /// The variables of all names but the prompt, which can be longer than a variable may be. What comes of the alert is
    /// cut at 8 KiB, and its labels are 64 at most.
    pub(super) fn variables(&self) -> BTreeMap<String, String> {
        let named = self.own.iter().chain(&self.alert).filter(|(name, _)| **name != "HALE_PROMPT");
        let mut all: BTreeMap<String, String> =
            named.map(|(name, value)| ((*name).to_owned(), cut(value))).collect();
        for (key, value) in self.labels.iter().take(MAX_LABELS) {
            all.entry(format!("HALE_LABEL_{}", cut(&as_variable(key)))).or_insert_with(|| cut(value));
        }
        all
    }

    /// A value of the program's own environment.
    pub(super) fn value(&self, name: &str, written: &str) -> Result<String, String> {
        let value = self.expand(written).map_err(|error| format!("env {name}: {error}"))?;
        match value {
            value if value.contains('\0') => Err(format!("env {name} would hold a NUL byte")),
            value if value.len() + name.len() + 2 > MAX_ARGUMENT => {
                Err(format!("env {name} would have {} bytes, more than can be given", value.len()))
            }
            value => Ok(value),
        }
    }
}

/// Whether what follows these arguments may be a script: a shell anywhere before, and then an option with `c`, as in
/// `env sh -c`, `sh -c --`, `bash -c -x`.
fn is_script(before: &[String], program: &str) -> bool {
    let is_shell = |argument: &str| {
        let name = argument.rsplit('/').next().unwrap_or(argument);
        matches!(name, "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "busybox")
    };
    let takes = |it: &String| it.starts_with('-') && !it.starts_with("--") && it.contains('c');
    let mut all = std::iter::once(program).chain(before.iter().skip(1).map(String::as_str));
    let Some(shell) = all.position(is_shell) else { return false };
    let Some(option) = before.iter().skip(shell.max(1)).position(takes) else { return false };
    // After the script come its own arguments, which are data.
    let rest = &before[(shell.max(1) + option + 1).min(before.len())..];
    rest.iter().all(|it| it.starts_with('-') || it.starts_with('+'))
}

/// A text without NUL bytes, of at most 8 KiB.
fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_VARIABLE);
    text[..end].replace('\0', "\u{fffd}")
}
