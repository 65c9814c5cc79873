//! fail2ban: a filter over the firewall's log, as its users write it, since it ships none for port scans.

use crate::kernel_log::{KernelLog, path};
use crate::peer::{Peer, ProcessGroup, listing, names};
use crate::report::package_version;
use glacis_tests::netns::Namespace;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

pub struct Fail2ban<'a> {
    victim: &'a Namespace,
    folder: PathBuf,
    log: KernelLog,
    processes: ProcessGroup,
}

impl<'a> Fail2ban<'a> {
    pub fn new(victim: &'a Namespace, folder: &Path) -> Self {
        let log = KernelLog::start(victim, folder);
        let etc = folder.join("fail2ban");
        let copied = Command::new("cp").args(["-r", "/etc/fail2ban", path(&etc)]).status();
        assert!(copied.is_ok_and(|status| status.success()), "/etc/fail2ban cannot be copied");
        for shipped in fs::read_dir(etc.join("jail.d")).expect("just copied").flatten() {
            fs::remove_file(shipped.path()).expect("just copied");
        }
        let write = |name: &str, text: String| fs::write(etc.join(name), text).expect("the folder is ours");
        write(
            "filter.d/portscan.conf",
            format!("[Definition]\nfailregex = {} .* SRC=<HOST> DST=\n", log.prefix()),
        );
        write(
            "jail.local",
            format!(
                "[portscan]\nenabled = true\nfilter = portscan\nbackend = polling\nlogpath = {}\n\
                 banaction = nftables-allports\nmaxretry = 20\nfindtime = 5m\nbantime = 1h\n",
                log.file().display()
            ),
        );
        write(
            "fail2ban.local",
            format!(
                "[Definition]\nlogtarget = {0}/fail2ban.log\ndbfile = {0}/fail2ban.sqlite3\n\
                 socket = {0}/fail2ban.sock\npidfile = {0}/fail2ban.pid\n",
                folder.display()
            ),
        );
        Self { victim, folder: folder.to_owned(), log, processes: ProcessGroup::new("fail2ban") }
    }

    fn ask(&self, words: &[&str]) -> String {
        let socket = self.folder.join("fail2ban.sock");
        listing(self.victim, &[&["fail2ban-client", "-s", path(&socket)], words].concat())
    }
}

impl Peer for Fail2ban<'_> {
    fn title(&self) -> String {
        format!("fail2ban {}", package_version("fail2ban"))
    }

    fn start(&mut self) {
        self.log.load_firewall(self.victim);
        let _ = fs::remove_file(self.folder.join("fail2ban.sock"));
        let etc = self.folder.join("fail2ban");
        let argv = ["fail2ban-server", "-c", path(&etc), "-f", "start"];
        self.processes.spawn(self.victim, &argv, &self.folder.join("fail2ban.out"));
        std::thread::sleep(Duration::from_secs(5));
    }

    fn stop(&mut self) {
        self.processes.stop();
    }

    fn kill(&mut self) {
        self.processes.kill();
    }

    fn saw(&self, source: IpAddr) -> bool {
        let text = fs::read_to_string(self.folder.join("fail2ban.log")).expect("fail2ban keeps a log");
        text.lines().any(|line| line.contains("] Found ") && names(line, source))
    }

    fn blocked(&self) -> usize {
        self.ask(&["get", "portscan", "banip"]).split_whitespace().count()
    }

    fn remaining(&self, source: IpAddr) -> Option<Duration> {
        // 203.0.113.11 <tab> 2026-11-21 15:02:34 + 3604 = 2026-11-21 16:02:38
        let bans = self.ask(&["get", "portscan", "banip", "--with-time"]);
        let end = bans.lines().find(|line| names(line, source))?.split(" = ").nth(1)?.trim();
        let output = Command::new("date").args(["-d", end, "+%s"]).output().ok()?;
        let end: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        Some(Duration::from_secs(end.saturating_sub(now)))
    }

    fn cpu(&self) -> Duration {
        self.processes.cpu() + self.log.cpu()
    }

    fn lines_logged(&self) -> Option<usize> {
        Some(self.log.lines())
    }
}
