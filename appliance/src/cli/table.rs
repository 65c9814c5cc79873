//! Columns in a terminal.

use std::io::{self, Write};

/// Where a cell stands in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    /// For numbers.
    Right,
}

/// Rows of `N` cells, printed in parts: columns grow as wider cells come and never shrink.
#[derive(Debug)]
pub struct Table<const N: usize> {
    aligns: [Align; N],
    widths: [usize; N],
    heading: Option<[&'static str; N]>,
}

impl<const N: usize> Table<N> {
    pub fn new(aligns: [Align; N]) -> Self {
        Self { aligns, widths: [0; N], heading: None }
    }

    /// Printed above the first row.
    #[must_use]
    pub fn headed(self, heading: [&'static str; N]) -> Self {
        Self { heading: Some(heading), ..self }
    }

    pub fn print(&mut self, out: &mut impl Write, rows: &[[String; N]]) -> io::Result<()> {
        let heading = self.heading.take_if(|_| !rows.is_empty()).map(|heading| heading.map(str::to_owned));
        let rows = || heading.iter().chain(rows);
        for row in rows() {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in rows() {
            writeln!(out, "{}", self.line(row))?;
        }
        Ok(())
    }

    fn line(&self, row: &[String; N]) -> String {
        let cells = row.iter().zip(self.aligns).zip(self.widths).map(|((cell, align), width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(table: &mut Table<2>, rows: &[[&str; 2]]) -> String {
        let rows: Vec<_> = rows.iter().map(|row| row.map(str::to_owned)).collect();
        let mut out = vec![];
        table.print(&mut out, &rows).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let mut table = Table::new([Align::Left, Align::Right]).headed(["CITY", "HITS"]);
        assert_eq!(printed(&mut table, &[]), "", "no heading over nothing");
        assert_eq!(printed(&mut table, &[["Linköping", "7"]]), "CITY       HITS\nLinköping     7\n");
        assert_eq!(printed(&mut table, &[["Ry", "70123"]]), "Ry         70123\n", "the heading comes once");
        let mut plain = Table::new([Align::Left; 2]);
        assert_eq!(printed(&mut plain, &[["a", ""], ["bc", "d"]]), "a\nbc  d\n");
    }
}
