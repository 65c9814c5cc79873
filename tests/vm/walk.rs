//! The whole path: `policy.kdl` to an image, the image booted, the booted firewall scanned by a real nmap.

use glacis_tests::netns::{self, Namespace};
use glacis_tests::vm::{Boot, Guest, GuestOptions, VmError, free_port};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A guest under emulation takes some ten seconds; a busy machine may take many times that.
const BOOT: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);
/// A block must end while a test looks on; this is beyond it on a busy machine.
const BLOCK_ENDS: Duration = Duration::from_secs(150);
/// Not "ready, and nothing passes".
const READY: &str = "] ready with a policy";

const CTRL_ALT_DEL: &str = r#"{"execute":"send-key","arguments":{"keys":[
    {"type":"qcode","data":"ctrl"},{"type":"qcode","data":"alt"},{"type":"qcode","data":"delete"}]}}"#;

/// The shipped policy, with a block short enough to see its end.
fn policy(block_seconds: u32) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy.kdl"))
        .expect("the host of the test has what it needs");
    let short = text.replace("duration \"1h\"", &format!("duration \"{block_seconds}s\""));
    assert_ne!(text, short, "the shipped policy names another duration");
    short
}

fn build(folder: &Path, policy: &str) -> PathBuf {
    let (file, image) = (folder.join("policy.kdl"), folder.join("glacis.img"));
    std::fs::write(&file, policy).expect("the host of the test has what it needs");
    netns::run(
        Command::new(glacis_tests::bin::glacis())
            .args(["image", "build"])
            .arg(&file)
            .arg("--output")
            .arg(&image)
            .arg("--binary")
            .arg(glacis_tests::bin::glacis()),
    );
    image
}

fn options(folder: &Path, image: PathBuf, wan: Option<&Namespace>) -> GuestOptions {
    GuestOptions {
        image,
        work: folder.join("guest"),
        boot: Boot::Uefi,
        memory_mib: 256,
        disk_mib: Some(768),
        wan_namespace: wan.map(|ns| ns.name().to_owned()),
        status_port: free_port().expect("the host of the test has what it needs"),
    }
}

/// Asks the status endpoint until it has what is waited for.
fn wait_for(guest: &Guest, what: &str, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    wait_within(guest, SOON, what, path, holds)
}

fn wait_within(
    guest: &Guest,
    most: Duration,
    what: &str,
    path: &str,
    holds: impl Fn(&Value) -> bool,
) -> Value {
    let deadline = Instant::now() + most;
    loop {
        let answer = guest.get_json(path);
        if let Some(json) = answer.as_ref().ok().filter(|json| holds(json)) {
            return json.clone();
        }
        assert!(Instant::now() < deadline, "{what}: {answer:?}\nconsole:\n{}", guest.console_text());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn pings(attacker: &Namespace) -> bool {
    attacker
        .command(["ping", "-n", "-c", "1", "-W", "2", "192.0.2.1"])
        .output()
        .expect("the host of the test has what it needs")
        .status
        .success()
}

fn order(guest: &mut Guest, milestones: &[&str]) -> Result<(), VmError> {
    let mut last = Duration::ZERO;
    for milestone in milestones {
        let line = guest.wait_for(milestone, BOOT)?;
        assert!(line.at >= last, "`{milestone}` came before what must precede it");
        last = line.at;
    }
    Ok(())
}

#[test]
fn a_booted_firewall_blocks_a_real_scanner_for_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let image = build(folder.path(), &policy(60));
    let attacker = Namespace::new("attacker");
    let mut guest = Guest::boot(&options(folder.path(), image, Some(&attacker))).unwrap();
    order(&mut guest, &["] firewall closed", READY]).unwrap();
    let status = wait_for(&guest, "the status endpoint", "/api/v1/status", |s| s["firewall"] == "applied");
    assert_eq!(status["problems"], Value::Array(vec![]), "{}", guest.console_text());
    let watched = |s: &Value| s["scan"]["devices"].as_array().is_some_and(|d| d.len() == 1);
    wait_for(&guest, "the wan card is watched", "/api/v1/status", watched);
    assert!(pings(&attacker), "the policy answers pings\n{}", guest.console_text());

    attacker.run(["nmap", "-n", "-Pn", "-sS", "-p", "1-300", "-T4", "--max-retries", "0", "192.0.2.1"]);
    wait_for(&guest, "the block", "/api/v1/status", |s| s["bans_active"] == 1);
    let bans =
        wait_for(&guest, "the block's entry", "/api/v1/bans", |bans| bans.to_string().contains("192.0.2.66"));
    assert!(bans.to_string().contains("scan"), "{bans}");
    // The core reads the element back from the kernel and says so.
    let line = guest.wait_for("scanner blocked", SOON).unwrap().text;
    assert!(
        line.contains("192.0.2.66/32") && line.contains("set=bans4") && line.contains("timeout=\"60s\""),
        "{line}"
    );
    assert!(!pings(&attacker), "a blocked scanner is answered");
    let dropped = |guest: &Guest| {
        let status = guest.get_json("/api/v1/status").unwrap();
        let counters = status["scan"]["counters"].as_array().unwrap().clone();
        counters.iter().find(|c| c[0] == "ban_drops").map(|c| c[1].as_u64().unwrap()).unwrap()
    };
    let before = dropped(&guest);
    assert!(!pings(&attacker));
    let deadline = Instant::now() + SOON;
    while dropped(&guest) <= before {
        assert!(Instant::now() < deadline, "packets of a blocked source are not counted as dropped");
        std::thread::sleep(Duration::from_millis(500));
    }
    let scans =
        wait_for(&guest, "the scan's records", "/api/v1/scans", |s| s.to_string().contains("192.0.2.66"));
    assert!(scans.to_string().contains("tcp"), "{scans}");
    let (code, page) = guest.get("/").unwrap();
    assert!(code == 200 && page.contains("192.0.2.66"), "{code}\n{page}");

    wait_within(&guest, BLOCK_ENDS, "the end of the block", "/api/v1/status", |s| s["bans_active"] == 0);
    assert!(pings(&attacker), "the block did not go away");
    let events = guest.get_json("/api/v1/events").unwrap().to_string();
    assert!(events.contains("source-blocked") && events.contains("ban-expired"), "{events}");
}

#[test]
fn bans_survive_a_hard_reset_and_ctrl_alt_del_ends_the_machine_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let image = build(folder.path(), &policy(3_600));
    let attacker = Namespace::new("attacker");
    let mut guest = Guest::boot(&options(folder.path(), image, Some(&attacker))).unwrap();
    guest.wait_for("grown to", BOOT).unwrap();
    guest.wait_for(READY, BOOT).unwrap();
    wait_for(&guest, "the status endpoint", "/api/v1/status", |s| s["firewall"] == "applied");
    attacker.run(["nmap", "-n", "-Pn", "-sS", "-p", "1-300", "-T4", "--max-retries", "0", "192.0.2.1"]);
    let bans = wait_for(&guest, "the block", "/api/v1/bans", |bans| bans.to_string().contains("192.0.2.66"));

    let seen = guest.lines_seen();
    guest.qmp(r#"{"execute":"system_reset"}"#).unwrap();
    guest.wait_for_after(seen, READY, BOOT).unwrap();
    let again = wait_for(&guest, "the block after the reset", "/api/v1/bans", |b| {
        b.to_string().contains("192.0.2.66")
    });
    let until = |answer: &Value| answer["bans"][0]["until"].as_u64().expect("the block has an end");
    assert_eq!(until(&bans), until(&again), "the block ends at another time than before the reset");
    assert!(!pings(&attacker), "the block did not survive the reset");

    guest.qmp(CTRL_ALT_DEL).unwrap();
    guest.wait_for("powering off", SOON).unwrap();
    guest.wait_exit(SOON).unwrap();
}

#[test]
fn p06_an_image_with_a_broken_policy_boots_closed_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let image = build(folder.path(), &policy(60));
    break_policy_on(&image);
    let attacker = Namespace::new("attacker");
    let mut guest = Guest::boot(&options(folder.path(), image, Some(&attacker))).unwrap();
    order(&mut guest, &["] firewall closed", "policy refused", "nothing passes"]).unwrap();
    assert!(!pings(&attacker), "a firewall without a policy answers");
}

/// Edits `policy.kdl` on the image's POLICY partition, as an operator with a laptop would.
fn break_policy_on(image: &Path) {
    let listing = netns::run(Command::new("sgdisk").arg("-p").arg(image));
    let listing = String::from_utf8(listing.stdout).expect("the host of the test has what it needs");
    let line = listing
        .lines()
        .find(|line| line.contains("glacis-policy"))
        .expect("the image has a policy partition");
    let first_sector: u64 = line
        .split_whitespace()
        .nth(1)
        .expect("the host of the test has what it needs")
        .parse()
        .expect("the host of the test has what it needs");
    let at = format!("{}@@{}", image.display(), first_sector * 512);
    let broken = image.with_file_name("broken.kdl");
    std::fs::write(&broken, "rules from=nowhere {").expect("the host of the test has what it needs");
    netns::run(Command::new("mcopy").args(["-o", "-i", &at]).arg(&broken).arg("::policy.kdl"));
}
