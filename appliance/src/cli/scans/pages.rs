//! Pages of scan records, printed as they come.

use super::super::commands::CommandError;
use super::super::table::Table;
use super::{Form, person, spreadsheet};
use glacis_control::scan_query::ScanRow;
use std::io::Write;

/// One listing in one form, page after page.
pub struct Pages<'a, W: Write> {
    out: &'a mut W,
    form: State,
    /// Whether anything was printed.
    begun: bool,
}

enum State {
    Table(Table<8>),
    Json,
    Csv,
}

impl<'a, W: Write> Pages<'a, W> {
    pub fn begin(out: &'a mut W, form: Form) -> Self {
        let form = match form {
            Form::Table => State::Table(person::records_table()),
            Form::Json => State::Json,
            Form::Csv => State::Csv,
        };
        Self { out, form, begun: false }
    }

    pub fn add(&mut self, rows: &[ScanRow]) -> Result<(), CommandError> {
        match &mut self.form {
            State::Table(table) => {
                let rows: Vec<_> = rows.iter().map(person::record).collect();
                table.print(self.out, &rows)?;
            }
            State::Json => {
                for row in rows {
                    self.out.write_all(if self.begun { b",\n" } else { b"{\"rows\":[\n" })?;
                    serde_json::to_writer(&mut *self.out, row)?;
                    self.begun = true;
                }
            }
            State::Csv => spreadsheet::records(self.out, rows, !self.begun)?,
        }
        // Values have a heading even over nothing.
        self.begun |= !rows.is_empty() || matches!(self.form, State::Csv);
        Ok(self.out.flush()?)
    }

    /// `next` asks for what follows; `complete` is false when the search stopped before the page was full.
    pub fn finish(self, next: Option<&str>, complete: bool) -> Result<(), CommandError> {
        if let State::Json = self.form {
            let begin = if self.begun { "\n" } else { "{\"rows\":[" };
            let next = serde_json::to_string(&next)?;
            return Ok(writeln!(self.out, "{begin}],\"next\":{next},\"complete\":{complete}}}")?);
        }
        if !self.begun && next.is_none() {
            writeln!(self.out, "no scan records")?;
        }
        self.out.flush()?;
        // Beside the records, so that what reads them is not disturbed.
        match next {
            Some(next) if complete => eprintln!("more follow: --after {next}, or all of them with --all"),
            Some(next) => {
                eprintln!("the search stopped early and goes on with --after {next}, or with --all");
            }
            None => {}
        }
        Ok(())
    }
}
