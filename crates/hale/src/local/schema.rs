//! `hale schema`.

use std::io::Write;

use crate::{failure::Failure, output};

/// Prints the JSON Schema of workload files.
pub(crate) fn run() -> Result<(), Failure> {
    let schema = serde_json::to_string_pretty(&hale_model::file::schema()).map_err(Failure::failed)?;
    writeln!(output::stdout(), "{schema}")?;
    Ok(())
}
