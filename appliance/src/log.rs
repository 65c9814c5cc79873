//! Where log lines go: standard error, and milestones of the boot to standard output for the console.

use std::io::{IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// Starts logging; `GLACIS_LOG` takes filter directives such as `debug` or `glacis=trace`.
pub fn start() {
    let filter = EnvFilter::try_from_env("GLACIS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start, as in a test, keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log that cannot be written must not end the firewall, which `eprintln!` would.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("TERM").is_some())
        .try_init();
}

/// Characters of one cause that are told; the kernel's verifier writes megabytes.
const CAUSE_CHARS_MAX: usize = 1_024;

/// An error with everything that caused it, in one line. The middle of a cause that is very long is left out.
pub fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(shortened(error.to_string()), |text, cause| {
        let cause = shortened(cause.to_string());
        // Some errors already carry their cause in their text.
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// Its beginning says what failed, its end why.
fn shortened(text: String) -> String {
    let boundary = |at: usize| text.char_indices().nth(at).map(|(at, _)| at);
    let count = text.chars().count();
    match (boundary(CAUSE_CHARS_MAX / 2), boundary(count.saturating_sub(CAUSE_CHARS_MAX / 2))) {
        (Some(head), Some(tail)) if count > CAUSE_CHARS_MAX => {
            format!("{} [...] {}", &text[..head], &text[tail..])
        }
        _ => text,
    }
}

/// A line that people and tests wait for, with the time since boot.
pub fn milestone(text: &str) {
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let ms = uptime.tv_sec * 1_000 + uptime.tv_nsec / 1_000_000;
    // Nobody reading is no reason to end.
    let _ = writeln!(std::io::stdout(), "glacis[{ms:>7} ms] {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_very_long_cause_keeps_its_ends() {
        let long = format!("begin{}end", "ü".repeat(100_000));
        let told = whole(&std::io::Error::other(long));
        assert!(told.starts_with("begin") && told.ends_with("end") && told.contains("[...]"));
        assert!(told.chars().count() < CAUSE_CHARS_MAX + 16);
        let whole_text = "x".repeat(CAUSE_CHARS_MAX);
        assert_eq!(whole(&std::io::Error::other(whole_text.clone())), whole_text);
    }
}
