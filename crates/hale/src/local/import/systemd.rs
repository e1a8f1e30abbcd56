//! Unit files of systemd.

use std::time::Duration;

use hale_model::spec::ULIMITS;

use super::{
    draft::{Draft, label, seconds, size, span},
    ini::{Continued, Line, lines},
    out::{Fields, Out},
    source::Source,
    values::{bytes, time},
    words,
};
use crate::failure::Failure;

/// The workload of a service unit.
///
/// # Errors
/// There is no `ExecStart=` in it.
pub(super) fn import(source: &Source) -> Result<Option<Draft>, Failure> {
    let lines = lines(&source.text, Continued::ByBackslash);
    let file = source.file_name();
    let name = match file.strip_suffix(".service").unwrap_or(&file).trim_end_matches('@') {
        "" | "-" => {
            source.note(0, "a unit has its name from its file, and there is none here: named service");
            "service"
        }
        name => name,
    };
    if !lines.iter().any(|it| it.section == "Service" && it.key == "ExecStart") {
        return Err(
            source.wrong(0, "no ExecStart= in a [Service] section, this is no unit that hale can run")
        );
    }
    let mut unit =
        Unit { source, draft: Draft::named(name), kind: "simple".to_owned(), watchdog: None, always: false };
    for line in &lines {
        match line.section.as_str() {
            "Service" => unit.service(line),
            "Unit" => unit.unit(line),
            // Starting at boot is for the unit that hale itself is run by.
            _ => {}
        }
    }
    Ok(Some(unit.finish()))
}

struct Unit<'a> {
    source: &'a Source,
    draft: Draft,
    kind: String,
    watchdog: Option<Duration>,
    /// Whether it says `Restart=always`, which is what hale does by itself.
    always: bool,
}

impl Unit<'_> {
    fn note(&self, line: &Line, what: &str) {
        self.source.note(line.at, format!("{}=: {what}", line.key));
    }

    fn unit(&mut self, line: &Line) {
        match line.key.as_str() {
            "StartLimitBurst" => self.draft.restart.set("maxRestarts", Out::word(&line.value)),
            "StartLimitIntervalSec" | "StartLimitInterval" => self.restart_time(line, "restartWindow"),
            "Requires" | "BindsTo" | "Wants" => {
                let units: Vec<_> =
                    line.value.split_whitespace().filter(|it| it.ends_with(".service")).collect();
                if !units.is_empty() {
                    let names: Vec<_> =
                        units.iter().map(|it| label(it.trim_end_matches(".service"))).collect();
                    let what = format!(
                        "not carried over: dependsOn: [{}], once they are in hale, too",
                        names.join(", ")
                    );
                    self.note(line, &what);
                }
            }
            it if it.starts_with("Condition") || it.starts_with("Assert") => {
                self.note(line, "not carried over")
            }
            _ => {}
        }
    }

    fn service(&mut self, line: &Line) {
        let value = line.value.clone();
        match line.key.as_str() {
            "Type" => self.kind = value,
            "ExecStart" => self.exec(line),
            "Environment" => self.environment(line),
            "EnvironmentFile" => self.env_file(line),
            "WorkingDirectory" => {
                self.draft.process.set("workingDir", value.trim_start_matches('-').replace('~', "/root"));
            }
            "User" => self.draft.process.set("user", value),
            "Group" => self.draft.process.set("group", value),
            "Restart" => self.restart(line),
            "RestartSec" => self.restart_time(line, "initialBackoff"),
            "StartLimitBurst" | "StartLimitIntervalSec" | "StartLimitInterval" => self.unit(line),
            "RestartPreventExitStatus" => self.exit_codes(line),
            "TimeoutStopSec" => {
                let grace = span_of(&value).map(seconds);
                self.draft.rest.set_some("terminationGracePeriodSeconds", grace);
            }
            "KillSignal" => self.draft.rest.set("stopSignal", value),
            "WatchdogSec" => self.watchdog = span_of(&value),
            "MemoryMax" | "MemoryLimit" => {
                self.draft.resources.set_some("memory", bytes(&value, false).map(size));
            }
            "CPUQuota" => {
                let share = value.strip_suffix('%').and_then(|it| it.parse::<f64>().ok());
                self.draft.resources.set_some("cpu", share.map(|it| Out::word(it / 100.0)));
            }
            it if it.starts_with("Limit") => self.limit(line),
            "StandardOutput" | "StandardError" | "SyslogIdentifier" | "RemainAfterExit" | "NotifyAccess" => {}
            _ => self.note(line, "not carried over"),
        }
    }

    fn exec(&mut self, line: &Line) {
        let bare = line.value.trim_start_matches(['-', '@', ':', '+', '!']);
        if bare.len() < line.value.len() {
            self.note(line, "its prefix is not carried over");
        }
        if bare.contains('%') {
            self.note(line, "specifiers (%…) are not resolved: look at process.command");
        }
        if self.draft.process.get("command").is_some() {
            return self.note(line, "only one command is run, this one is not");
        }
        // `$NAME` and `${NAME}` are variables there, $(NAME) here.
        let words = words::split_bare(&bare.replace("${", "\u{1}").replace('$', "\u{2}"));
        let split = words.iter().filter_map(|it| it.strip_prefix('\u{2}'));
        for name in split.filter(|it| !it.is_empty() && it.bytes().all(is_name)) {
            let what = format!(
                "${name} is one word here, and stays as it is written where there is no such variable; systemd makes words \
                 of it, or none: look at process.command"
            );
            self.note(line, &what);
        }
        self.draft.process.set("command", Out::texts(words.iter().map(|it| variables(it))));
    }

    fn environment(&mut self, line: &Line) {
        let mut env = match self.draft.process.get("env") {
            Some(Out::Map(env)) => env.clone(),
            _ => Fields::default(),
        };
        // A leading word keeps the first assignment from being taken for one of a shell.
        if let words::Words::Plain(words) = words::split(&format!("env {}", line.value)) {
            for (name, value) in words.iter().skip(1).filter_map(|it| it.split_once('=')) {
                env.set(name, value);
            }
            self.draft.process.set("env", env);
        } else {
            self.note(line, "not understood, not carried over");
        }
    }

    fn env_file(&mut self, line: &Line) {
        let mut files = match self.draft.process.get("envFrom") {
            Some(Out::List(files)) => files.clone(),
            _ => Vec::new(),
        };
        if line.value.starts_with('-') {
            self.note(line, "here the file must be there");
        }
        files.push(Fields::default().with("file", line.value.trim_start_matches('-')).into());
        self.draft.process.set("envFrom", files);
    }

    fn restart(&mut self, line: &Line) {
        self.always = line.value == "always";
        match line.value.as_str() {
            "always" => {}
            "no" => self.draft.restart.set("policy", "never"),
            "on-failure" => self.draft.restart.set("policy", "on-failure"),
            other => {
                self.draft.restart.set("policy", "on-failure");
                self.note(line, &format!("{other} is taken as on-failure"));
            }
        }
    }

    fn restart_time(&mut self, line: &Line, field: &str) {
        self.draft.restart.set_some(field, span_of(&line.value).filter(|it| !it.is_zero()).map(span));
    }

    fn exit_codes(&mut self, line: &Line) {
        let codes: Vec<Out> =
            line.value.split_whitespace().filter_map(|it| it.parse::<i32>().ok()).map(Out::word).collect();
        self.draft.restart.set_some("permanentFailureCodes", Some(codes));
    }

    fn limit(&mut self, line: &Line) {
        let name = line.key.trim_start_matches("Limit").to_lowercase();
        if !ULIMITS.contains(&name.as_str()) {
            return self.note(line, "not carried over");
        }
        let one = |it: &str| Out::word(if it == "infinity" { "unlimited" } else { it });
        let value = match line.value.split_once(':') {
            Some((soft, hard)) => Out::List(vec![one(soft), one(hard)]),
            None => one(&line.value),
        };
        let limits = match self.draft.process.get("ulimits") {
            Some(Out::Map(limits)) => limits.clone(),
            _ => Fields::default(),
        };
        self.draft.process.set("ulimits", limits.with(name, value));
    }

    fn finish(mut self) -> Draft {
        if self.draft.restart.get("policy").is_none() && !self.always {
            self.draft.restart.set("policy", "never");
        }
        let notify = || Fields::default().with("notify", Fields::default());
        match self.kind.as_str() {
            "simple" | "exec" => {}
            "notify" | "notify-reload" => self.draft.probes.set("startupProbe", notify()),
            other => self.source.note(0, format!("Type={other}: hale runs what stays in the foreground")),
        }
        if let Some(watchdog) = self.watchdog.filter(|it| !it.is_zero()) {
            let probe =
                notify().with("periodSeconds", seconds(watchdog)).with("failureThreshold", Out::word(1));
            self.draft.probes.set("livenessProbe", probe);
        }
        self.draft
    }
}

/// `5min 20s`, `90`, `infinity`.
fn span_of(text: &str) -> Option<Duration> {
    let parts = text.split_whitespace().map(|it| {
        time(
            &it.replace("minutes", "m")
                .replace("min", "m")
                .replace("sec", "s")
                .replace("hours", "h")
                .replace("hr", "h"),
        )
    });
    parts.sum::<Option<Duration>>()
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn variables(word: &str) -> String {
    let mut out = String::new();
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1}' => {
                let name: String = chars.by_ref().take_while(|it| *it != '}').collect();
                out += &format!("$({name})");
            }
            '\u{2}' if chars.peek() == Some(&'\u{2}') => {
                chars.next();
                out += "$$";
            }
            '\u{2}' => {
                let mut name = String::new();
                while let Some(c) = chars.next_if(|it| it.is_ascii_alphanumeric() || *it == '_') {
                    name.push(c);
                }
                out += &if name.is_empty() { "$$".to_owned() } else { format!("$({name})") };
            }
            c => out.push(c),
        }
    }
    out
}
