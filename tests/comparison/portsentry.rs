//! portsentry: listens on decoy ports, or on raw sockets, and blocks at the first touch.

use crate::kernel_log::path;
use crate::peer::{Peer, ProcessGroup, iptables_sources, names};
use crate::report::package_version;
use glacis_tests::netns::Namespace;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Its three ways to watch.
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    /// Real sockets on 26 TCP and 21 UDP ports.
    Classic,
    /// Raw sockets, the same ports.
    Stealth,
    /// Raw sockets, every port below 1024 that nobody serves.
    Advanced,
}

impl Mode {
    fn flags(self) -> [&'static str; 2] {
        match self {
            Self::Classic => ["-tcp", "-udp"],
            Self::Stealth => ["-stcp", "-sudp"],
            Self::Advanced => ["-atcp", "-audp"],
        }
    }
}

pub struct Portsentry<'a> {
    victim: &'a Namespace,
    mode: Mode,
    folder: PathBuf,
    processes: ProcessGroup,
}

impl<'a> Portsentry<'a> {
    pub fn new(victim: &'a Namespace, mode: Mode, folder: &Path) -> Self {
        let shipped =
            fs::read_to_string("/etc/portsentry/portsentry.conf").expect("the package's configuration");
        // As shipped it blocks nobody. The route it would add needs a tool that is gone; the file proposes iptables too.
        let lines = shipped.lines().map(|line| match line.split('=').next().map(str::trim) {
            Some(name @ ("BLOCK_TCP" | "BLOCK_UDP")) => format!("{name}=\"1\""),
            Some("KILL_ROUTE") => "KILL_ROUTE=\"/sbin/iptables -I INPUT -s $TARGET$ -j DROP\"".to_owned(),
            Some("KILL_HOSTS_DENY") => String::new(),
            _ => line.to_owned(),
        });
        let text = lines.collect::<Vec<_>>().join("\n") + "\n";
        for name in ["etc", "lib"] {
            fs::create_dir(folder.join(name)).expect("the folder is ours");
        }
        fs::write(folder.join("etc/portsentry.conf"), text).expect("the folder is ours");
        fs::write(folder.join("etc/portsentry.ignore"), "127.0.0.1/32\n0.0.0.0\n")
            .expect("the folder is ours");
        Self { victim, mode, folder: folder.to_owned(), processes: ProcessGroup::new("portsentry") }
    }
}

impl Peer for Portsentry<'_> {
    fn title(&self) -> String {
        format!("portsentry {} {}", package_version("portsentry"), self.mode.flags()[0])
    }

    fn start(&mut self) {
        // Its paths are compiled in; `ip netns exec` gives it mounts of its own.
        let folder = self.folder.display();
        let script = format!(
            "mount --bind {folder}/etc /etc/portsentry && mount --bind {folder}/lib /var/lib/portsentry && \
             for mode; do portsentry $mode; done"
        );
        let [tcp, udp] = self.mode.flags();
        self.processes.spawn(
            self.victim,
            &["sh", "-c", &script, "sh", tcp, udp],
            &self.folder.join("portsentry.out"),
        );
        std::thread::sleep(Duration::from_secs(3));
    }

    fn stop(&mut self) {
        self.processes.stop();
    }

    fn kill(&mut self) {
        self.processes.kill();
    }

    fn saw(&self, source: IpAddr) -> bool {
        let history = self.folder.join("lib/portsentry.history");
        names(&fs::read_to_string(path(&history)).unwrap_or_default(), source)
    }

    fn blocked(&self) -> usize {
        iptables_sources(self.victim)
    }

    fn remaining(&self, _source: IpAddr) -> Option<Duration> {
        None
    }

    fn cpu(&self) -> Duration {
        self.processes.cpu()
    }
}
