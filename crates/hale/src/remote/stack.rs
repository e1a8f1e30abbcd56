//! `hale stack …`: what is wanted in clusters (K1).

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use hale_api::{
    ClientError,
    kube::{DeploymentObject, DeploymentObjectRequest, Stack, StackPatch, StackRequest},
};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    block, client, get, stacks,
    status::ago,
    table::{Cell, Table, dim},
};
use crate::{
    cli::{Format, StackArgs, StackCommand, StackGetArgs, StackPushArgs},
    failure::{Failure, say},
    output,
};

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn run(args: &StackArgs) -> Result<(), Failure> {
    block(async {
        match &args.command {
            StackCommand::List(it) => get::list(&client(&it.server)?, "stacks", None, it.output.output).await,
            StackCommand::Get(it) => show(it).await,
            StackCommand::Push(it) => push(it).await,
            StackCommand::Create(it) => {
                let labels = it.labels.iter().cloned().collect();
                let request = StackRequest { name: it.name.clone(), labels };
                one(&client(&it.server)?.create_stack(&request).await?, it.output.output)
            }
            StackCommand::Label(it) => {
                let patch = StackPatch { labels: it.labels.iter().cloned().collect() };
                one(&client(&it.server)?.change_stack(&it.name, &patch).await?, it.output.output)
            }
            StackCommand::Delete(it) => {
                client(&it.server)?.delete_stack(&it.name).await?;
                say(&format!("{} is forgotten; what was applied of it stays where it is", it.name));
                Ok(())
            }
        }
    })
}

/// A stack and its deployment objects.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    stack: Stack,
    deployment_objects: Vec<DeploymentObject>,
}

async fn show(args: &StackGetArgs) -> Result<(), Failure> {
    let client = client(&args.server)?;
    let stack = client.stack(&args.name).await?;
    let deployment_objects = client.deployment_objects(&args.name).await?;
    let whole = Whole { stack, deployment_objects };
    output::write_value(&whole, args.output.output, |out| {
        stack_table(&whole.stack).write(out)?;
        if !whole.deployment_objects.is_empty() {
            writeln!(out)?;
            object_table(&whole.deployment_objects).write(out)?;
        }
        Ok(())
    })
}

async fn push(args: &StackPushArgs) -> Result<(), Failure> {
    let Manifests { text: yaml, starts } = manifests(&args.files)?;
    let client = client(&args.server)?;
    let request = DeploymentObjectRequest { yaml, deletion_marker: args.delete };
    let object = client
        .create_deployment_object(&args.name, &request)
        .await
        .map_err(|error| in_files(error, &starts))?;
    let Some(wanted) = args.wait else {
        return output::write_value(&object, args.output.output, |out| {
            object_table(std::slice::from_ref(&object)).write(out)
        });
    };
    say(&format!("deployment object {} of {} is pushed", object.id, object.stack));
    let watched = stacks::Watched::Object(object.id);
    watched.wait(&client, wanted, args.timeout, args.output.output).await
}

/// Files as one text.
struct Manifests {
    text: String,
    /// The line of the text with which each file begins, from 1, and the file.
    starts: Vec<(usize, PathBuf)>,
}

/// All files as one text of several documents.
fn manifests(files: &[PathBuf]) -> Result<Manifests, Failure> {
    let (mut all, mut starts) = (String::new(), Vec::new());
    for file in files {
        let text = read(file).map_err(|error| {
            Failure::InvalidFile(format!("error: {} can't be read: {error}", file.display()))
        })?;
        if !all.is_empty() {
            if !all.ends_with('\n') {
                all.push('\n');
            }
            all.push_str("---\n");
        }
        starts.push((all.lines().count() + 1, file.clone()));
        all.push_str(&text);
    }
    Ok(Manifests { text: all, starts })
}

/// The server knows one text; people have files.
fn in_files(mut error: ClientError, starts: &[(usize, PathBuf)]) -> ClientError {
    if let ClientError::Invalid(problem) = &mut error {
        for mistake in &mut problem.errors {
            if let Some(place) = in_file(&mistake.place, starts) {
                mistake.place = place;
            }
        }
    }
    error
}

/// `manifests:7:3` as the file, line and column that it is.
fn in_file(place: &str, starts: &[(usize, PathBuf)]) -> Option<String> {
    let rest = place.strip_prefix("manifests:")?;
    let (line, column) = rest.split_once(':').map_or((rest, None), |(line, column)| (line, Some(column)));
    let line: usize = line.parse().ok()?;
    // The `---` between two files is the beginning of the second.
    let (start, file) = starts.iter().rev().find(|(start, _)| *start <= line + 1)?;
    let column = column.map(|it| format!(":{it}")).unwrap_or_default();
    Some(format!("{}:{}{column}", file.display(), (line + 1 - start).max(1)))
}

fn read(file: &Path) -> io::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(file)
}

fn one(stack: &Stack, format: Format) -> Result<(), Failure> {
    output::write_value(stack, format, |out| stack_table(stack).write(out))
}

fn stack_table(it: &Stack) -> Table {
    let mut table = Table::new(&["NAME", "LABELS", "CURRENT", "AGENTS", "CREATED", "BY"]);
    let labels: Vec<String> = it.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    table.row([
        it.name.as_str().into(),
        labels.join(",").into(),
        it.current.as_deref().map(Cell::from).unwrap_or_else(|| dim("nothing pushed")),
        it.agents.join(",").into(),
        ago(it.created_at, Timestamp::now()).into(),
        it.created_by.as_str().into(),
    ]);
    table
}

fn object_table(all: &[DeploymentObject]) -> Table {
    let mut table =
        Table::new(&["DEPLOYMENT OBJECT", "STACK", "SEQUENCE", "STATE", "CHECKSUM", "CREATED", "BY"]);
    let now = Timestamp::now();
    for it in all {
        let state = match (it.current, it.deletion_marker) {
            (true, true) => "deletes",
            (true, false) => "current",
            (false, _) => "superseded",
        };
        table.row([
            it.id.as_str().into(),
            it.stack.as_str().into(),
            it.sequence.to_string().into(),
            state.into(),
            dim(it.checksum.get(..12).unwrap_or(&it.checksum)),
            ago(it.created_at, now).into(),
            it.created_by.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_become_documents_of_one_text() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
        fs::write(&a, "kind: A").unwrap();
        fs::write(&b, "kind: B\n").unwrap();
        let all = manifests(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(all.text, "kind: A\n---\nkind: B\n");
        let place = |of: &str| in_file(of, &all.starts);
        assert_eq!(place("manifests:1:2"), Some(format!("{}:1:2", a.display())));
        assert_eq!(place("manifests:3"), Some(format!("{}:1", b.display())));
        assert_eq!(place("manifests:2"), Some(format!("{}:1", b.display())));
        assert_eq!(place("elsewhere:3"), None);
        let missing = manifests(&[dir.path().join("c.yaml")]).err().unwrap();
        assert!(matches!(missing, Failure::InvalidFile(text) if text.contains("c.yaml")));
    }
}
