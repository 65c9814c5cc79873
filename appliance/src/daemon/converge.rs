//! Keeps the host as the running policy asks while interfaces, leases and other people change it.

use super::troubles::Trouble;
use super::{Daemon, facts};
use crate::dhcp::DhcpEvent;
use crate::log::whole;
use glacis_control::EventKind;
use glacis_netlink::links::{self, LinkEvent, LinksError};
use glacis_plan::{Changes, LinkChange, ObservedLink, Plan, Sysctl};
use std::time::Duration;

/// A pause after a failure to follow interfaces, so that a failure that stays does not take the loop.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// Whether the policy's interfaces are looked for among the host's again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    Keep,
    Anew,
}

impl Daemon {
    /// An interface came, went or changed: bind the policy anew if the set of interfaces changed, converge anyway.
    pub(super) async fn take_link_change(&mut self, change: Result<LinkEvent, LinksError>) {
        match change {
            Ok(change) => {
                tracing::debug!(?change, "interfaces changed");
                self.troubles.clear(&Trouble::LinkWatch);
            }
            Err(error) => {
                tracing::warn!(error = whole(&error), "changes of interfaces are not followed");
                self.troubles.add(Trouble::LinkWatch, whole(&error));
                tokio::time::sleep(WATCH_PAUSE).await;
            }
        }
        let before = self.observed.clone();
        self.observe_links().await;
        for kind in carrier_changes(&before, &self.observed) {
            self.note(kind);
        }
        self.converge(self.binding()).await;
    }

    /// Anew when the interfaces are others than those the running policy was compiled for.
    pub(super) fn binding(&self) -> Binding {
        match &self.active {
            Some(active) if active.checked.bound_to != facts::interfaces(&self.observed) => Binding::Anew,
            _ => Binding::Keep,
        }
    }

    pub(super) async fn take_lease(&mut self, event: DhcpEvent) {
        for change in self.leases.take(event) {
            self.change_link(&change).await;
        }
        self.observe_links().await;
        self.converge(self.binding()).await;
    }

    /// Makes the host what the running policy asks, whatever someone else did to it; without a policy, keeps it closed.
    pub(super) async fn converge(&mut self, binding: Binding) {
        let Some(plan) = self.running_plan(binding).await else {
            if self.active.is_none() && self.loaded.is_none() {
                self.close().await;
            }
            return;
        };
        let wanted = self.leases.with_leases(&plan);
        let committed = match self.compare(&plan).await {
            Ok((changes, _)) if changes == Changes::default() && self.loaded.is_some() => {
                self.troubles.clear(&Trouble::Links);
                self.troubles.clear(&Trouble::Sysctls);
                self.wanted = wanted;
                Ok(())
            }
            Ok((changes, _)) => self.commit(wanted, changes).await,
            Err(refusal) => Err(refusal),
        };
        match committed {
            Ok(()) => {
                self.troubles.clear(&Trouble::Ruleset);
                self.settle().await;
            }
            Err(refusal) => {
                tracing::error!(%refusal, "the host could not be converged");
                self.troubles.add(Trouble::Ruleset, refusal.message);
            }
        }
    }

    /// The plan of the running policy, bound to the interfaces that are there.
    async fn running_plan(&mut self, binding: Binding) -> Option<Plan> {
        let active = self.active.as_ref()?;
        if binding == Binding::Keep {
            return Some(active.checked.plan.clone());
        }
        let (file, text) = (active.checked.file.clone(), active.checked.text.clone());
        match self.compile(&file, text).await {
            Ok(checked) => {
                self.troubles.clear(&Trouble::Binding);
                let plan = checked.plan.clone();
                if let Some(active) = &mut self.active {
                    active.checked = checked;
                }
                Some(plan)
            }
            Err(error) => {
                tracing::warn!(reason = error.summary(), "the running policy does not fit the host any more");
                self.troubles.add(Trouble::Binding, error.summary());
                self.active.as_ref().map(|active| active.checked.plan.clone())
            }
        }
    }

    pub(super) async fn change_link(&mut self, change: &LinkChange) {
        if let Err(error) = self.links.apply(change).await {
            tracing::warn!(error = whole(&error), "an interface is not as the policy asks");
            self.troubles.add(Trouble::Links, whole(&error));
        }
    }

    pub(super) fn write_sysctls(&mut self, sysctls: &[Sysctl]) {
        for sysctl in sysctls {
            if let Err(error) = links::write_sysctl(sysctl) {
                tracing::warn!(error = whole(&error), "a kernel parameter stays as it is");
                self.troubles.add(Trouble::Sysctls, whole(&error));
            }
        }
    }

    pub(super) async fn observe_links(&mut self) {
        match self.links.observe().await {
            Ok(links) => self.observed = links,
            Err(error) => tracing::warn!(error = whole(&error), "interfaces could not be read"),
        }
    }
}

/// A parameter as it is now; one that cannot be read is written anew.
pub(super) fn current(sysctl: &Sysctl) -> Option<Sysctl> {
    let value = links::read_sysctl(&sysctl.path).ok()?;
    Some(Sysctl { path: sysctl.path.clone(), value })
}

/// Interfaces whose lower layer began or ceased to work; one that went away ceased.
fn carrier_changes(before: &[ObservedLink], after: &[ObservedLink]) -> Vec<EventKind> {
    let works = |links: &[ObservedLink], device: &str| links.iter().any(|l| l.device == device && l.carrier);
    let mut devices: Vec<&str> =
        before.iter().chain(after).filter(|l| !l.loopback).map(|l| l.device.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    devices
        .into_iter()
        .filter(|device| works(before, device) != works(after, device))
        .map(|device| EventKind::LinkChanged { device: device.to_owned(), up: works(after, device) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carrier_that_comes_or_goes_is_told_once() {
        let link = |device: &str, carrier| ObservedLink {
            device: device.into(),
            carrier,
            ..ObservedLink::default()
        };
        let before = [link("a", true), link("b", false), link("c", true), link("gone", true)];
        let after = [link("a", false), link("b", true), link("c", true), link("new", true)];
        let told: Vec<String> = carrier_changes(&before, &after)
            .into_iter()
            .map(|kind| match kind {
                EventKind::LinkChanged { device, up } => format!("{device} {up}"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, ["a false", "b true", "gone false", "new true"]);
        assert!(carrier_changes(&after, &after).is_empty());
    }
}
