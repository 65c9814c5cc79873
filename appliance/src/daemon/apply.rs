//! From a policy to the kernel: compile, compare, commit, read back.
//!
//! A policy that does not compile or that the kernel refuses changes nothing: the ruleset is one transaction, and
//! what ran before goes on. Links and devices that fail are troubles that are tried again, not reasons to refuse.

use super::{Active, Daemon, facts, now};
use crate::dhcp::DhcpEvent;
use crate::log::whole;
use crate::policy_file::{self, Checked, PolicyFileError};
use glacis_control::report::{FirewallState, PolicySource};
use glacis_control::{EventKind, Refusal};
use glacis_netlink::links::{self, LinkEvent, LinksError};
use glacis_plan::closed::{TABLE, TABLE_FAMILY};
use glacis_plan::nft::{Inventory, Op, Ruleset, transaction};
use glacis_plan::{Changes, LinkChange, Observed, Plan, Sysctl};
use std::path::{Path, PathBuf};

/// What applying a policy came to.
pub(super) struct Applied {
    pub revision: u64,
    pub changes: Vec<String>,
    pub warnings: Vec<String>,
}

impl Daemon {
    /// The policy file; failing that, the last good policy; failing that, nothing passes.
    pub(super) async fn first_policy(&mut self) {
        if self.reload().await.is_ok() {
            return;
        }
        match self.revisions.newest() {
            Ok(Some((revision, text))) => {
                tracing::warn!(revision, "falling back to the last good policy");
                let refused = self.refused.take();
                let file = format!("revision {revision}");
                if let Err(refusal) = self.apply_text(&file, text, PolicySource::LastGood).await {
                    tracing::error!(%refusal, "the last good policy does not apply any more");
                }
                self.refused = refused;
            }
            Ok(None) => tracing::error!("there is no last good policy; nothing passes"),
            Err(error) => tracing::error!(%error, "nothing passes"),
        }
        if self.active.is_none() {
            self.close().await;
        }
    }

    /// Reads the policy file again. On any error the running policy stays, and the refusal is kept for the status.
    pub(super) async fn reload(&mut self) -> Result<Applied, Refusal> {
        let path = self.args.policy.clone();
        match policy_file::read(&path) {
            Ok(text) => self.apply_text(&path.display().to_string(), text, PolicySource::File).await,
            Err(error) => Err(self.refuse(&error)),
        }
    }

    /// Compiles and applies a policy; keeps it as the newest revision when it is in force.
    pub(super) async fn apply_text(
        &mut self,
        file: &str,
        text: Vec<u8>,
        source: PolicySource,
    ) -> Result<Applied, Refusal> {
        let checked = match self.compile(file, text).await {
            Ok(checked) => checked,
            Err(error) => return Err(self.refuse(&error)),
        };
        let (changes, described) = self.compare(&checked.plan).await?;
        let wanted = self.leases.with_leases(&checked.plan);
        if let Err(refusal) = self.commit(wanted, changes).await {
            self.note(EventKind::PolicyRefused { message: refusal.message.clone() });
            self.refused = Some(refusal.clone());
            return Err(refusal);
        }
        let revision = match self.revisions.keep(&checked.text) {
            Ok(revision) => revision,
            Err(error) => {
                tracing::error!(%error, "the policy is in force, but a restart will not know it");
                self.troubles.push(error.to_string());
                self.active.as_ref().map_or(0, |active| active.revision)
            }
        };
        self.note(EventKind::PolicyApplied { revision, changes: described.len() as u32 });
        tracing::info!(revision, changes = described.len(), file, "policy applied");
        let mut warnings = checked.warnings.clone();
        if source == PolicySource::Command {
            warnings.push(format!("a restart or reload reads {} again", self.args.policy.display()));
        }
        warnings.extend(self.troubles.iter().cloned());
        if self.args.appliance
            && let Err(error) = rustix::system::sethostname(checked.policy.name.as_bytes())
        {
            tracing::warn!(%error, "the host keeps its name");
        }
        self.active = Some(Active { checked, source, revision, applied: now() });
        self.refused = None;
        self.settle().await;
        Ok(Applied { revision, changes: described, warnings })
    }

    /// Compiles a policy against the host as it is now.
    pub(super) async fn compile(&mut self, file: &str, text: Vec<u8>) -> Result<Checked, PolicyFileError> {
        self.observe_links().await;
        let folder = self.policy_folder();
        let links = self.observed.clone();
        policy_file::compile(file, text, move |policy| facts::gather(policy, &folder, &links))
    }

    /// What a plan would change, and how a person reads it.
    pub(super) async fn compare(&mut self, plan: &Plan) -> Result<(Changes, Vec<String>), Refusal> {
        let wanted = self.leases.with_leases(plan);
        let observed = Observed {
            links: self.observed.clone(),
            ruleset: self.loaded.clone(),
            sysctls: wanted.sysctls.iter().filter_map(current).collect(),
        };
        let changes = Changes::between(&wanted, &observed, &self.inventory().await?);
        let described = glacis_plan::describe(&changes, self.loaded.as_ref(), &wanted);
        Ok((changes, described))
    }

    /// Walks the changes. The ruleset decides: when the kernel refuses it, nothing was changed but sysctls.
    async fn commit(&mut self, wanted: Plan, changes: Changes) -> Result<(), Refusal> {
        self.troubles.clear();
        self.write_sysctls(&changes.sysctls);
        if !changes.ruleset.is_empty() || self.loaded.is_none() {
            self.load(&wanted.ruleset, changes.ruleset).await?;
        }
        for change in &changes.links {
            self.change_link(change).await;
        }
        self.wanted = wanted;
        self.observe_links().await;
        Ok(())
    }

    fn write_sysctls(&mut self, sysctls: &[Sysctl]) {
        for sysctl in sysctls {
            if let Err(error) = links::write_sysctl(sysctl) {
                tracing::warn!(%error, "a kernel parameter stays as it is");
                self.troubles.push(error.to_string());
            }
        }
    }

    async fn change_link(&mut self, change: &LinkChange) {
        if let Err(error) = self.links.apply(change).await {
            tracing::warn!(%error, "an interface is not as the policy asks");
            self.troubles.push(error.to_string());
        }
    }

    /// What does not decide whether a policy is in force: leases, scan program, status worker.
    async fn settle(&mut self) {
        let plan = self.wanted.clone();
        self.leases.converge(&plan.interfaces, &self.observed);
        self.detector.configure(plan.scan.as_ref().and_then(|scan| scan.auto_block.clone()));
        self.attach_program(&plan).await;
        if let Err(error) = self.status_worker.converge(plan.status.as_ref()) {
            tracing::error!(%error, "the status page is not served");
            self.troubles.push(error.to_string());
        }
    }

    /// Nothing passes. Stands already when PID 1 started us; on another host it closes the door now.
    async fn close(&mut self) {
        let closed = glacis_plan::closed::drop_all();
        let result = match self.inventory().await {
            Ok(found) => self.load(&closed, transaction::onto(&found, &closed)).await,
            Err(refusal) => Err(refusal),
        };
        self.firewall = FirewallState::DropAll;
        if let Err(refusal) = result {
            tracing::error!(%refusal, "cannot close the firewall");
            self.troubles.push(refusal.message);
        }
    }

    fn refuse(&mut self, error: &PolicyFileError) -> Refusal {
        let refusal = Refusal { message: error.summary(), detail: error.detail() };
        tracing::error!(reason = refusal.message, "policy refused; what ran before goes on");
        self.note(EventKind::PolicyRefused { message: refusal.message.clone() });
        self.refused = Some(refusal.clone());
        refusal
    }

    fn policy_folder(&self) -> PathBuf {
        self.args.policy.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
    }

    pub(super) async fn observe_links(&mut self) {
        match self.links.observe().await {
            Ok(links) => self.observed = links,
            Err(error) => tracing::warn!(%error, "interfaces could not be read"),
        }
    }

    /// An interface came, went or changed: bind the policy anew if the set of interfaces changed, converge anyway.
    pub(super) async fn take_link_change(&mut self, change: Result<LinkEvent, LinksError>) {
        match change {
            Ok(change) => tracing::debug!(?change, "interfaces changed"),
            Err(error) => {
                tracing::error!(%error, "changes of interfaces are not followed");
                self.troubles.push(error.to_string());
            }
        }
        let devices = |links: &[glacis_plan::ObservedLink]| -> Vec<_> {
            links.iter().map(|l| (l.device.clone(), l.mac)).collect()
        };
        let before = devices(&self.observed);
        self.observe_links().await;
        self.converge(before != devices(&self.observed)).await;
    }

    pub(super) async fn take_lease(&mut self, event: DhcpEvent) {
        for change in self.leases.take(event) {
            self.change_link(&change).await;
        }
        self.observe_links().await;
        self.converge(false).await;
    }

    /// Makes the host what the running policy asks, whatever someone else did to it.
    pub(super) async fn converge(&mut self, rebind: bool) {
        let Some(active) = &self.active else { return };
        let plan = if rebind {
            let (file, text) = (active.checked.file.clone(), active.checked.text.clone());
            match self.compile(&file, text).await {
                Ok(checked) => {
                    let plan = checked.plan.clone();
                    if let Some(active) = &mut self.active {
                        active.checked = checked;
                    }
                    plan
                }
                Err(error) => {
                    tracing::error!(
                        reason = error.summary(),
                        "the running policy does not fit the host any more"
                    );
                    self.troubles.push(error.summary());
                    return;
                }
            }
        } else {
            active.checked.plan.clone()
        };
        let wanted = self.leases.with_leases(&plan);
        let committed = match self.compare(&plan).await {
            Ok((changes, _))
                if changes == Changes::default() && self.loaded.is_some() && self.troubles.is_empty() =>
            {
                self.wanted = wanted;
                Ok(())
            }
            Ok((changes, _)) => self.commit(wanted, changes).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = committed {
            tracing::error!(%refusal, "the host could not be converged");
            self.troubles.push(refusal.message);
            return;
        }
        self.settle().await;
    }

    /// Loads a ruleset and reads it back. With nothing known of the kernel's contents, the bans go in the same
    /// transaction, so there is no moment without them.
    async fn load(&mut self, ruleset: &Ruleset, mut ops: Vec<Op>) -> Result<(), Refusal> {
        let kept = self.loaded.as_ref().map_or(&[][..], |loaded| &loaded.tables);
        if self.loaded.is_none() || !transaction::emptied(&ops, kept).is_empty() {
            ops.extend(crate::bans::reconcile(self.bans.iter(), now()));
        }
        let wanted = ruleset.clone();
        let result = self
            .kernel
            .run(move |state| {
                let committed = state.nft.commit(&ops, None)?;
                Ok::<_, glacis_netlink::nft::NftError>((committed.generation, state.nft.verify(&wanted)?))
            })
            .await;
        match result {
            Err(error) => Err(Refusal {
                message: format!("the ruleset was not loaded: {}", whole(&error)),
                detail: String::new(),
            }),
            Ok((generation, mismatches)) if mismatches.is_empty() => {
                self.generation = Some(generation);
                self.loaded = Some(ruleset.clone());
                self.firewall = FirewallState::Applied;
                Ok(())
            }
            Ok((_, mismatches)) => {
                self.loaded = None;
                self.firewall = FirewallState::Tampered;
                let found: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
                Err(Refusal {
                    message:
                        "the ruleset that was read back is not the one that was loaded; it is tried again"
                            .to_owned(),
                    detail: found.join("\n"),
                })
            }
        }
    }

    /// What our table holds in the kernel; not asked for when this process loaded it.
    async fn inventory(&self) -> Result<Inventory, Refusal> {
        if self.loaded.is_some() {
            return Ok(Inventory::default());
        }
        let found = self.kernel.run(|state| state.nft.inventory(&[(TABLE_FAMILY, TABLE)])).await;
        found.map_err(|error| Refusal {
            message: format!("cannot read what nf_tables holds: {}", whole(&error)),
            detail: String::new(),
        })
    }

    /// Looks whether someone else changed the ruleset, and puts it right.
    pub(super) async fn audit(&mut self) {
        let Some(loaded) = self.loaded.clone() else {
            self.converge(false).await;
            return;
        };
        let known = self.generation;
        let found = self
            .kernel
            .run(move |state| {
                let generation = state.nft.generation()?;
                let mismatches =
                    if Some(generation) == known { vec![] } else { state.nft.verify(&loaded)? };
                Ok::<_, glacis_netlink::nft::NftError>((generation, mismatches))
            })
            .await;
        match found {
            Ok((generation, mismatches)) if mismatches.is_empty() => self.generation = Some(generation),
            Ok((_, mismatches)) => {
                for mismatch in &mismatches {
                    tracing::error!(%mismatch, "someone else changed our ruleset; it is loaded again");
                }
                self.loaded = None;
                self.firewall = FirewallState::Tampered;
                self.converge(false).await;
            }
            Err(error) => tracing::error!(%error, "the ruleset could not be checked"),
        }
        if !self.troubles.is_empty() {
            self.converge(false).await;
        }
    }
}

/// A parameter as it is now; one that cannot be read is written anew.
fn current(sysctl: &Sysctl) -> Option<Sysctl> {
    let value = links::read_sysctl(&sysctl.path).ok()?;
    Some(Sysctl { path: sysctl.path.clone(), value })
}
