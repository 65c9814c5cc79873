//! `glacis`: the command line, the daemon, its workers, the image builder and, inside an image, PID 1.
//!
//! Which of them a process is, is decided here from how it was started, and nowhere else.

mod backoff;
mod bans;
mod boot;
mod bpffs;
mod cli;
mod daemon;
mod days;
mod detector;
mod dhcp;
mod gate;
mod geoip;
mod heartbeat;
mod image_build;
mod kernel;
mod log;
mod memory;
mod policy_file;
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
