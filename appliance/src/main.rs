//! `glacis`: the command line, the daemon, its workers, the image builder and, inside an image, PID 1.
//!
//! Which of them a process is, is decided here from how it was started, and nowhere else.

mod backoff;
#[cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "the daemon takes batches up with the new detector")
)]
mod bans;
mod boot;
mod bpffs;
mod cli;
mod daemon;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the daemon still asks the detector that this one replaces")
)]
mod detector;
mod dhcp;
mod geoip;
mod heartbeat;
mod image_build;
mod kernel;
mod log;
mod policy_file;
mod scan;
mod status;
mod storage;
mod words;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    if program.as_encoded_bytes().ends_with(b"modprobe") {
        return boot::modprobe(arguments);
    }
    if std::process::id() == 1 {
        boot::run()
    }
    if arguments.next().is_some_and(|word| word == "worker") {
        return worker::run(arguments);
    }
    cli::main()
}
