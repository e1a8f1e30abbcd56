//! What only all documents of all files together can break: names, addresses, dependencies.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use miette::NamedSource;

use super::{
    Declared, Responders,
    convert::Placed,
    de::{At, suggest},
    error::{Code, FileError, Problem, Span},
    responder::PlacedResponder,
    tree::Node,
    write,
};
use crate::{
    document::Document,
    spec::{SourceKind, Target, Workload},
};

/// Everything read so far, each with the file it came from.
#[derive(Default)]
pub(super) struct Gathered {
    files: Vec<(PathBuf, Arc<NamedSource<String>>)>,
    pub(super) workloads: Vec<(usize, Placed<Workload>)>,
    pub(super) targets: Vec<(usize, Placed<Target>)>,
    pub(super) responders: Vec<(usize, PlacedResponder)>,
    /// All of them as documents, when they were asked for.
    pub(super) documents: Vec<Document>,
    /// Whether names may be declared elsewhere.
    open: bool,
    /// What is done with responders.
    on_responders: Responders,
}

impl Gathered {
    pub(super) fn add_file(&mut self, path: PathBuf, source: Arc<NamedSource<String>>) -> usize {
        self.files.push((path, source));
        self.files.len() - 1
    }

    /// Documents are gathered, and may refer to names that are not among them.
    pub(super) fn open(on_responders: Responders) -> Self {
        Self { open: true, on_responders, ..Self::default() }
    }

    pub(super) fn refuses_responders(&self) -> bool {
        self.on_responders == Responders::Refused
    }

    pub(super) fn document(&mut self, node: &Node, kind: &str, name: &str, digest: String, dir: &Path) {
        if self.open {
            let dir = dir.to_string_lossy().into_owned();
            let (kind, name) = (kind.to_owned(), name.to_owned());
            self.documents.push(Document { kind, name, dir, json: write::json(node), digest });
        }
    }

    pub(super) fn into_declared(self) -> Declared {
        Declared {
            workloads: self.workloads.into_iter().map(|(_, it)| Arc::new(it.value)).collect(),
            targets: self.targets.into_iter().map(|(_, it)| Arc::new(it.value)).collect(),
            responders: self.responders.into_iter().map(|(_, it)| Arc::new(it.placed.value)).collect(),
        }
    }

    fn error(&self, file: usize, problem: Problem) -> FileError {
        let (path, source) = &self.files[file];
        FileError::at(path.clone(), Arc::clone(source), problem)
    }

    fn place(&self, file: usize, span: Span) -> String {
        self.error(file, Problem::new(span, Code::Duplicate, "")).place()
    }

    /// Every name that something has, with its place.
    fn names(&self) -> impl Iterator<Item = (&str, usize, Span)> {
        let workloads = self.workloads.iter().map(|(file, it)| (it.value.name.as_str(), *file, it.name));
        let targets = self.targets.iter().map(|(file, it)| (it.value.name.as_str(), *file, it.name));
        workloads.chain(targets).filter(|(name, ..)| !name.is_empty())
    }
}

/// Checks all documents against each other.
pub(super) fn check(all: &Gathered, errors: &mut Vec<FileError>) {
    names(all, errors);
    responders(all, errors);
    addresses(all, errors);
    dependencies(all, errors);
}

/// One namespace for workloads, targets and replicas: `hale explain NAME` must mean one thing.
fn names(all: &Gathered, errors: &mut Vec<FileError>) {
    let mut first: HashMap<&str, (usize, Span)> = HashMap::new();
    let mut entries: Vec<_> = all.names().collect();
    entries.sort_by_key(|(_, file, span)| (*file, *span));
    for (name, file, span) in entries {
        if let Some((other, place)) = first.get(name) {
            let message = format!("name: {name} is declared twice, first at {}", all.place(*other, *place));
            let problem = Problem::new(span, Code::Duplicate, message);
            errors.push(all.error(file, problem.help("workloads and targets share their names")));
        } else {
            first.insert(name, (file, span));
        }
    }
    let replicas: HashMap<&str, u32> =
        all.workloads.iter().map(|(_, it)| (it.value.name.as_str(), it.value.replicas)).collect();
    for (name, file, span) in all.names() {
        let Some((workload, ordinal)) = name.rsplit_once('-') else { continue };
        let taken = ordinal.parse::<u32>().ok().filter(|n| n.to_string() == ordinal);
        if let (Some(ordinal), Some(count)) = (taken, replicas.get(workload))
            && ordinal < *count
        {
            let message = format!("name: {name} is the name of a replica of workload {workload}");
            errors.push(
                all.error(file, Problem::new(span, Code::Duplicate, message).help("choose another name")),
            );
        }
    }
}

/// Responders have names of their own: what they run is asked for by cluster and by run.
fn responders(all: &Gathered, errors: &mut Vec<FileError>) {
    let mut first: HashMap<&str, (usize, Span)> = HashMap::new();
    for (file, it) in &all.responders {
        let (name, span) = (it.placed.value.name.as_str(), it.placed.name);
        if name.is_empty() {
            continue;
        }
        if let Some((other, place)) = first.get(name) {
            let message = format!("name: {name} is declared twice, first at {}", all.place(*other, *place));
            errors.push(all.error(*file, Problem::new(span, Code::Duplicate, message)));
        } else {
            first.insert(name, (*file, span));
        }
    }
}

/// Addresses that something listens on, with what it is.
#[derive(Default)]
struct Listeners {
    all: Vec<(SocketAddr, String)>,
}

impl Listeners {
    /// Takes an address; if it is taken, what has it.
    fn take(&mut self, listen: SocketAddr, whose: String) -> Option<String> {
        if listen.port() == 0 {
            return None;
        }
        let clash = |it: &SocketAddr| {
            let any = it.ip().is_unspecified() || listen.ip().is_unspecified() || it.ip() == listen.ip();
            it.port() == listen.port() && any
        };
        let other = self.all.iter().find(|(it, _)| clash(it)).map(|(_, whose)| whose.clone());
        self.all.push((listen, whose));
        other
    }
}

fn addresses(all: &Gathered, errors: &mut Vec<FileError>) {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut taken = Listeners::default();
    for (file, placed) in &all.workloads {
        let (Some(service), Some(span)) = (&placed.value.service, placed.service) else { continue };
        let own = placed.value.name.as_str();
        if let Some(other) = names.insert(&service.name, own).filter(|other| *other != own) {
            let message = format!("service.name: {} is the service of workload {other}, too", service.name);
            errors.push(all.error(*file, Problem::new(span, Code::Duplicate, message)));
        }
        let Some(listen) = service.listen else { continue };
        if let Some(other) = taken.take(listen, format!("the service of workload {own}")) {
            let message = format!("service.listen: {listen} is taken by {other}");
            errors.push(all.error(*file, Problem::new(span, Code::Duplicate, message)));
        }
    }
    for (file, responder) in &all.responders {
        for (index, span) in &responder.listens {
            let source = &responder.placed.value.sources[*index];
            let SourceKind::Webhook(webhook) = &source.kind else { continue };
            if let Some(other) = taken.take(webhook.listen, format!("source {}", source.name)) {
                let message = format!("listen: {} is taken by {other}", webhook.listen);
                let problem = Problem::new(*span, Code::Duplicate, message);
                errors.push(all.error(*file, problem.help("each source has an address of its own")));
            }
        }
    }
}

fn dependencies(all: &Gathered, errors: &mut Vec<FileError>) {
    let known: BTreeSet<&str> = all.names().map(|(name, ..)| name).collect();
    for (file, placed) in &all.workloads {
        for At { span, value } in &placed.depends_on {
            if all.open || known.contains(value.as_str()) {
                continue;
            }
            let message = match suggest(value, known.iter().copied()) {
                Some(meant) => format!("dependsOn: nothing is named {value}, did you mean {meant}?"),
                None => format!("dependsOn: no workload or target is named {value}"),
            };
            errors.push(all.error(*file, Problem::new(*span, Code::UnknownName, message)));
        }
    }
    cycles(all, errors);
}

/// Tells every cycle once, at the dependency that closes it.
fn cycles(all: &Gathered, errors: &mut Vec<FileError>) {
    let by_name: HashMap<&str, usize> =
        all.workloads.iter().enumerate().map(|(at, (_, it))| (it.value.name.as_str(), at)).collect();
    // 0: not seen, 1: on the path, 2: done.
    let mut state = vec![0_u8; all.workloads.len()];
    for root in 0..all.workloads.len() {
        if state[root] != 0 {
            continue;
        }
        // A stack of our own: a chain of 100,000 dependencies is a valid file.
        let mut path: Vec<(usize, usize)> = vec![(root, 0)];
        state[root] = 1;
        while let Some((at, next)) = path.last_mut() {
            let (file, placed) = &all.workloads[*at];
            let Some(dependency) = placed.depends_on.get(*next) else {
                state[*at] = 2;
                path.pop();
                continue;
            };
            *next += 1;
            let Some(&to) = by_name.get(dependency.value.as_str()) else { continue };
            match state[to] {
                0 => {
                    state[to] = 1;
                    path.push((to, 0));
                }
                1 => {
                    let from = path.iter().position(|(it, _)| *it == to).unwrap_or(0);
                    let name = |at: usize| all.workloads[at].1.value.name.as_str();
                    let chain: Vec<&str> = path[from..].iter().map(|(it, _)| name(*it)).collect();
                    let message = format!("dependsOn: a cycle: {} → {}", chain.join(" → "), name(to));
                    let problem = Problem::new(dependency.span, Code::Cycle, message);
                    errors.push(all.error(
                        *file,
                        problem.help("none of them could ever start; take one dependency out"),
                    ));
                }
                _ => {}
            }
        }
    }
}

/// Each workload after those it depends on, else as they came. Cycles, which files can't hold, are cut.
pub(super) fn in_order(workloads: &[Arc<Workload>]) -> Vec<Arc<Workload>> {
    let by_name: HashMap<&str, usize> =
        workloads.iter().enumerate().map(|(at, it)| (it.name.as_str(), at)).collect();
    let mut seen = vec![false; workloads.len()];
    let mut order = Vec::with_capacity(workloads.len());
    for root in 0..workloads.len() {
        let mut path = if seen[root] { Vec::new() } else { vec![(root, 0)] };
        seen[root] = true;
        while let Some((at, next)) = path.last_mut() {
            let workload = &workloads[*at];
            let Some(dependency) = workload.depends_on.get(*next) else {
                order.push(Arc::clone(workload));
                path.pop();
                continue;
            };
            *next += 1;
            if let Some(&to) = by_name.get(dependency.as_str()).filter(|to| !seen[**to]) {
                seen[to] = true;
                path.push((to, 0));
            }
        }
    }
    order
}
