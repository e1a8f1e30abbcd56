//! `hale openapi`: the OpenAPI document of the REST API.

use std::io::Write;

use crate::{failure::Failure, output};

/// Runs the command.
///
/// # Errors
/// Standard output can't be written.
pub(crate) fn run() -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&hale_server::openapi()).map_err(Failure::failed)?;
    writeln!(output::stdout(), "{text}")?;
    Ok(())
}
