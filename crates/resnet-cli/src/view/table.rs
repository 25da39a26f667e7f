//! A table of aligned columns.

use std::io::{self, Write};

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of `N` cells under a head.
pub(crate) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
    total: Option<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// An empty table.
    pub(crate) fn new(columns: &[(&'static str, Align); N]) -> Table<N> {
        Table { columns: *columns, rows: Vec::new(), total: None }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Sets the row below the line.
    pub(crate) fn total(&mut self, cells: [String; N]) {
        self.total = Some(cells);
    }

    /// Writes it, columns two blanks apart.
    ///
    /// # Errors
    /// When `out` fails.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut widths = self.columns.map(|(name, _)| name.chars().count());
        for row in self.rows.iter().chain(&self.total) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let bold = anstyle::Style::new().bold();
        let head = self.line(&self.columns.map(|(name, _)| name.to_owned()), &widths);
        writeln!(out, "{bold}{head}{bold:#}")?;
        for row in &self.rows {
            writeln!(out, "{}", self.line(row, &widths))?;
        }
        if let Some(total) = &self.total {
            writeln!(out, "{}", "─".repeat(widths.iter().sum::<usize>() + 2 * (N - 1)))?;
            writeln!(out, "{bold}{}{bold:#}", self.line(total, &widths))?;
        }
        Ok(())
    }

    fn line(&self, cells: &[String; N], widths: &[usize; N]) -> String {
        let cells = cells.iter().zip(widths).zip(&self.columns);
        let padded = cells.map(|((cell, &width), (_, align))| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}
