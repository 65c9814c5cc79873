//! PID 1 outside a machine: in namespaces of its own, where it may not touch the host's devices.
//!
//! A user namespace takes from it what it could break here (device nodes, modules, the watchdog, the power switch) and
//! leaves what is to be seen: it closes the firewall, starts the core, starts it again, reaps, and ends cleanly.

use glacis_tests::daemon::eventually;
use glacis_tests::netns;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const POLICY: &str = r#"
policy version=1 name="init"
interface g0
zone internet { from g0; default drop }
rules from=internet to=self { allow tcp=2222 id=marker }
"#;
/// PID 1 looks for its partitions for ten seconds first.
const SOON: Duration = Duration::from_secs(40);

struct Init {
    unshare: Child,
    root: tempfile::TempDir,
}

impl Init {
    fn boot() -> Self {
        let root = tempfile::tempdir().expect("the host of the test has what it needs");
        for folder in ["dev", "proc", "sys", "run", "policy", "data", "esp", "sbin", "lib/modules", "tmp"] {
            fs::create_dir_all(root.path().join(folder)).expect("the host of the test has what it needs");
        }
        netns::run(Command::new("mknod").arg(root.path().join("dev/null")).args(["c", "1", "3"]));
        fs::copy(glacis_tests::bin::glacis(), root.path().join("init"))
            .expect("the host of the test has what it needs");
        fs::write(root.path().join("policy/policy.kdl"), POLICY)
            .expect("the host of the test has what it needs");
        let console =
            File::create(root.path().join("console")).expect("the host of the test has what it needs");
        let unshare = Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount",
                "--net",
                "chroot",
            ])
            .arg(root.path())
            .arg("/init")
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("the host of the test has what it needs"))
            .stderr(console)
            .spawn()
            .expect("the host of the test has what it needs");
        Self { unshare, root }
    }

    fn console(&self) -> String {
        fs::read_to_string(self.root.path().join("console")).expect("the host of the test has what it needs")
    }

    fn wait_for(&self, needle: &str, times: usize) {
        let deadline = Instant::now() + SOON;
        while self.console().matches(needle).count() < times {
            assert!(
                Instant::now() < deadline,
                "`{needle}` not {times} times on the console:\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The host's number of PID 1, or of its children.
    fn pid(&self) -> u32 {
        children(self.unshare.id())[0]
    }

    fn core(&self) -> Option<u32> {
        let runs = |pid: &u32| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|b| *b == 0).nth(1) == Some(b"run"))
        };
        children(self.pid()).into_iter().find(runs)
    }

    fn rules(&self) -> String {
        let namespace = format!("--net=/proc/{}/ns/net", self.pid());
        let output = Command::new("nsenter")
            .args([&namespace, "nft", "list", "ruleset"])
            .output()
            .expect("the host of the test has what it needs");
        String::from_utf8(output.stdout).expect("the host of the test has what it needs")
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().expect("the host of the test has what it needs")).collect()
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: sends a signal to a process that this test started and touches no memory.
    assert_eq!(unsafe { libc::kill(pid.cast_signed(), signal) }, 0);
}

fn state_of(pid: u32) -> Option<char> {
    let path: PathBuf = Path::new("/proc").join(pid.to_string()).join("stat");
    fs::read_to_string(path).ok()?.rsplit_once(')')?.1.trim().chars().next()
}

#[test]
fn a_killed_core_is_started_again_and_the_firewall_stands_meanwhile() {
    let mut init = Init::boot();
    init.wait_for("firewall closed", 1);
    init.wait_for("] ready with a policy", 1);
    assert!(init.rules().contains("tcp dport 2222"), "{}\n{}", init.rules(), init.console());

    for round in 2..=3 {
        let core = init.core().unwrap();
        signal(core, libc::SIGKILL);
        assert!(init.rules().contains("tcp dport 2222"), "the ruleset went with the core");
        init.wait_for("] ready with a policy", round);
        assert_ne!(init.core().unwrap(), core);
        assert!(init.unshare.try_wait().unwrap().is_none(), "PID 1 ended with the core");
    }

    // An orphan becomes PID 1's child and must not stay a zombie.
    let target = init.pid().to_string();
    let script = "(exec sleep 0.2) &";
    Command::new("nsenter").args(["-t", &target, "--pid", "sh", "-c", script]).status().unwrap();
    eventually("the orphan is reaped", Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(300));
        children(init.pid()).iter().all(|pid| state_of(*pid) != Some('Z')) && children(init.pid()).len() == 1
    });

    signal(init.pid(), libc::SIGTERM);
    init.wait_for("powering off", 1);
    let deadline = Instant::now() + SOON;
    while init.unshare.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "PID 1 does not end:\n{}", init.console());
        std::thread::sleep(Duration::from_millis(50));
    }
}
