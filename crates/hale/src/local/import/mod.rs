//! `hale import KIND FILE…` (N3): workload files of what people have. What can't be carried over is listed on standard
//! error, each thing with its place; what comes out is a valid workload file.

mod compose;
mod draft;
mod ini;
mod kubernetes;
mod out;
mod pm2;
mod probe;
mod procfile;
mod source;
mod supervisord;
mod systemd;
mod values;
mod words;

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use hale_model::file::read_str;

use self::{draft::Draft, source::Source};
use crate::{
    cli::{ImportArgs, ImportKind},
    failure::Failure,
    files, output,
};

/// No file that describes services is larger than this.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Reads the files and writes what they come to.
///
/// # Errors
/// A file can't be read, or is not of its kind; or what came of it is not valid, which is told with its mistakes.
pub(crate) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut not_carried = 0;
    let mut sources = Vec::new();
    for path in &args.files {
        sources.push(Source::new(path, read(path)?));
    }
    // Manifests refer to each other across files; the other kinds are whole by themselves.
    if args.kind == ImportKind::Kubernetes {
        drafts = kubernetes::import(&sources)?;
    }
    for source in &sources {
        match args.kind {
            ImportKind::Compose => drafts.extend(compose::import(source, args.env_file.as_deref())?),
            ImportKind::Kubernetes => {}
            ImportKind::Systemd => drafts.extend(systemd::import(source)?),
            ImportKind::Pm2 => drafts.extend(pm2::import(source)?),
            ImportKind::Supervisord => drafts.extend(supervisord::import(source)?),
            ImportKind::Procfile => drafts.extend(procfile::import(source)?),
        }
    }
    let mut err = anstream::stderr();
    for source in &sources {
        for note in source.notes() {
            writeln!(err, "{note}")?;
            not_carried += 1;
        }
    }
    if not_carried > 0 {
        writeln!(err, "{not_carried} thing{} to look at", if not_carried == 1 { "" } else { "s" })?;
    }
    if drafts.is_empty() {
        return Err(Failure::Failed("nothing in these files is something that hale runs".to_owned()));
    }
    write(&drafts, &args.files[0])
}

fn write(drafts: &[Draft], from: &Path) -> Result<(), Failure> {
    let documents: Vec<String> = drafts.iter().map(Draft::write).collect();
    let text = documents.join("---\n");
    let mut out = output::stdout();
    write!(out, "{text}")?;
    out.flush()?;
    let dir = from.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    match read_str("(imported)", &std::path::absolute(&dir).unwrap_or(dir), &text) {
        Ok(_) => Ok(()),
        Err(errors) => Err(files::invalid(&errors)),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let fail = |error: std::io::Error| Failure::InvalidFile(format!("{}: {error}", path.display()));
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_BYTES).read_to_string(&mut text).map_err(fail)?;
    } else {
        let file = std::fs::File::open(path).map_err(fail)?;
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(fail)?;
    }
    Ok(text)
}
