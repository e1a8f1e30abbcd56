//! Columns for people: aligned, coloured by status, no wider than their content.

use std::io::{self, Write};

use hale_model::{Status, event::Severity};
use owo_colors::{OwoColorize, Style};

/// One cell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, style: Style::new() }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// A status in its colour.
pub(crate) fn status(status: Status) -> Cell {
    Cell { text: status.to_string(), style: of_status(status) }
}

/// Text that matters less.
pub(crate) fn dim(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), style: Style::new().dimmed() }
}

/// Text that matters as much as this.
pub(crate) fn weighed(text: impl Into<String>, severity: Severity) -> Cell {
    Cell { text: text.into(), style: of_severity(severity) }
}

/// Text in a style of its own.
pub(crate) fn styled(text: impl Into<String>, style: Style) -> Cell {
    Cell { text: text.into(), style }
}

/// The colour of a status.
pub(crate) fn of_status(status: Status) -> Style {
    match status {
        Status::Healthy => Style::new().green(),
        Status::Unknown => Style::new().blue(),
        Status::Degraded => Style::new().yellow(),
        Status::Failing => Style::new().red().bold(),
    }
}

/// The colour of a severity.
pub(crate) fn of_severity(severity: Severity) -> Style {
    match severity {
        Severity::Info => Style::new(),
        Severity::Warning => Style::new().yellow(),
        Severity::Error => Style::new().red(),
        Severity::Critical => Style::new().red().bold(),
    }
}

/// Rows under a head.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|it| dim(*it)).collect()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.cells(cells.into());
    }

    pub(crate) fn cells(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
            for (column, cell) in row.iter().enumerate().take(last + 1) {
                write!(out, "{}", cell.text.style(cell.style))?;
                if column < last {
                    let fill = widths[column] - cell.text.chars().count() + 2;
                    write!(out, "{:fill$}", "")?;
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_lines_have_no_tail() {
        let mut table = Table::new(&["NAME", "WHY"]);
        table.row(["wé".into(), Cell::default()]);
        table.row(["web-10".into(), "x".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let text = anstream::adapter::strip_bytes(&out).into_vec();
        assert_eq!(String::from_utf8(text).unwrap(), "NAME    WHY\nwé\nweb-10  x\n");
    }
}
