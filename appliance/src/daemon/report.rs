//! The core's account of itself.

use super::{Daemon, now};
use glacis_control::report::{
    AutoBlockStatus, FirewallState, InterfaceStatus, PolicySource, PolicyStatus, ScanStatus, StatusReport,
};
use glacis_plan::{AutoBlockMode, EvidenceRule};
use glacis_policy::Policy;

impl Daemon {
    pub(super) async fn report(&self) -> StatusReport {
        let active = self.active.as_ref();
        let name = active.map_or_else(|| "glacis".to_owned(), |active| active.checked.policy.name.clone());
        let store = self.store.stats();
        let scan = self.scan_status().await;
        StatusReport {
            name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            taken: now(),
            started: self.started,
            firewall: self.firewall,
            policy: PolicyStatus {
                revision: active.map_or(0, |active| active.revision),
                applied: active.map(|active| active.applied),
                source: active.map_or(PolicySource::None, |active| active.source),
                rules: self.rules(),
                refused: self.refused.as_ref().map(|refusal| {
                    if refusal.detail.is_empty() { refusal.message.clone() } else { refusal.detail.clone() }
                }),
            },
            interfaces: self.interfaces(),
            gates: self.gates.status(),
            gate_clients: self.gates.known_clients(),
            bans_active: self.bans.len() as u64,
            problems: self.problems(&scan, store.dropped),
            scan,
            store,
            workers: self.status_worker.status().into_iter().chain(self.gates.worker_status()).collect(),
            status_listen: self.status_worker.listen().to_vec(),
        }
    }

    fn rules(&self) -> u32 {
        let tables = self.loaded.iter().flat_map(|ruleset| &ruleset.tables);
        tables.flat_map(|table| &table.chains).map(|chain| chain.rules.len() as u32).sum()
    }

    fn interfaces(&self) -> Vec<InterfaceStatus> {
        let policy = self.active.as_ref().map(|active| &active.checked.policy);
        let wanted = self.wanted.interfaces.iter();
        wanted
            .map(|plan| {
                let link = self.observed.iter().find(|link| link.device == plan.device);
                InterfaceStatus {
                    name: plan.name.clone(),
                    device: plan.device.clone(),
                    present: link.is_some(),
                    carrier: link.is_some_and(|link| link.carrier),
                    addresses: link
                        .map_or_else(Vec::new, |l| l.addresses.iter().map(|a| a.net.to_string()).collect()),
                    zone: policy.and_then(|policy| zone_of(policy, &plan.name)),
                }
            })
            .collect()
    }

    async fn scan_status(&self) -> ScanStatus {
        let found = self.kernel.run(|state| {
            let program = state.tc.as_ref()?;
            let attached = program.attached().unwrap_or_default();
            let kind = attached.first().map(|a| a.hook.to_string()).unwrap_or_default();
            let devices = attached.into_iter().map(|a| a.device).collect();
            let counters = program.counters().unwrap_or_default();
            Some((
                devices,
                kind,
                counters.into_iter().map(|(name, n)| (name.to_owned(), n)).collect::<Vec<_>>(),
            ))
        });
        let (devices, attachment, counters) = found.await.unwrap_or_default();
        ScanStatus {
            enabled: self.wanted.scan.is_some(),
            devices,
            attachment,
            lost: self.unrecorded.lost() + shed(&counters),
            sources: self.detector.watched() as u64,
            sources_forgotten: self.detector.losses().sources,
            auto_block: self.auto_block_status(),
            geoip: self.geoip.status(),
            counters,
        }
    }

    fn auto_block_status(&self) -> Option<AutoBlockStatus> {
        let block = self.wanted.scan.as_ref()?.auto_block.as_ref()?;
        let mode = match block.mode {
            AutoBlockMode::Observe => "observe",
            AutoBlockMode::Enforce => "enforce",
        };
        let evidence = match block.evidence {
            EvidenceRule::Any => "any",
            EvidenceRule::SpoofProof => "spoof-proof",
        };
        Some(AutoBlockStatus {
            mode: mode.to_owned(),
            evidence: evidence.to_owned(),
            suspended: self.auto_block_suspended().map(str::to_owned),
        })
    }

    /// Why scanners are not blocked although the policy asks for it.
    pub(super) fn auto_block_suspended(&self) -> Option<&'static str> {
        match self.firewall {
            FirewallState::Applied => None,
            FirewallState::DropAll => Some("no policy is in force"),
            FirewallState::Tampered => {
                Some("someone else changed the ruleset, and it could not be loaded again yet")
            }
        }
    }

    /// Worst first.
    fn problems(&self, scan: &ScanStatus, dropped: u64) -> Vec<String> {
        let mut problems = vec![];
        match self.firewall {
            FirewallState::Applied => {}
            FirewallState::DropAll => {
                problems.push("No policy is in force: all traffic is dropped.".to_owned());
            }
            FirewallState::Tampered => {
                problems.push("The kernel's ruleset is not the one that was loaded.".to_owned());
            }
        }
        if let Some(refusal) = &self.refused {
            let running = match self.active.as_ref().map(|active| active.source) {
                None => "nothing passes",
                Some(PolicySource::LastGood) => "the last good policy runs",
                Some(_) => "the earlier policy goes on",
            };
            problems.push(format!("The newest policy was refused and {running}: {}", refusal.message));
        }
        problems.extend(self.troubles.lines().cloned());
        if let Some(why) = scan.auto_block.as_ref().and_then(|block| block.suspended.as_ref()) {
            problems.push(format!("Scanners are not blocked: {why}."));
        }
        for geoip in &scan.geoip {
            if let Some(error) = &geoip.error {
                problems.push(format!("GeoIP database {}: {error}", geoip.file));
            }
        }
        if scan.enabled && scan.devices.is_empty() {
            problems.push("Scan awareness is on, but no interface is watched.".to_owned());
        }
        if dropped > 0 {
            problems.push(format!("The store dropped {dropped} writes."));
        }
        problems
    }
}

/// Packets that were not looked at while a flood of forged sources lasted; each may have been a probe.
fn shed(counters: &[(String, u64)]) -> u64 {
    let of_name = |(name, _): &&(String, u64)| name == glacis_loader::Counter::ProbesShed.name();
    counters.iter().find(of_name).map_or(0, |(_, shed)| *shed)
}

fn zone_of(policy: &Policy, interface: &str) -> Option<String> {
    let holds = |zone: &&glacis_policy::Zone| zone.interfaces.iter().any(|i| i.value == interface);
    policy.zones.iter().find(holds).map(|zone| zone.name.value.clone())
}
