//! `hale check FILE…` (C5): whether files are right, and what in them was probably not meant.

use std::io::{self, Write};

use hale_model::{
    file::{Declared, FileError, read_files},
    lint::{Warning, lint, lint_responder},
};
use serde::Serialize;

use crate::{
    cli::{CheckArgs, Format},
    failure::Failure,
    files, output,
};

#[derive(Serialize)]
struct Verdict {
    valid: bool,
    workloads: Vec<String>,
    targets: Vec<String>,
    responders: Vec<String>,
    warnings: Vec<Warning>,
    errors: Vec<Mistake>,
}

/// A mistake as programs read it.
#[derive(Serialize)]
struct Mistake {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    code: &'static str,
    message: String,
    found: Option<String>,
    help: Option<String>,
}

impl From<&FileError> for Mistake {
    fn from(error: &FileError) -> Self {
        Self {
            file: error.path.display().to_string(),
            line: error.line,
            column: error.column,
            code: error.code.as_str(),
            message: error.message.clone(),
            found: error.found.clone(),
            help: error.help.clone(),
        }
    }
}

/// Reads the files and says what is right and wrong with them. Nothing runs.
pub(crate) fn run(args: &CheckArgs) -> Result<(), Failure> {
    match read_files(&args.files) {
        Ok(declared) => tell_valid(&declared, args.output.output),
        Err(errors) => {
            if args.output.output != Format::Table {
                let verdict = Verdict {
                    valid: false,
                    workloads: Vec::new(),
                    targets: Vec::new(),
                    responders: Vec::new(),
                    warnings: Vec::new(),
                    errors: errors.iter().map(Mistake::from).collect(),
                };
                output::write_value(&verdict, args.output.output, |_| Ok(()))?;
            }
            Err(files::invalid(&errors))
        }
    }
}

fn tell_valid(declared: &Declared, format: Format) -> Result<(), Failure> {
    let verdict = Verdict {
        valid: true,
        workloads: declared.workloads.iter().map(|it| it.name.clone()).collect(),
        targets: declared.targets.iter().map(|it| it.name.clone()).collect(),
        responders: declared.responders.iter().map(|it| it.name.clone()).collect(),
        warnings: declared
            .workloads
            .iter()
            .flat_map(|it| lint(it))
            .chain(declared.responders.iter().flat_map(|it| lint_responder(it)))
            .collect(),
        errors: Vec::new(),
    };
    if format == Format::Table {
        warn(&verdict.warnings)?;
    }
    output::write_value(&verdict, format, |out| {
        let (workloads, targets) = (verdict.workloads.len(), verdict.targets.len());
        writeln!(out, "valid: {}, {}", count(workloads, "workload"), count(targets, "target"))?;
        for it in &declared.responders {
            let (sources, rules) = (it.sources.len(), it.rules.len());
            let (sources, rules) = (count(sources, "source"), count(rules, "rule"));
            writeln!(out, "valid: responder {}, {sources}, {rules}", it.name)?;
        }
        Ok(())
    })
}

fn warn(warnings: &[Warning]) -> io::Result<()> {
    let mut err = anstream::stderr();
    for warning in warnings {
        writeln!(err, "warning: {warning} (try: {})", warning.help)?;
    }
    Ok(())
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
