//! Data on standard output, nothing else (C6).

use std::io::{self, Write};

use comfy_table::Table;
use serde::Serialize;

use crate::{cli::Format, failure::Failure};

/// Standard output, with colours where they can be shown.
pub(crate) fn stdout() -> impl Write {
    anstream::stdout()
}

/// Writes a value as JSON or YAML; as a table it is for the caller to draw.
///
/// # Errors
/// Standard output can't be written.
pub(crate) fn write_value<T: Serialize>(
    value: &T,
    format: Format,
    table: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(stdout());
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        Format::Yaml => write!(out, "{}", serde_saphyr::to_string(value).map_err(Failure::failed)?)?,
        Format::Table => table(&mut out)?,
    }
    out.flush()?;
    Ok(())
}

/// A table of columns, two spaces apart, without lines: what `cut` and `awk` can take apart.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Writes a table, without the spaces that fill its last column.
///
/// # Errors
/// The output can't be written.
pub(crate) fn write_table(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    writeln!(out, "{}", table.trim_fmt())
}
