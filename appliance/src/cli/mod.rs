//! The command line: what an operator can ask, and nothing of how it is done.

mod client;
mod commands;
mod confirm;
mod duration;
mod gate;
mod output;
mod scans;
mod table;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Where the daemon listens for the command line unless told otherwise.
pub const SOCKET: &str = "/run/glacis/control.sock";
/// Where maps and links of the TC program are pinned unless told otherwise.
pub const PIN_DIR: &str = "/sys/fs/bpf/glacis";

#[derive(Parser)]
#[command(name = "glacis", version, about = "A declarative host firewall", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the firewall in the foreground, until it is stopped.
    Run(RunArgs),
    /// Check a policy and its `expect` tests. Needs neither root nor network.
    Check { file: PathBuf },
    /// Show what a policy would change.
    Plan {
        file: PathBuf,
        /// Print the ruleset as `nft` reads it.
        #[arg(long)]
        nft: bool,
        /// Do not ask the daemon: compile for a host that has none of the interfaces.
        #[arg(long)]
        offline: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Apply a policy now. Without a file, the daemon reads its own again.
    Apply {
        file: Option<PathBuf>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show the state of the running firewall.
    Status {
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// List what happened, newest first.
    Events {
        /// How many to show.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Block a source at once.
    Block {
        /// An address or a prefix.
        #[arg(value_parser = parse_source)]
        source: IpNet,
        /// How long: 90s, 30m, 1h, 7d, 2w. Without it, until it is unblocked.
        #[arg(long = "for", value_parser = duration::parse)]
        duration: Option<Duration>,
        /// Why, for the list of blocks.
        #[arg(long, default_value = "")]
        note: String,
        /// Do not ask, even when it is an address of this host or one that the policy never blocks.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Lift a block.
    Unblock {
        #[arg(value_parser = parse_source)]
        source: IpNet,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// List the blocked sources.
    Blocks {
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Show what was scanned and by whom. Alone: the summary of the last 7 days.
    Scans(scans::Scans),
    /// Show what reverse-scan gates do, and what they know of clients.
    #[command(subcommand)]
    Gate(gate::Gate),
    /// Build bootable images.
    #[command(subcommand)]
    Image(ImageCommand),
}

#[derive(Args)]
struct Daemon {
    /// The daemon's control socket.
    #[arg(long, env = "GLACIS_SOCKET", default_value = SOCKET)]
    socket: PathBuf,
}

/// How the daemon runs.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// The policy file; read at the start, on SIGHUP and on `glacis apply`.
    #[arg(long)]
    pub policy: PathBuf,
    /// Folder for what must survive a restart: scans, bans, events, applied policies.
    #[arg(long)]
    pub state: PathBuf,
    /// Control socket for the command line.
    #[arg(long, env = "GLACIS_SOCKET", default_value = SOCKET)]
    pub socket: PathBuf,
    /// Folder in a bpffs for the pinned maps and links of the TC program.
    #[arg(long, default_value = PIN_DIR)]
    pub pin_dir: PathBuf,
    /// This host is the appliance: take its host name from the policy.
    #[arg(long, hide = true)]
    pub appliance: bool,
}

#[derive(Subcommand)]
enum ImageCommand {
    /// Build a bootable disk image around a policy. Needs no root.
    Build {
        policy: PathBuf,
        #[arg(short, long)]
        output: PathBuf,
        /// The binary to pack; this one by default.
        #[arg(long)]
        binary: Option<PathBuf>,
        /// Words to add to the kernel's command line.
        #[arg(long, default_value = "")]
        cmdline: String,
    },
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    if !matches!(command, Command::Run(_)) {
        end_quietly_when_nobody_reads();
    }
    let result = match command {
        Command::Run(args) => return crate::daemon::main(args),
        Command::Check { file } => commands::check(&file),
        Command::Plan { file, nft, offline: true, .. } => commands::plan_offline(&file, nft),
        Command::Plan { file, nft, daemon, .. } => commands::plan(&daemon.socket, &file, nft),
        Command::Apply { file, daemon } => commands::apply(&daemon.socket, file.as_deref()),
        Command::Status { json, daemon } => commands::status(&daemon.socket, json),
        Command::Events { limit, json, daemon } => commands::events(&daemon.socket, limit, json),
        Command::Blocks { json, daemon } => commands::blocks(&daemon.socket, json),
        Command::Block { source, duration, note, force, daemon } => {
            commands::block(&daemon.socket, source, duration, &note, force)
        }
        Command::Unblock { source, daemon } => commands::unblock(&daemon.socket, source),
        Command::Scans(question) => scans::run(question),
        Command::Gate(question) => gate::run(question),
        Command::Image(ImageCommand::Build { policy, output, binary, cmdline }) => {
            commands::build_image(&policy, &output, binary, &cmdline)
        }
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("glacis: {}", crate::log::whole(&failure));
            ExitCode::FAILURE
        }
    }
}

/// `glacis events | head` ends at the closed pipe, as any filter does, and not with a panic.
fn end_quietly_when_nobody_reads() {
    // SAFETY: sets a disposition that no handler of ours depends on, while there is one thread.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// An address is a prefix of full length; host bits of a prefix are an error, because they are a slip.
fn parse_source(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet =
        text.parse().map_err(|_| "give an address such as 203.0.113.9 or a prefix such as 203.0.113.0/24")?;
    if net.addr() == net.network() {
        Ok(net)
    } else {
        Err(format!("{text} has host bits set; did you mean {}?", net.trunc()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sources_are_addresses_or_whole_prefixes() {
        assert_eq!(parse_source("203.0.113.9").unwrap(), "203.0.113.9/32".parse().unwrap());
        assert_eq!(parse_source("2001:db8::/64").unwrap(), "2001:db8::/64".parse().unwrap());
        assert!(parse_source("203.0.113.9/24").unwrap_err().contains("203.0.113.0/24"));
        assert!(parse_source("example.org").is_err());
    }
}
