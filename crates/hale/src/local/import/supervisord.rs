//! `supervisord.conf`: a workload per `[program:…]`.

use super::{
    draft::Draft,
    ini::{Continued, Line, lines},
    out::{Fields, Out},
    source::Source,
    words,
};
use crate::failure::Failure;

/// The workloads of a configuration.
///
/// # Errors
/// There is no program in it.
pub(super) fn import(source: &Source) -> Result<Vec<Draft>, Failure> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut last = String::new();
    for line in lines(&source.text, Continued::ByIndent) {
        let Some(name) = line.section.strip_prefix("program:") else {
            let own = ["supervisord", "supervisorctl", "unix_http_server", "inet_http_server"];
            let known = own.contains(&line.section.as_str()) || line.section.starts_with("rpcinterface:");
            if !known && last != line.section {
                source.note(line.at, format!("[{}]: not carried over", line.section));
            }
            last.clone_from(&line.section);
            continue;
        };
        if last != line.section {
            drafts.push(Draft::named(name));
            last.clone_from(&line.section);
        }
        if let Some(draft) = drafts.last_mut() {
            program(source, name, &line, draft);
        }
    }
    if drafts.is_empty() {
        return Err(source.wrong(0, "no [program:…] in it"));
    }
    for draft in drafts.iter_mut().filter(|it| it.restart.get("policy").is_none()) {
        // supervisord's own default: after exits that were not expected.
        draft.restart.set("policy", "on-failure");
    }
    Ok(drafts)
}

fn program(source: &Source, name: &str, line: &Line, draft: &mut Draft) {
    // A comment may stand after a value.
    let value = line.value.split(" ;").next().unwrap_or_default().trim().replace("%(program_name)s", name);
    let note = |what: &str| source.note(line.at, format!("{}: {}: {what}", draft_name(name), line.key));
    if value.contains("%(") {
        note("expressions (%(…)s) are not resolved");
    }
    match line.key.as_str() {
        "command" => {
            let words = words::or_shell(&value).into_iter().map(|it| words::literal(&it));
            draft.process.set("command", Out::texts(words));
        }
        "directory" => draft.process.set("workingDir", value),
        "user" => draft.process.set("user", value),
        "environment" => draft.process.set_some("env", Some(environment(&value))),
        "numprocs" => draft.replicas = value.parse().ok(),
        "autorestart" => match value.as_str() {
            "true" => draft.restart.set("policy", "always"),
            "false" => draft.restart.set("policy", "never"),
            _ => draft.restart.set("policy", "on-failure"),
        },
        "startretries" => draft.restart.set("maxRestarts", Out::word(&value)),
        "startsecs" if value != "0" => draft.restart.set("minUptime", Out::word(format!("{value}s"))),
        "stopsignal" => draft.rest.set("stopSignal", format!("SIG{}", value.trim_start_matches("SIG"))),
        "stopwaitsecs" => draft.rest.set("terminationGracePeriodSeconds", Out::word(&value)),
        "exitcodes" if value != "0" => note("not carried over: 0 alone is a good end"),
        "autostart" if value == "false" => {
            note("not carried over: what is declared runs (hale stop holds it)")
        }
        "priority" => note("not carried over: dependsOn orders starts"),
        "umask" | "serverurl" => note("not carried over"),
        // Output is kept by hale, and groups are always stopped and killed as a whole.
        _ => {}
    }
}

fn draft_name(name: &str) -> String {
    format!("program {name}")
}

/// `A="1",B="two, three"`.
fn environment(text: &str) -> Fields {
    let mut fields = Fields::default();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let quote = after.chars().next().filter(|it| "\"'".contains(*it));
        let (value, more) = match quote {
            Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        fields.set(name.trim(), value.trim());
        rest = more.trim_start_matches([',', ' ', '\n']);
    }
    fields
}
