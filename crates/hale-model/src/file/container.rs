//! Containers (N5).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    convert::{invalid, missing},
    de::{At, Cx, Field, shorten},
    error::{Code, Problem, Span},
    process::{absolute, env_files, environments, nonempty, ulimits},
    raw::RawResources,
    raw_container::{RawAdopt, RawContainer, RawSwitch, RawVolume},
    raw_probe::RawProbe,
    scalar::{Text, TextOr},
};
use crate::spec::{Container, ContainerFrom, Run, Volume};

/// Labels that begin so are hale's own.
const OWN_LABELS: &str = "dev.hale.";

pub(super) fn container(at: At<RawContainer>, cx: &Cx<'_>) -> Container {
    let At { span, value: raw } = at;
    refuse_for_adopted(&raw, cx);
    let (env, secret_env) = environments(raw.env, raw.secret_env, span, "container", cx);
    let ulimits = ulimits(raw.ulimits, "container", cx);
    if ulimits.contains_key("as") {
        let problem = invalid(span, "container.ulimits.as: engines can't set it for a container");
        cx.note(problem.help("resources: {memory: …} limits memory"));
    }
    Container {
        from: from(raw.image, raw.pull, raw.adopt, span, cx),
        command: words(raw.command, "container.command", cx),
        args: words(raw.args, "container.args", cx),
        env,
        secret_env,
        env_from: env_files(raw.env_from, "container", cx),
        working_dir: raw.working_dir.set().and_then(|at| inside(&at, "container.workingDir", cx)),
        user: raw.user.set().and_then(|at| nonempty(at, "container.user", cx)),
        volumes: volumes(raw.volumes, cx),
        network: raw.network.set().and_then(|at| nonempty(at, "container.network", cx)),
        labels: labels(raw.labels, cx),
        read_only: raw.read_only.value().unwrap_or(false),
        ulimits,
        healthcheck: !matches!(raw.healthcheck.value(), Some(RawSwitch::Off)),
    }
}

/// What of a workload can't be done for what it runs.
pub(super) fn fits(
    run: &Run,
    probes: [&Field<RawProbe>; 3],
    resources: Option<&At<RawResources>>,
    cx: &Cx<'_>,
) {
    let Some(container) = run.as_container() else { return };
    for at in probes.into_iter().filter_map(|it| it.as_set()?.value.notify.as_set()) {
        let message = "notify: a container has no way to report by itself";
        cx.note(
            Problem::new(at.span, Code::Conflict, message)
                .help("use httpGet, tcpSocket, grpc or exec, which runs inside; or the image's HEALTHCHECK"),
        );
    }
    if let (ContainerFrom::Adopted { .. }, Some(at)) = (&container.from, resources) {
        cx.note(adopted_already(at.span, "resources"));
    }
}

fn from(
    image: Field<Text>,
    pull: Field<crate::spec::Pull>,
    adopt: Field<RawAdopt>,
    whole: Span,
    cx: &Cx<'_>,
) -> ContainerFrom {
    match (image, adopt) {
        (image, Field::Set(at)) => {
            if image.is_written() {
                let problem =
                    Problem::new(at.span, Code::Conflict, "container: image and adopt, expected one of them");
                cx.note(
                    problem.help("hale makes containers of an image, or adopts those somebody else made"),
                );
            }
            ContainerFrom::Adopted { label: adopted(&at, cx) }
        }
        (Field::Set(at), _) => {
            ContainerFrom::Image { image: image_name(at, cx), pull: pull.value().unwrap_or_default() }
        }
        (Field::Absent, Field::Absent) => {
            cx.note(missing(whole, "container.image: missing").help("for example image: \"nginx:1.29\""));
            ContainerFrom::Image { image: String::new(), pull: crate::spec::Pull::Missing }
        }
        _ => ContainerFrom::Image { image: String::new(), pull: crate::spec::Pull::Missing },
    }
}

/// What an engine would refuse only when the container is to be started.
fn image_name(at: At<Text>, cx: &Cx<'_>) -> String {
    let name = at.value.0;
    let found = shorten(&name);
    // A registry's host may have capitals; what follows it may not.
    let repository =
        name.split_once('/').filter(|(host, _)| host.contains(['.', ':'])).map_or(&*name, |it| it.1);
    let repository = repository.split(['@', ':']).next().unwrap_or("");
    if name.is_empty() {
        cx.note(invalid(at.span, "container.image: is empty").help("for example image: \"nginx:1.29\""));
    } else if name.contains(char::is_whitespace) {
        cx.note(invalid(at.span, format!("container.image: `{found}` has spaces in it")));
    } else if name.contains("://") {
        let problem = invalid(at.span, format!("container.image: `{found}` is a URL, expected a name"));
        cx.note(problem.help("without https://, for example registry.example.com/team/web:1.2"));
    } else if repository.chars().any(|it| it.is_ascii_uppercase()) {
        let problem = invalid(at.span, format!("container.image: `{found}` has capitals in its name"));
        cx.note(problem.help("only a tag may have them"));
    } else if repository.is_empty() {
        cx.note(invalid(at.span, format!("container.image: `{found}` has no name")));
    }
    name
}

fn adopted(at: &At<RawAdopt>, cx: &Cx<'_>) -> (String, Option<String>) {
    let label = match &at.value.label {
        Field::Set(label) => label,
        Field::Bad => return (String::new(), None),
        Field::Absent => {
            let problem = missing(at.span, "container.adopt.label: missing");
            cx.note(problem.help("for example adopt: {label: \"autoheal=true\"}"));
            return (String::new(), None);
        }
    };
    let text = &label.value.0;
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text.as_str(), None),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        let found = shorten(text);
        let problem = invalid(label.span, format!("container.adopt.label: `{found}` is no label"));
        cx.note(problem.help("`name=value`, or `name` for any value"));
    }
    (name.to_owned(), value)
}

/// Whoever made a container decided what is in it: a field that would change nothing is a mistake.
fn refuse_for_adopted(raw: &RawContainer, cx: &Cx<'_>) {
    if !raw.adopt.is_written() {
        return;
    }
    fn span<T>(field: &Field<T>) -> Option<Span> {
        field.as_set().map(|at| at.span)
    }
    let written = [
        ("pull", span(&raw.pull)),
        ("command", span(&raw.command)),
        ("args", span(&raw.args)),
        ("env", span(&raw.env)),
        ("secretEnv", span(&raw.secret_env)),
        ("envFrom", span(&raw.env_from)),
        ("workingDir", span(&raw.working_dir)),
        ("user", span(&raw.user)),
        ("volumes", span(&raw.volumes)),
        ("network", span(&raw.network)),
        ("labels", span(&raw.labels)),
        ("readOnly", span(&raw.read_only)),
        ("ulimits", span(&raw.ulimits)),
    ];
    for (name, span) in written {
        if let Some(span) = span {
            cx.note(adopted_already(span, &format!("container.{name}")));
        }
    }
}

fn adopted_already(span: Span, field: &str) -> Problem {
    let message = format!("{field}: has no effect on containers that somebody else made");
    Problem::new(span, Code::Conflict, message).help("leave it out, or give an image in place of adopt")
}

fn words(field: Field<Vec<Text>>, what: &str, cx: &Cx<'_>) -> Vec<String> {
    let Field::Set(at) = field else { return Vec::new() };
    let words: Vec<String> = at.value.into_iter().map(|it| it.0).collect();
    let program = words.first().map(String::as_str);
    if what == "container.command" && program.is_some_and(|it| it.trim().is_empty()) {
        cx.note(invalid(at.span, format!("{what}: its first word, the program, is empty")));
    }
    if what == "container.command" && words.len() == 1 && program.is_some_and(|it| it.trim().contains(' ')) {
        let found = shorten(program.unwrap_or_default());
        let problem = invalid(at.span, format!("{what}: `{found}` is one word with spaces in it"));
        cx.note(problem.help("give each argument as an item of the list; no shell takes the line apart"));
    }
    if words.iter().any(|it| it.contains('\0')) {
        cx.note(invalid(at.span, format!("{what}: a NUL character can't be passed to a program")));
    }
    words
}

/// A path inside a container.
fn inside(at: &At<Text>, what: &str, cx: &Cx<'_>) -> Option<String> {
    let path = &at.value.0;
    if !path.starts_with('/') || path.contains('\0') {
        let found = shorten(path);
        let problem = invalid(at.span, format!("{what}: `{found}` is not an absolute path"));
        cx.note(problem.help("it is a path inside the container, such as /srv/app"));
        return None;
    }
    Some(path.clone())
}

fn labels(field: Field<BTreeMap<String, Field<Text>>>, cx: &Cx<'_>) -> BTreeMap<String, String> {
    let Field::Set(At { span, value }) = field else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for (name, value) in value {
        if name.is_empty() || name.starts_with(OWN_LABELS) {
            let found = shorten(&name);
            let message =
                format!("container.labels: `{found}` can't be given, labels of hale begin with {OWN_LABELS}");
            cx.note(invalid(span, message));
        }
        match value {
            Field::Bad => {}
            // Labels without a value are usual.
            Field::Absent => {
                all.insert(name, String::new());
            }
            Field::Set(at) => {
                all.insert(name, at.value.0);
            }
        }
    }
    all
}

fn volumes(field: Field<Vec<Field<TextOr<RawVolume>>>>, cx: &Cx<'_>) -> Vec<Volume> {
    let mut targets = BTreeSet::new();
    let mut all = Vec::new();
    for at in field.value().unwrap_or_default().into_iter().filter_map(Field::set) {
        let span = at.span;
        let volume = match at.value {
            TextOr::Short(text) => short_volume(&text, span, cx),
            TextOr::Full(raw) => full_volume(raw, span, cx),
        };
        let Some(volume) = volume else { continue };
        if !targets.insert(volume.target.trim_end_matches('/').to_owned()) {
            let message = format!("container.volumes: {} is the target of two volumes", volume.target);
            cx.note(Problem::new(span, Code::Duplicate, message));
        }
        all.push(volume);
    }
    all
}

/// `./data:/data`, `data:/data:ro`.
fn short_volume(text: &str, span: Span, cx: &Cx<'_>) -> Option<Volume> {
    let mut parts = text.split(':');
    let (source, target, options) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    let found = shorten(text);
    let example = "for example ./data:/data or ./etc:/etc/app:ro";
    let (Some(target), None) = (target, parts.next()) else {
        cx.note(invalid(span, format!("container.volumes: `{found}` is not source:target")).help(example));
        return None;
    };
    let read_only = match options {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(other) => {
            let found = shorten(other);
            let problem =
                invalid(span, format!("container.volumes: expected ro or rw at the end, found `{found}`"));
            cx.note(problem.help(example));
            false
        }
    };
    let target = inside(&At { span, value: Text(target.to_owned()) }, "container.volumes: the target", cx)?;
    Some(Volume { source: source_of(source, span, cx)?, target, read_only })
}

fn full_volume(raw: RawVolume, whole: Span, cx: &Cx<'_>) -> Option<Volume> {
    for (name, field) in [("source", &raw.source), ("target", &raw.target)] {
        if matches!(field, Field::Absent) {
            let problem = missing(whole, format!("container.volumes: a volume has no {name}"));
            cx.note(problem.help("for example {source: ./data, target: /data}"));
        }
    }
    let source = raw.source.set().and_then(|at| source_of(&at.value.0, at.span, cx));
    let target = raw.target.set().and_then(|at| inside(&at, "container.volumes: the target", cx));
    Some(Volume { source: source?, target: target?, read_only: raw.read_only.value().unwrap_or(false) })
}

/// A path of this machine, made absolute, or the name of a volume.
fn source_of(text: &str, span: Span, cx: &Cx<'_>) -> Option<String> {
    if text.starts_with(['/', '.']) {
        return Some(absolute(text, cx).to_string_lossy().into_owned());
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if text.chars().all(fine) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Some(text.to_owned());
    }
    let found = shorten(text);
    let problem =
        invalid(span, format!("container.volumes: `{found}` is neither a path nor the name of a volume"));
    cx.note(problem.help("a path begins with / or ./ (relative to this file); ~ is not known here"));
    None
}
