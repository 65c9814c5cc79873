//! From a policy to the kernel: compile, compare, commit, read back.
//!
//! A policy that does not compile or that the kernel refuses changes nothing: the ruleset is one transaction, and
//! what ran before goes on. Links and devices that fail are troubles that are tried again, not reasons to refuse.

use super::converge::current;
use super::troubles::Trouble;
use super::{Active, Daemon, facts, now};
use crate::log::whole;
use crate::policy_file::{self, Checked, PolicyFileError};
use glacis_control::report::PolicySource;
use glacis_control::{EventKind, Refusal};
use glacis_plan::{Changes, Observed, Plan, Shapes};
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
        let (changes, described) = match self.compare(&checked.plan).await {
            Ok(compared) => compared,
            Err(refusal) => return Err(self.refused(refusal)),
        };
        let wanted = self.leases.with_leases(&checked.plan);
        if let Err(refusal) = self.commit(wanted, changes).await {
            return Err(self.refused(refusal));
        }
        self.troubles.clear(&Trouble::Ruleset);
        self.troubles.clear(&Trouble::Binding);
        let revision = match self.revisions.keep(&checked.text) {
            Ok(revision) => {
                self.troubles.clear(&Trouble::Revision);
                revision
            }
            Err(error) => {
                tracing::error!(%error, "the policy is in force, but a restart will not know it");
                self.troubles.add(Trouble::Revision, error.to_string());
                self.active.as_ref().map_or(0, |active| active.revision)
            }
        };
        self.note(EventKind::PolicyApplied { revision, changes: described.len() as u32 });
        tracing::info!(revision, changes = described.len(), file, "policy applied");
        let mut warnings = checked.warnings.clone();
        if source == PolicySource::Command {
            warnings.push(format!("a restart or reload reads {} again", self.args.policy.display()));
        }
        if self.args.appliance
            && let Err(error) = rustix::system::sethostname(checked.policy.name.as_bytes())
        {
            tracing::warn!(%error, "the host keeps its name");
        }
        self.active = Some(Active { checked, source, revision, applied: now() });
        self.refused = None;
        self.settle().await;
        warnings.extend(self.troubles.lines().cloned());
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
        let mut described = glacis_plan::describe(&changes, self.loaded.as_ref(), &wanted);
        described.extend(glacis_plan::describe_scan(self.wanted.scan.as_ref(), wanted.scan.as_ref()));
        Ok((changes, described))
    }

    /// Walks the changes. The ruleset decides and goes first: when the kernel refuses it, nothing was changed, and nothing
    /// is ever forwarded without it.
    pub(super) async fn commit(&mut self, wanted: Plan, changes: Changes) -> Result<(), Refusal> {
        if !changes.ruleset.is_empty() || self.loaded.is_none() {
            self.load(&wanted.ruleset, changes.ruleset, &wanted.gates).await?;
        }
        self.troubles.clear(&Trouble::Sysctls);
        self.troubles.clear(&Trouble::Links);
        self.write_sysctls(&changes.sysctls);
        for change in &changes.links {
            self.change_link(change).await;
        }
        self.wanted = wanted;
        self.observe_links().await;
        Ok(())
    }

    /// What does not decide whether a policy is in force: leases, scan program, status worker.
    pub(super) async fn settle(&mut self) {
        let plan = self.wanted.clone();
        self.leases.converge(&plan.interfaces, &self.observed);
        let scan = plan.scan.as_ref();
        let shapes = scan.map_or_else(Shapes::default, |scan| scan.shapes);
        self.detector.configure(scan.and_then(|scan| scan.auto_block.as_ref()), shapes);
        self.refresh_geoip();
        self.attach_program(&plan).await;
        self.troubles.clear(&Trouble::StatusWorker);
        if let Err(error) = self.status_worker.converge(plan.status.as_ref()) {
            tracing::error!(error = whole(&error), "the status page is not served");
            self.troubles.add(Trouble::StatusWorker, whole(&error));
        }
        self.converge_gates().await;
    }

    fn refuse(&mut self, error: &PolicyFileError) -> Refusal {
        self.refused(Refusal { message: error.summary(), detail: error.detail() })
    }

    /// Every way to refuse a policy leaves the same traces.
    fn refused(&mut self, refusal: Refusal) -> Refusal {
        tracing::warn!(reason = refusal.message, "policy refused; what ran before goes on");
        self.note(EventKind::PolicyRefused { message: refusal.message.clone() });
        self.refused = Some(refusal.clone());
        refusal
    }

    /// Takes GeoIP files in that are new or were replaced; returns at once.
    pub(super) fn refresh_geoip(&self) {
        self.geoip.begin_refresh(&self.wanted.geoip, &self.policy_folder());
    }

    pub(super) fn policy_folder(&self) -> PathBuf {
        self.args.policy.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
    }
}
