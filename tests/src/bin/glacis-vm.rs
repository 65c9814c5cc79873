//! `make run` and `make attack`: boots the image, and scans it with a real nmap from a host of its own.

use glacis_tests::vm::{self, Boot, Guest, GuestOptions, VmError};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The attacker's network namespace while `make run` runs.
const NAMESPACE: &str = "glacis-attacker";
/// Where the status page is on loopback.
const STATUS_PORT: u16 = 9777;
const WAN_ADDRESS: &str = "192.0.2.1";
const ATTACKER_ADDRESS: &str = "192.0.2.66";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["run", image] => run(PathBuf::from(image)),
        ["attack"] => attack(),
        _ => {
            eprintln!("usage: glacis-vm run IMAGE | glacis-vm attack");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("glacis-vm: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Removes the attacker's namespace with its owner.
struct Attacker;

impl Attacker {
    fn new() -> Result<Self, VmError> {
        let _ = Command::new("ip").args(["netns", "del", NAMESPACE]).output();
        vm::tool(Command::new("ip").args(["netns", "add", NAMESPACE]))?;
        Ok(Self)
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", NAMESPACE]).output();
    }
}

fn run(image: PathBuf) -> Result<(), VmError> {
    // Ctrl-C ends QEMU, and then us: whoever made the namespace also removes it.
    // SAFETY: sets a disposition that no handler of ours depends on, before there are threads.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    let _attacker = Attacker::new()?;
    let work = image.with_extension("run");
    println!("Booting {} under QEMU; this machine emulates, so it takes some seconds", image.display());
    let mut guest = Guest::boot(&GuestOptions {
        image,
        work,
        boot: Boot::Uefi,
        memory_mib: 256,
        disk_mib: Some(512),
        wan_namespace: Some(NAMESPACE.to_owned()),
        status_port: STATUS_PORT,
    })?;
    for (needle, said) in
        [("] firewall closed", "closed: nothing passes yet"), ("] ready with a policy", "ready")]
    {
        let line = guest.wait_for(needle, Duration::from_secs(180))?;
        println!("  {:5.1} s  {said}", line.at.as_secs_f64());
    }
    wait_until_it_answers(&guest)?;
    println!(
        "
The firewall runs.
  status page    http://127.0.0.1:{STATUS_PORT}/
  as JSON        curl http://127.0.0.1:{STATUS_PORT}/api/v1/status
  be scanned     make attack        (in another terminal)
  its console    follows; Ctrl-C stops the guest
"
    );
    let mut seen = guest.lines_seen();
    loop {
        match guest.wait_for_after(seen, "", Duration::from_secs(3_600)) {
            Ok(line) => {
                println!("{}", line.text);
                seen += 1;
            }
            Err(VmError::Silent { .. }) => {}
            Err(VmError::Ended { .. }) => {
                println!("The guest has ended.");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

fn wait_until_it_answers(guest: &Guest) -> Result<(), VmError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match guest.get("/readyz") {
            Ok((200, _)) => return Ok(()),
            Ok(_) | Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            Ok((_, answer)) => return Err(VmError::Http { address: guest.status_address(), answer }),
            Err(error) => return Err(error),
        }
    }
}

fn attack() -> Result<(), VmError> {
    let status = SocketAddr::from(([127, 0, 0, 1], STATUS_PORT));
    vm::http_get(status, "/healthz")?;
    println!("Scanning 400 ports of {WAN_ADDRESS} from {ATTACKER_ADDRESS} with nmap");
    let scan = ["nmap", "-n", "-Pn", "-sS", "-p", "1-400", "-T4", "--max-retries", "0", WAN_ADDRESS];
    println!("{}", vm::tool(inside().args(scan))?.trim_end());
    println!("\nWho is blocked now:");
    println!("{}", vm::http_get(status, "/api/v1/bans")?.1.trim_end());
    let ping = inside().args(["ping", "-n", "-c", "2", "-W", "1", WAN_ADDRESS]).output();
    let answered = ping.is_ok_and(|output| output.status.success());
    println!("\nThe attacker pings again: {}", if answered { "it is answered" } else { "silence" });
    println!("See http://127.0.0.1:{STATUS_PORT}/");
    let _ = std::io::stdout().flush();
    Ok(())
}

fn inside() -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", NAMESPACE]);
    command
}
