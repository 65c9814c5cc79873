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

/// An error with everything that caused it, in one line.
pub fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        // Some errors already carry their cause in their text.
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// A line that people and tests wait for, with the time since boot.
pub fn milestone(text: &str) {
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let ms = uptime.tv_sec * 1_000 + uptime.tv_nsec / 1_000_000;
    // Nobody reading is no reason to end.
    let _ = writeln!(std::io::stdout(), "glacis[{ms:>7} ms] {text}");
}
