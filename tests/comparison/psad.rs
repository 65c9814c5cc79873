//! psad: reads the firewall's log every five seconds and blocks by iptables.

use crate::kernel_log::{KernelLog, path};
use crate::peer::{Peer, ProcessGroup, iptables_sources};
use crate::report::package_version;
use glacis_tests::netns::Namespace;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const BLOCK_SECONDS: u64 = 3600;

pub struct Psad<'a> {
    victim: &'a Namespace,
    folder: PathBuf,
    log: KernelLog,
    processes: ProcessGroup,
}

impl<'a> Psad<'a> {
    pub fn new(victim: &'a Namespace, folder: &Path) -> Self {
        let log = KernelLog::start(victim, folder);
        let shipped = fs::read_to_string("/etc/psad/psad.conf").expect("the package's configuration");
        let ours = |name: &str| format!("{}/{name}", folder.display());
        let settings = [
            ("HOSTNAME", "victim".to_owned()),
            // Fifteen packets, where the shipped level 5 wants ten thousand; blocking is off as shipped.
            ("ENABLE_AUTO_IDS", "Y".to_owned()),
            ("AUTO_IDS_DANGER_LEVEL", "2".to_owned()),
            ("IPT_SYSLOG_FILE", path(log.file()).to_owned()),
            ("AUTO_DETECT_JOURNALCTL", "N".to_owned()),
            ("PSAD_DIR", ours("psad")),
            ("PSAD_RUN_DIR", ours("psad-run")),
            ("PSAD_FIFO_DIR", ours("psad-fifo")),
            // No network, no mail.
            ("ALERTING_METHODS", "noemail".to_owned()),
            ("ENABLE_AUTO_IDS_EMAILS", "N".to_owned()),
            ("ENABLE_WHOIS_LOOKUPS", "N".to_owned()),
            ("ENABLE_DNS_LOOKUPS", "N".to_owned()),
        ];
        let lines = shipped.lines().map(|line| {
            let name = line.split_whitespace().next();
            let setting = settings.iter().find(|(setting, _)| name == Some(*setting));
            setting.map_or_else(|| line.to_owned(), |(name, value)| format!("{name} {value};"))
        });
        fs::write(folder.join("psad.conf"), lines.collect::<Vec<_>>().join("\n"))
            .expect("the folder is ours");
        for name in ["psad", "psad-run", "psad-fifo"] {
            fs::create_dir(folder.join(name)).expect("the folder is ours");
        }
        Self { victim, folder: folder.to_owned(), log, processes: ProcessGroup::new("psad") }
    }
}

impl Peer for Psad<'_> {
    fn title(&self) -> String {
        format!("psad {}", package_version("psad"))
    }

    fn start(&mut self) {
        self.log.load_firewall(self.victim);
        let configuration = self.folder.join("psad.conf");
        let argv = ["psad", "-c", path(&configuration), "--no-daemon"];
        self.processes.spawn(self.victim, &argv, &self.folder.join("psad.out"));
        // It reads the log from where it ends once it has read its signatures.
        std::thread::sleep(Duration::from_secs(8));
    }

    fn stop(&mut self) {
        self.processes.stop();
    }

    fn kill(&mut self) {
        self.processes.kill();
    }

    fn saw(&self, source: IpAddr) -> bool {
        let entries = fs::read_dir(self.folder.join("psad")).expect("psad keeps a folder");
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse::<IpAddr>().ok()).any(|address| address == source)
    }

    fn blocked(&self) -> usize {
        iptables_sources(self.victim)
    }

    fn remaining(&self, source: IpAddr) -> Option<Duration> {
        let text = fs::read_to_string(self.folder.join("psad/auto_blocked_iptables")).ok()?;
        let since = text.lines().find_map(|line| {
            let (address, since) = line.split_once(' ')?;
            (address.parse() == Ok(source)).then(|| since.trim().parse::<u64>().ok())?
        })?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        Some(Duration::from_secs((since + BLOCK_SECONDS).saturating_sub(now)))
    }

    fn cpu(&self) -> Duration {
        self.processes.cpu() + self.log.cpu()
    }

    fn lines_logged(&self) -> Option<usize> {
        Some(self.log.lines())
    }
}
