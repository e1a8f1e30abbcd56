//! Reading workload files for a command, and telling what is wrong with them.

use std::{fmt::Write as _, io::IsTerminal, path::PathBuf};

use hale_model::file::{Declared, FileError, read_files};
use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::failure::Failure;

/// Reads the files.
///
/// # Errors
/// [`Failure::InvalidFile`] with every mistake, drawn.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Declared, Failure> {
    read_files(paths).map_err(|errors| invalid(&errors))
}

/// The failure that these mistakes are.
pub(crate) fn invalid(errors: &[FileError]) -> Failure {
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Failure::InvalidFile(draw(errors, coloured))
}

/// Draws mistakes with the lines they stand in, and counts them.
fn draw(errors: &[FileError], coloured: bool) -> String {
    let theme = if coloured { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(110);
    let mut text = String::new();
    for error in errors {
        // Writing to a String can't fail; a report that could not be drawn would still be told in one line.
        if handler.render_report(&mut text, error).is_err() {
            let _ = write!(text, "{}: {error}", error.place());
        }
        text.push('\n');
    }
    let count = errors.len();
    let _ = write!(text, "{count} mistake{} found", if count == 1 { "" } else { "s" });
    text
}
