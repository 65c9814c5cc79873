//! The core's account of itself.

use super::{Daemon, now};
use glacis_control::report::{
    FirewallState, InterfaceStatus, PolicySource, PolicyStatus, ScanStatus, StatusReport,
};
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
            bans_active: self.bans.len() as u64,
            problems: self.problems(&scan, store.dropped),
            scan,
            store,
            workers: self.status_worker.status(),
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
        let lost_in_kernel: u64 = counters.iter().filter(|(name, _)| is_loss(name)).map(|(_, n)| n).sum();
        ScanStatus {
            enabled: self.wanted.scan.is_some(),
            devices,
            attachment,
            lost: lost_in_kernel + self.detector.forgotten(),
            counters,
            geoip: self.geoip.status(),
            ..ScanStatus::default()
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
        if scan.enabled && scan.devices.is_empty() {
            problems.push("Scan awareness is on, but no interface is watched.".to_owned());
        }
        if dropped > 0 {
            problems.push(format!("The store dropped {dropped} writes."));
        }
        problems
    }
}

/// Probes that no table holds. A lost event is made up for by the next one or by a sweep.
fn is_loss(counter: &str) -> bool {
    counter == glacis_loader::Counter::ProbesLost.name()
}

fn zone_of(policy: &Policy, interface: &str) -> Option<String> {
    let holds = |zone: &&glacis_policy::Zone| zone.interfaces.iter().any(|i| i.value == interface);
    policy.zones.iter().find(holds).map(|zone| zone.name.value.clone())
}
