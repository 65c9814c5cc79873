//! Glacis itself.

use crate::network::{GATEWAY, GATEWAY_V6, OPEN_PORT, VICTIM, VICTIM_ADDRESSES, VICTIM_V6};
use crate::peer::{Peer, ProcessGroup, names};
use glacis_tests::daemon::Daemon;
use glacis_tests::netns::Namespace;
use serde_json::Value;
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// What counts towards a block.
#[derive(Debug, Clone, Copy)]
pub enum Evidence {
    SpoofProof,
    Any,
}

impl Evidence {
    /// As the policy spells it.
    fn name(self) -> &'static str {
        match self {
            Self::SpoofProof => "spoof-proof",
            Self::Any => "any",
        }
    }
}

pub struct Glacis<'a> {
    evidence: Evidence,
    daemon: Daemon<'a>,
    processes: ProcessGroup,
}

impl<'a> Glacis<'a> {
    pub fn new(victim: &'a Namespace, evidence: Evidence) -> Self {
        let daemon = Daemon::prepare(victim);
        daemon.write_policy(&policy(evidence));
        Self { evidence, daemon, processes: ProcessGroup::new("glacis") }
    }

    fn blocks(&self) -> Vec<Value> {
        self.daemon.blocks().as_array().expect("blocks are a list").clone()
    }
}

fn policy(evidence: Evidence) -> String {
    let evidence = evidence.name();
    let first = VICTIM.octets()[3];
    let octets = first..first + VICTIM_ADDRESSES;
    let addresses: Vec<_> = octets.map(|octet| format!("address \"198.18.0.{octet}/24\"")).collect();
    let addresses = addresses.join("; ");
    format!(
        r#"
policy version=1 name="comparison"
interface v0 {{
    {addresses}
    address "{VICTIM_V6}/64"
    route default via="{GATEWAY}"
    route default via="{GATEWAY_V6}"
}}
zone internet {{ from v0; default drop }}
rules from=internet to=self {{ allow ping; allow tcp={OPEN_PORT} }}
rules from=self to=internet {{ allow all }}
scan {{
    interfaces v0
    auto-block {{ evidence {evidence}; threshold 20; window "5m"; duration "1h" }}
}}
"#
    )
}

impl Peer for Glacis<'_> {
    fn title(&self) -> String {
        let output = self.daemon.glacis(&["--version"]);
        let version = String::from_utf8_lossy(&output.stdout).trim().replace("glacis", "Glacis");
        format!("{version} {}", self.evidence.name())
    }

    fn start(&mut self) {
        self.daemon.run();
        self.daemon.wait_ready();
        self.processes.adopt(self.daemon.pid());
    }

    fn stop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.daemon.pid().to_string()]).status();
        std::thread::sleep(Duration::from_secs(3));
        self.daemon.kill();
    }

    fn kill(&mut self) {
        self.daemon.kill();
    }

    fn saw(&self, source: IpAddr) -> bool {
        let events = self.daemon.ask(&["scans", "events", "--json", "--address", &source.to_string()]);
        names(&events, source)
    }

    fn blocked(&self) -> usize {
        self.blocks().len()
    }

    fn remaining(&self, source: IpAddr) -> Option<Duration> {
        let until =
            self.blocks().iter().find(|ban| names(&ban["source"].to_string(), source))?["until"].as_u64()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        Some(Duration::from_millis(until).saturating_sub(now))
    }

    fn cpu(&self) -> Duration {
        self.processes.cpu()
    }
}
