//! Asks before what cannot be taken back.

use std::io::{self, IsTerminal, Write};

/// What has to be typed; anything else is a no.
const CONSENT: &str = "yes";

/// Asks whoever sits at the terminal, on standard error. `None`: nobody does.
pub fn asked(question: &str) -> io::Result<Option<bool>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut terminal = io::stderr().lock();
    write!(terminal, "{question} Type {CONSENT}: ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(Some(answer.trim().eq_ignore_ascii_case(CONSENT)))
}
