//! Ecosystem files of PM2, as JSON or YAML.

use std::time::Duration;

use hale_model::file::{Kind, Node};

use super::{
    draft::{Draft, seconds, size, span},
    out::{Fields, Out},
    source::Source,
    values::{bytes, entries, items, number_at, pairs, text, text_at, time},
    words,
};
use crate::failure::Failure;

/// The workloads of an ecosystem file.
///
/// # Errors
/// It is a program rather than data, or names no apps.
pub(super) fn import(source: &Source) -> Result<Vec<Draft>, Failure> {
    if source.text.contains("module.exports") {
        let name = source.file_name();
        let what = format!(
            "a program can't be read: write what it says as JSON first, node -p \
             'JSON.stringify(require(\"./{name}\"))' > ecosystem.json"
        );
        return Err(source.wrong(0, &what));
    }
    let documents = source.documents()?;
    let Some(root) = documents.first() else { return Err(source.wrong(0, "nothing is in it")) };
    let apps = root.get("apps").unwrap_or(root);
    let apps: Vec<&Node> = match &apps.kind {
        Kind::Seq(apps) => apps.iter().map(|it| &**it).collect(),
        _ => vec![apps],
    };
    let apps = apps.into_iter().filter(|it| it.get("script").is_some());
    let drafts: Vec<Draft> = apps.map(|app| App { source, app }.draft()).collect();
    if drafts.is_empty() {
        return Err(source.wrong(root.start(), "apps: none has a script"));
    }
    Ok(drafts)
}

struct App<'a> {
    source: &'a Source,
    app: &'a Node,
}

impl App<'_> {
    fn draft(&self) -> Draft {
        let script = text_at(self.app, &["script"]).unwrap_or_default();
        let name = text_at(self.app, &["name"]).unwrap_or(script);
        let mut draft = Draft::named(name);
        draft.process.set("command", Out::texts(self.command(script)));
        for (key, node) in entries(self.app).iter().filter(|(_, it)| !it.is_null()) {
            let value = text(node).unwrap_or_default();
            let note = |what: &str| self.source.note_key(key, format!("{name}: {}: {what}", key.text));
            match key.text.as_str() {
                "name" | "script" | "args" | "interpreter" | "interpreter_args" | "node_args"
                | "exec_interpreter" => {}
                "cwd" => draft.process.set("workingDir", value),
                "env" => {
                    // hale gives it, by the port.
                    let own = pairs(node).into_iter().filter(|(_, name, _)| name != "PORT");
                    let env = own.fold(Fields::default(), |env, (_, name, value)| {
                        env.with(name, value.unwrap_or_default())
                    });
                    draft.process.set_some("env", Some(env));
                }
                "instances" => match value.parse::<u64>() {
                    Ok(count) if count > 0 => draft.replicas = Some(count),
                    _ => note("one per CPU is not carried over: give replicas"),
                },
                "exec_mode" if value.starts_with("cluster") => {
                    note("replicas share no port: each has its own (ports, service), read PORT");
                }
                "exec_mode" | "merge_logs" | "out_file" | "error_file" | "log_file" | "log_date_format"
                | "time" => {}
                "autorestart" if value == "false" => draft.restart.set("policy", "never"),
                "autorestart" => {}
                "max_restarts" => draft.restart.set("maxRestarts", Out::word(value)),
                "min_uptime" => draft.restart.set_some("minUptime", millis(value).map(span)),
                "restart_delay" | "exp_backoff_restart_delay" => {
                    draft.restart.set_some("initialBackoff", millis(value).map(span));
                }
                "max_memory_restart" => draft.resources.set_some("memory", bytes(value, false).map(size)),
                "kill_timeout" => {
                    draft.rest.set_some("terminationGracePeriodSeconds", millis(value).map(seconds));
                }
                "watch" if value == "false" => {}
                "wait_ready" => note("not carried over: give a startupProbe and a readinessProbe"),
                _ => note("not carried over"),
            }
        }
        let port = number_at(self.app, &["env", "PORT"]).and_then(|it| u16::try_from(it).ok());
        if let Some(port) = port.filter(|it| *it > 0) {
            // Several on one machine can't have one port.
            let several = draft.replicas.unwrap_or(1) > 1;
            draft.add_port(Some("http"), if several { 0 } else { port }, None);
        }
        draft
    }

    fn command(&self, script: &str) -> Vec<String> {
        let list = |key: &str| match self.app.get(key) {
            Some(node) if !items(node).is_empty() => {
                items(node).iter().filter_map(|it| text(it).map(str::to_owned)).collect()
            }
            Some(node) => text(node).map(words::split_bare).unwrap_or_default(),
            None => Vec::new(),
        };
        let interpreter = text_at(self.app, &["interpreter"]).or(text_at(self.app, &["exec_interpreter"]));
        let usual = match script.rsplit_once('.').map(|it| it.1) {
            Some("js" | "mjs" | "cjs") => Some("node"),
            Some("py") => Some("python3"),
            Some("sh") => Some("/bin/sh"),
            Some("rb") => Some("ruby"),
            _ => None,
        };
        let mut command: Vec<String> =
            interpreter.or(usual).filter(|it| *it != "none").map(str::to_owned).into_iter().collect();
        command.extend(list("node_args"));
        command.extend(list("interpreter_args"));
        command.push(script.to_owned());
        command.extend(list("args"));
        command.iter().map(|it| words::literal(it)).collect()
    }
}

/// A bare number is in milliseconds.
fn millis(text: &str) -> Option<Duration> {
    text.parse::<u64>().map(Duration::from_millis).ok().or_else(|| time(text))
}
