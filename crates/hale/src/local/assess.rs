//! `hale assess FILE…|-` (C5, C11): judges Kubernetes objects offline, as `kubectl get -o json` prints them.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use hale_kube::{
    dump::{Dump, DumpError},
    judge::{Kind, Settings, Verdict},
};
use hale_model::Status;
use jiff::Timestamp;
use owo_colors::OwoColorize;
use serde::Serialize;

use crate::{
    cli::AssessArgs,
    failure::Failure,
    output,
    remote::table::{self, Table},
};

/// The most that one file may hold: many times what a whole cluster's objects are.
const LARGEST: u64 = 2 << 30;

/// Controllers that are not in the files: so many are named.
const MOST_NAMED: usize = 5;

/// What is told to programs.
#[derive(Serialize)]
struct Assessment {
    /// The moment of the judgement.
    at: Timestamp,
    objects: Vec<Verdict>,
}

/// Judges the objects in the files and prints each top-level workload. Exits 0 whatever the verdict, unless asked.
pub(crate) fn run(args: &AssessArgs) -> Result<(), Failure> {
    let mut dump = Dump::default();
    let mut from_stdin = false;
    for path in &files(&args.files)? {
        let bytes = if path == Path::new("-") {
            if std::mem::replace(&mut from_stdin, true) {
                return Err(Failure::Usage("standard input (-) can be read once".to_owned()));
            }
            read(path, io::stdin().lock())?
        } else {
            let file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
            read(path, file)?
        };
        dump.read(&bytes).map_err(|error| wrong(path, &error))?;
    }
    // Objects that tell of no moment at all were not asked of a cluster: then it is now.
    let at = args.at.or(dump.newest).unwrap_or_else(Timestamp::now);
    let assessment = Assessment { at, objects: dump.world.judge(at, &Settings::default()) };
    tell_what_is_left_out(&dump, assessment.objects.is_empty());
    output::write_value(&assessment, args.output.output, |out| draw(out, &assessment.objects))?;
    let bad = assessment.objects.iter().filter(|it| it.status != Status::Healthy).count();
    if args.exit_code && bad > 0 {
        return Err(Failure::failed(format!(
            "{bad} of {} not healthy",
            count(assessment.objects.len(), "workload")
        )));
    }
    Ok(())
}

/// The files that are meant: of a directory those in it that may hold objects, sorted, and none deeper.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path == Path::new("-") || !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
        let mut inside = Vec::new();
        for entry in entries {
            inside.push(entry.map_err(|error| unreadable(path, &error))?.path());
        }
        let holds = |it: &PathBuf| {
            let extension = it.extension().and_then(|it| it.to_str()).unwrap_or_default();
            matches!(extension, "json" | "yaml" | "yml") && it.is_file()
        };
        inside.retain(holds);
        if inside.is_empty() {
            let message =
                format!("error: {}: no .json, .yaml or .yml file in this directory", path.display());
            return Err(Failure::InvalidFile(message));
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn read(path: &Path, from: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    from.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::InvalidFile(format!(
            "error: {}: more than 2 GiB; assess it in parts",
            name(path)
        )));
    }
    Ok(bytes)
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::InvalidFile(format!("error: {}: cannot be read: {error}", name(path)))
}

fn wrong(path: &Path, error: &DumpError) -> Failure {
    let mut place = name(path);
    for part in [error.line, error.line.and(error.column)].into_iter().flatten() {
        place += &format!(":{part}");
    }
    Failure::InvalidFile(format!("error: {place}: {error}"))
}

/// On standard error: data alone is for standard output (C6).
fn tell_what_is_left_out(dump: &Dump, nothing: bool) {
    let mut err = anstream::stderr();
    // When nobody reads it, nobody needs it.
    let mut note = |text: String| drop(writeln!(err, "note: {text}"));
    if nothing {
        note(format!(
            "no workload among {}; give it deployments, stateful sets, daemon sets, jobs, cron jobs or pods",
            count(dump.kept + dump.ignored, "object")
        ));
    }
    if dump.nameless > 0 {
        note(format!("left out what has no kind or no name: {}", count(dump.nameless, "object")));
    }
    let missing = dump.world.missing_controllers();
    if !missing.is_empty() {
        let more = missing.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        note(format!(
            "left out what belongs to controllers that are not in the files: {}{more}",
            missing.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ")
        ));
    }
}

/// A line for each workload, and under it why.
fn draw(out: &mut dyn Write, verdicts: &[Verdict]) -> io::Result<()> {
    if verdicts.is_empty() {
        return Ok(());
    }
    let mut rows = Table::new(&["STATUS", "WORKLOAD", "READY", "CONDITIONS"]);
    for verdict in verdicts {
        let ready = format!("{}/{}", verdict.pods_ready, verdict.pods_total);
        let conditions = verdict.conditions.join(", ");
        rows.row([table::status(verdict.status), place(verdict).into(), ready.into(), conditions.into()]);
    }
    rows.write(out)?;
    for verdict in verdicts.iter().filter(|it| it.status != Status::Healthy || !it.conditions.is_empty()) {
        writeln!(out)?;
        let status = verdict.status.to_string();
        writeln!(out, "{} {}", place(verdict).bold(), status.style(table::of_status(verdict.status)))?;
        for reason in &verdict.reasons {
            writeln!(out, "  {reason}")?;
        }
        let claim = Kind::PersistentVolumeClaim.as_str();
        for claim in verdict.resources.iter().filter(|it| it.kind == claim && !it.ready) {
            writeln!(
                out,
                "  {} {}: {}",
                claim.kind,
                claim.name,
                claim.message.as_deref().unwrap_or("not bound")
            )?;
        }
    }
    Ok(())
}

/// `Deployment shop/api`.
fn place(verdict: &Verdict) -> String {
    match &verdict.namespace {
        Some(namespace) => format!("{} {namespace}/{}", verdict.kind, verdict.name),
        None => format!("{} {}", verdict.kind, verdict.name),
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
