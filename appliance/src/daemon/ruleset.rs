//! The ruleset in the kernel: loaded in one transaction, read back, watched.

use super::converge::Binding;
use super::troubles::Trouble;
use super::{Daemon, now};
use crate::log::whole;
use glacis_control::Refusal;
use glacis_control::report::FirewallState;
use glacis_netlink::nft::{Generation, Mismatch, NftError};
use glacis_plan::closed::{self, TABLE, TABLE_FAMILY};
use glacis_plan::nft::{Inventory, Op, Ruleset, transaction};
use glacis_plan::{GatePlan, StatusPlan};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the status page is while there is no policy to say so.
const CLOSED_STATUS: [SocketAddr; 1] = [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9777)];

impl Daemon {
    /// Nothing passes. Stands already when PID 1 started us; on another host it closes the door now.
    pub(super) async fn close(&mut self) {
        let closed = closed::drop_all();
        let result = match self.inventory().await {
            Ok(found) => self.load(&closed, transaction::onto(&found, &closed), &[]).await,
            Err(refusal) => Err(refusal),
        };
        self.firewall = FirewallState::DropAll;
        // The reason can be read on the host itself: loopback is what drop-all lets pass.
        if let Err(error) = self.status_worker.converge(Some(&StatusPlan { listen: CLOSED_STATUS.to_vec() }))
        {
            self.troubles.add(Trouble::StatusWorker, whole(&error));
        }
        match result {
            Ok(()) => self.troubles.clear(&Trouble::Ruleset),
            Err(refusal) => {
                tracing::error!(%refusal, "cannot close the firewall");
                self.troubles.add(Trouble::Ruleset, refusal.message);
            }
        }
    }

    /// Loads a ruleset and reads it back. With nothing known of the kernel's contents, the bans and the clients that gates
    /// admit go in the same transaction, so there is no moment without them.
    pub(super) async fn load(
        &mut self,
        ruleset: &Ruleset,
        mut ops: Vec<Op>,
        gates: &[GatePlan],
    ) -> Result<(), Refusal> {
        let kept = self.loaded.as_ref().map_or(&[][..], |loaded| &loaded.tables);
        if self.loaded.is_none() || !transaction::emptied(&ops, kept).is_empty() {
            ops.extend(crate::bans::reconcile(self.bans.iter(), now()));
            ops.extend(self.gates.fill_all(gates, now()));
        } else {
            ops.extend(self.gates.fill_stale(gates, now()));
        }
        let wanted = ruleset.clone();
        let result = self
            .kernel
            .run(move |state| {
                let committed = state.nft.commit(&ops, None)?;
                Ok::<_, NftError>((committed.generation, state.nft.verify(&wanted)))
            })
            .await;
        let (generation, mismatches) = match result {
            Ok(loaded) => loaded,
            Err(error) => {
                // What the transaction was computed from may be wrong: the next one looks first.
                self.loaded = None;
                return Err(Refusal {
                    message: format!("the ruleset was not loaded: {}", whole(&error)),
                    detail: String::new(),
                });
            }
        };
        let (verified, mismatches) = match mismatches {
            Ok(mismatches) => (Some(generation), mismatches),
            // It is in force; others change theirs so fast that it could not be read. The next audit tries again.
            Err(error) => {
                tracing::warn!(error = whole(&error), "the ruleset could not be read back yet");
                (None, vec![])
            }
        };
        if mismatches.is_empty() {
            self.generation = verified;
            self.loaded = Some(ruleset.clone());
            self.firewall = FirewallState::Applied;
            return Ok(());
        }
        self.loaded = None;
        self.firewall = FirewallState::Tampered;
        let found: Vec<String> = mismatches.iter().map(Mismatch::to_string).collect();
        Err(Refusal {
            message: "the ruleset that was read back is not the one that was loaded; it is tried again"
                .to_owned(),
            detail: found.join("\n"),
        })
    }

    /// What our table holds in the kernel; not asked for when this process loaded it.
    pub(super) async fn inventory(&self) -> Result<Inventory, Refusal> {
        if self.loaded.is_some() {
            return Ok(Inventory::default());
        }
        let found = self.kernel.run(|state| state.nft.inventory(&[(TABLE_FAMILY, TABLE)])).await;
        found.map_err(|error| Refusal {
            message: format!("cannot read what nf_tables holds: {}", whole(&error)),
            detail: String::new(),
        })
    }

    /// Looks whether someone else changed the ruleset, and puts right what is not as it should be.
    pub(super) async fn audit(&mut self) {
        if self.needs_program().await {
            let program = self.begin_loading_program();
            self.take_program(program.await).await;
        }
        self.look_for_tampering().await;
        if self.loaded.is_none() || self.troubles.want_another_try() {
            let binding = if self.troubles.has(&Trouble::Binding) { Binding::Anew } else { self.binding() };
            self.converge(binding).await;
        }
    }

    async fn look_for_tampering(&mut self) {
        let Some(loaded) = self.loaded.clone() else { return };
        let known = self.generation;
        let found = self
            .kernel
            .run(move |state| {
                let generation = state.nft.generation()?;
                if Some(generation) == known {
                    return Ok::<_, NftError>(None);
                }
                Ok(Some((generation, state.nft.verify(&loaded)?)))
            })
            .await;
        match found {
            Ok(None) => {}
            Ok(Some((generation, mismatches))) if mismatches.is_empty() => {
                self.refill_bans(generation).await;
            }
            Ok(Some((_, mismatches))) => {
                for mismatch in &mismatches {
                    tracing::warn!(%mismatch, "someone else changed our ruleset; it is loaded again");
                }
                self.loaded = None;
                self.firewall = FirewallState::Tampered;
            }
            Err(error) => tracing::error!(error = whole(&error), "the ruleset could not be checked"),
        }
    }

    /// Someone changed nf_tables and left our rules as they are. Elements are not read back, so the bans are written
    /// again, which is one short transaction.
    async fn refill_bans(&mut self, generation: Generation) {
        let mut ops = crate::bans::reconcile(self.bans.iter(), now());
        ops.extend(self.gates.fill_all(&self.wanted.gates, now()));
        match self.kernel.run(move |state| state.nft.commit(&ops, Some(generation))).await {
            Ok(committed) => self.generation = Some(committed.generation),
            // Changed again meanwhile: the next audit looks again.
            Err(error) => tracing::debug!(error = whole(&error), "the bans are written again later"),
        }
    }
}
