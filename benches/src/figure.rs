//! One line of the table: what was measured, beside what, and the bound it has to keep.

use std::fmt;

/// A measured value, in words and as the number that is held against the bound.
#[derive(Debug, Clone)]
pub struct Figure {
    pub what: String,
    /// With its unit.
    pub ours: String,
    /// With its unit; empty where the bound stands alone.
    pub peer: String,
    pub value: f64,
    pub unit: Unit,
    pub bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Ours divided by the peer's.
    Ratio,
    Nanoseconds,
    Milliseconds,
    Seconds,
    Kibibytes,
    Mebibytes,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Printed for the reader, held against nothing.
    Told,
}

impl Figure {
    /// `None` where there is no bound.
    pub fn reached(&self) -> Option<bool> {
        match self.bound {
            Bound::AtMost(most) => Some(self.value <= most),
            Bound::AtLeast(least) => Some(self.value >= least),
            Bound::Told => None,
        }
    }

    fn cells(&self) -> [String; COLUMNS] {
        let to_reach = match self.bound {
            Bound::AtMost(most) => format!("<= {}", self.unit.show(most)),
            Bound::AtLeast(least) => format!(">= {}", self.unit.show(least)),
            Bound::Told => String::new(),
        };
        let reached = match self.reached() {
            Some(true) => "yes",
            Some(false) => "MISSED",
            None => "",
        };
        let value = self.unit.show(self.value);
        [self.what.clone(), self.ours.clone(), self.peer.clone(), value, to_reach, reached.to_owned()]
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Ratio if value < 0.1 => format!("1/{:.0}", 1.0 / value),
            Self::Ratio => format!("{value:.2} x"),
            Self::Nanoseconds => format!("{value:.0} ns"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Kibibytes => format!("{value:.1} KiB"),
            Self::Mebibytes => format!("{value:.1} MiB"),
        }
    }
}

const COLUMNS: usize = 6;
const HEADS: [&str; COLUMNS] = ["what", "ours", "peer", "ratio or value", "to reach", "reached"];

/// All figures as a Markdown table, aligned for a terminal.
pub struct FigureTable<'a>(pub &'a [Figure]);

impl fmt::Display for FigureTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![HEADS.map(str::to_owned)];
        rows.extend(self.0.iter().map(Figure::cells));
        let widths: [usize; COLUMNS] =
            std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
        for (index, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if index == 0 {
                for width in widths {
                    write!(f, "|{}", "-".repeat(width + 2))?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, bound: Bound) -> Figure {
        let (what, ours, peer) = ("a ban".to_owned(), "1 ms".to_owned(), "9 ms".to_owned());
        Figure { what, ours, peer, value, unit: Unit::Ratio, bound }
    }

    #[test]
    fn a_figure_at_its_bound_reaches_it_and_one_beyond_does_not() {
        assert_eq!(figure(0.5, Bound::AtMost(0.5)).reached(), Some(true));
        assert_eq!(figure(0.51, Bound::AtMost(0.5)).reached(), Some(false));
        assert_eq!(figure(3.0, Bound::AtLeast(3.0)).reached(), Some(true));
        assert_eq!(figure(2.99, Bound::AtLeast(3.0)).reached(), Some(false));
        assert_eq!(figure(2.99, Bound::Told).reached(), None);
    }

    #[test]
    fn a_missed_bound_stands_out_in_an_aligned_table() {
        let table =
            FigureTable(&[figure(0.02, Bound::AtMost(0.02)), figure(0.7, Bound::AtMost(0.5))]).to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[2].contains("| 1/50 ") && lines[2].ends_with("| yes     |"), "{table}");
        assert!(lines[3].ends_with("| MISSED  |"), "{table}");
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{table}");
    }
}
