//! `hale version`.

use std::io::Write;

use crate::{failure::Failure, output};

/// Prints the version.
pub(crate) fn run() -> Result<(), Failure> {
    writeln!(output::stdout(), "hale {}", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
