//! Bans: entered in the book, then at once in the kernel and in the store; lifted the other way round.

use super::troubles::Trouble;
use super::{Daemon, now};
use crate::bans::{self, BanRefusal, Entered};
use crate::detector::Trigger;
use crate::kernel::{Kernel, KernelState};
use crate::log::whole;
use crate::storage::StorageError;
use glacis_control::{Ban, BanReason, EventKind, Evidence, Offences, Refusal, Reply};
use glacis_loader::{LoaderError, MonotonicTime, TcProgram};
use glacis_netlink::nft::{Generation, NftError};
use glacis_plan::AutoBlockMode;
use glacis_plan::closed::{self, TABLE, TABLE_FAMILY};
use glacis_plan::nft::{Name, Op, Set};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Bans that are read back one by one; reading a set costs with its size.
const READ_BACK_MAX: usize = 1_000;
/// Longest block that is not for ever; far below what the kernel can count.
const DURATION_MAX: Duration = Duration::from_secs(3_650 * 86_400);
/// Longest note of a block by hand.
const NOTE_BYTES_MAX: usize = 256;
/// Who a ban is by, when the detector asked for it.
const AUTHOR_AUTO: &str = "auto";

impl Daemon {
    /// Blocks what the detector found in one turn, with one commit and one transaction, unless the policy only observes
    /// or a source is never to be blocked.
    pub(super) async fn take_triggers(&mut self, triggers: Vec<Trigger>) {
        let Some(settings) = self.wanted.scan.as_ref().and_then(|scan| scan.auto_block.clone()) else {
            return;
        };
        if let Some(why) = self.auto_block_suspended() {
            tracing::warn!(sources = triggers.len(), why, "scanners are not blocked");
            return;
        }
        let (since, host) = (now(), self.host_addresses());
        let (mut bans, mut offences) = (vec![], BTreeMap::new());
        for trigger in triggers {
            if let Some(why) = self.never_blocked(&trigger.source, &host) {
                tracing::info!(source = %trigger.source, why, "a scanner is not blocked");
                continue;
            }
            let sentence =
                bans::sentence(&settings, trigger.source, self.offences.get(&trigger.source), since);
            offences.extend(sentence.offences.map(|offences| (trigger.source, offences)));
            bans.push(Ban {
                source: trigger.source,
                since,
                until: sentence.until,
                reason: with_earlier_blocks(trigger.reason, sentence.earlier_blocks),
                author: AUTHOR_AUTO.to_owned(),
            });
        }
        match settings.mode {
            AutoBlockMode::Observe => self.observe_only(bans),
            AutoBlockMode::Enforce => self.block_scanners(bans, offences).await,
        }
    }

    /// Says whom it would have blocked, once for as long as that block would last.
    fn observe_only(&mut self, bans: Vec<Ban>) {
        self.would_block.take_expired(now());
        for ban in self.would_block.enter_all(bans).bans {
            self.note(EventKind::WouldBlock { ban });
        }
    }

    pub(super) async fn block_scanners(&mut self, bans: Vec<Ban>, offences: BTreeMap<IpNet, Offences>) {
        let entered = self.bans.enter_all(bans);
        for (ban, refusal) in &entered.refused {
            if !matches!(refusal, BanRefusal::Held { .. } | BanRefusal::Covered { .. }) {
                tracing::warn!(source = %ban.source, %refusal, "scanner not blocked");
            }
        }
        if entered.bans.is_empty() {
            return;
        }
        let remembered = entered.bans.iter().filter_map(|ban| offences.get(&ban.source));
        let gone = remembered.flat_map(|offences| self.offences.enter(*offences)).collect();
        self.store.forgive(gone);
        // The loop does not wait for the disk: the next scanner may be here already.
        self.keeping.spawn(self.keep(&entered, &offences));
        match self.put_in_force(&entered).await {
            Ok(()) => self.tell_enforced(&entered.bans).await,
            Err(refusal) => tracing::warn!(%refusal, "scanners are not blocked as they should be"),
        }
    }

    /// Hands bans that are in the book to the store; nothing that is handed over later overtakes them.
    fn keep(
        &self,
        entered: &Entered,
        offences: &BTreeMap<IpNet, Offences>,
    ) -> impl Future<Output = Result<(), StorageError>> + Send + use<> {
        let offences = entered.bans.iter().filter_map(|ban| offences.get(&ban.source)).copied().collect();
        self.store.put_bans(&entered.bans, &entered.lifted, offences, now())
    }

    /// Takes in whether bans are on disk.
    pub(super) fn take_kept(&mut self, kept: Result<(), StorageError>) {
        match kept {
            Ok(()) => self.troubles.clear(&Trouble::Unkept),
            Err(error) => {
                tracing::error!(%error, "blocks are in force that the store does not hold");
                let line = format!("blocks are in force that a restart will not know: {error}");
                self.troubles.add(Trouble::Unkept, line);
            }
        }
    }

    /// Brings bans that are in the book into the kernel. The store takes them at the same time: a scanner is not to gain
    /// what a disk takes to write. A crash in between leaves what either has; the next start makes the kernel follow the
    /// store.
    async fn put_in_force(&mut self, entered: &Entered) -> Result<(), Refusal> {
        let at = now();
        let (bans, lifted) = (entered.bans.clone(), entered.lifted.clone());
        let mut ops = bans::enforce_all(&bans, &lifted, at);
        ops.extend(self.gates_ban(&bans, &lifted));
        let copy = move |tc: &mut TcProgram| {
            lifted.iter().try_for_each(|source| tc.unban(*source).map(drop))?;
            let clock = MonotonicTime::now();
            bans.iter().try_for_each(|ban| tc.ban(ban.source, ban.remaining(at).map(|left| clock.plus(left))))
        };
        self.enforce(ops, copy).await
    }

    /// Reads bans back from the kernel and says what stands there. Sets that are large are not read: the kernel's
    /// acknowledgement has to do.
    async fn tell_enforced(&mut self, bans: &[Ban]) {
        let sets: BTreeMap<Name, Set> =
            bans.iter().map(|ban| bans::ban_set(&ban.source)).map(|set| (set.name.clone(), set)).collect();
        if self.bans.len() > READ_BACK_MAX {
            for ban in bans {
                tracing::info!(source = %ban.source, set = %closed::ban_set_of(&ban.source), "scanner blocked");
            }
            return;
        }
        let read = move |state: &mut KernelState| {
            let read = |set: Set| {
                let elements = state.nft.set_elements(TABLE_FAMILY, &TABLE, &set)?;
                Ok::<_, NftError>((set.name, elements))
            };
            sets.into_values().map(read).collect::<Result<BTreeMap<_, _>, _>>()
        };
        let found = match self.kernel.run(read).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = whole(&error), "blocks could not be read back");
                return;
            }
        };
        for ban in bans {
            let set = closed::ban_set_of(&ban.source);
            let element = found.get(&set).and_then(|all| all.iter().find(|e| bans::is_of(e, &ban.source)));
            if let Some(element) = element {
                let timeout = element.timeout.map_or_else(|| "none".to_owned(), |span| format!("{span:?}"));
                tracing::info!(source = %ban.source, %set, timeout, "scanner blocked");
            } else {
                tracing::error!(source = %ban.source, %set, "the kernel does not hold a block that it took");
                self.loaded = None;
            }
        }
    }

    pub(super) async fn block(
        &mut self,
        source: IpNet,
        duration: Option<Duration>,
        note: String,
        author: String,
        force: bool,
    ) -> Reply {
        if let Some(why) = self.never_blocked(&source, &self.host_addresses()).filter(|_| !force) {
            return Reply::Confirm { why: why.to_owned() };
        }
        if duration.is_some_and(|span| span > DURATION_MAX || span.is_zero()) || note.len() > NOTE_BYTES_MAX {
            return super::control_socket::refused(format!(
                "a block lasts at most {} days and its note has at most {NOTE_BYTES_MAX} bytes",
                DURATION_MAX.as_secs() / 86_400
            ));
        }
        let (source, since) = (source.trunc(), now());
        let until = duration.map(|span| since.plus(span));
        self.detector.forgive(&source);
        let ban = Ban { source, since, until, reason: BanReason::Manual { note }, author };
        let mut entered = self.bans.enter_all([ban]);
        if let Some((_, refusal)) = entered.refused.pop() {
            return super::control_socket::refused(refusal.to_string());
        }
        let Some(ban) = entered.bans.first().cloned() else {
            return super::control_socket::refused(format!("{source} is blocked already"));
        };
        let keeping = self.keep(&entered, &BTreeMap::new());
        let enforced = self.put_in_force(&entered).await;
        let kept = keeping.await.map_err(|error| error.to_string());
        match (enforced, kept) {
            (Ok(()), Ok(())) => Reply::Blocked { ban },
            (Ok(()), Err(error)) => super::control_socket::refused(format!(
                "{source} is blocked, but the store could not take it and a restart will not know of it: {error}"
            )),
            (Err(refusal), _) => Reply::Refused { refusal },
        }
    }

    pub(super) async fn unblock(&mut self, source: IpNet, author: String) -> Reply {
        let source = source.trunc();
        let was_blocked = self.bans.get(&source).is_some();
        if !was_blocked && let Some(wider) = self.bans.covering(source.addr()) {
            return super::control_socket::refused(format!(
                "{source} is blocked through {}; unblock that",
                wider.source
            ));
        }
        let removal = (source, EventKind::SourceUnblocked { source, author });
        if was_blocked && let Err(error) = self.store.remove_bans(std::iter::once(removal), now()).await {
            return super::control_socket::refused(format!(
                "the block could not be removed from the store: {error}"
            ));
        }
        self.bans.strike(&source);
        self.detector.forgive(&source);
        // Whoever lifts a block by hand says that it was wrong.
        self.store
            .forgive(self.offences.strike(&source).map(|offences| offences.source).into_iter().collect());
        let lifted = self.enforce(bans::lift(&source), move |tc| tc.unban(source).map(drop)).await;
        self.gates_lift(&[source]).await;
        match lifted {
            Ok(()) => Reply::Unblocked { was_blocked },
            Err(refusal) => Reply::Refused { refusal },
        }
    }

    /// The kernel's sets let go by themselves; the store, the book and the fast copy follow.
    pub(super) async fn expire_bans(&mut self) {
        let over = self.bans.take_expired(now());
        if over.is_empty() {
            return;
        }
        let sources: Vec<IpNet> = over.iter().map(|ban| ban.source).collect();
        let removals = sources.iter().map(|source| (*source, EventKind::BanExpired { source: *source }));
        if let Err(error) = self.store.remove_bans(removals, now()).await {
            tracing::error!(%error, "expired bans stay in the store until the next start");
        }
        for source in &sources {
            tracing::info!(%source, "a block ended");
        }
        // The kernel has let go by itself, unless the wall clock was put forward meanwhile.
        let ops = sources.iter().flat_map(bans::lift).collect();
        let copied = sources.clone();
        let lifted = self
            .enforce(ops, move |tc| copied.iter().try_for_each(|source| tc.unban(*source).map(drop)))
            .await;
        self.gates_lift(&sources).await;
        if let Err(refusal) = lifted {
            tracing::warn!(%refusal, "ended bans are lifted with the next load");
        }
    }

    pub(super) async fn enforce(
        &mut self,
        ops: Vec<Op>,
        copy: impl FnOnce(&mut TcProgram) -> Result<(), LoaderError> + Send + 'static,
    ) -> Result<(), Refusal> {
        let change = change_kernel(&self.kernel, self.generation, ops, copy).await;
        self.enforced(change)
    }

    fn enforced(&mut self, (committed, copied): KernelChange) -> Result<(), Refusal> {
        if let Err(error) = copied {
            tracing::warn!(error = whole(&error), "the TC program's copy of the bans is behind");
        }
        match committed {
            Ok(generation) => {
                self.generation = generation;
                Ok(())
            }
            Err(error) => {
                // The book has it: loading the whole ruleset again brings the kernel to the same state.
                self.loaded = None;
                Err(Refusal {
                    message: format!(
                        "the kernel did not take the change at once, it is tried again: {}",
                        whole(&error)
                    ),
                    detail: String::new(),
                })
            }
        }
    }

    /// Addresses that are not blocked without force, whatever the policy says: blocking them would cut the host off.
    pub(super) fn host_addresses(&self) -> Vec<IpAddr> {
        super::facts::never_block(&self.observed).into_iter().chain(self.leases.peers()).collect()
    }

    /// Why a source must not be blocked without force, if so.
    pub(super) fn never_blocked(&self, source: &IpNet, host: &[IpAddr]) -> Option<&'static str> {
        if source.addr().is_loopback() || source.addr().is_unspecified() {
            return Some("loopback or unspecified");
        }
        if host.iter().any(|address| source.contains(address)) {
            return Some("an address of this host, a gateway or a resolver of it");
        }
        let never = self.wanted.scan.as_ref()?.auto_block.as_ref()?.never.iter();
        never
            .copied()
            .any(|net| net.contains(source) || source.contains(&net))
            .then_some("never blocked by the policy")
    }

    /// Scan records and events past the retention go, and offences that are forgiven; not while the clock may be wrong.
    /// Without scan awareness, data goes on to age by the retention that was last asked for.
    pub(super) fn retain(&mut self) {
        if !self.clock.is_believed() {
            tracing::warn!("the clock was put forward; nothing is removed for its age for now");
            return;
        }
        let scan = self.wanted.scan.as_ref();
        self.store.retain(now(), scan.map(|scan| scan.retention));
        if let Some(ladder) = scan.and_then(|scan| scan.auto_block.as_ref()?.ladder.as_ref()) {
            let forgiven = self.offences.take_forgiven(ladder, now());
            self.store.forgive(forgiven);
        }
    }
}

/// What became of the set in nf_tables, and of the TC program's copy.
type KernelChange = (Result<Option<Generation>, NftError>, Result<(), LoaderError>);

/// Tells both enforcers. The nft set decides; the TC program's copy only makes it cheaper.
async fn change_kernel(
    kernel: &Kernel,
    based_on: Option<Generation>,
    ops: Vec<Op>,
    copy: impl FnOnce(&mut TcProgram) -> Result<(), LoaderError> + Send + 'static,
) -> KernelChange {
    kernel
        .run(move |state| {
            let committed = match state.nft.commit(&ops, based_on) {
                // Someone else was here since. The change goes in all the same; the next audit looks what they did.
                Err(NftError::Stale(_)) => state.nft.commit(&ops, None).map(|_| None),
                result => result.map(|done| Some(done.generation)),
            };
            (committed, state.tc.as_mut().map_or(Ok(()), copy))
        })
        .await
}

fn with_earlier_blocks(reason: BanReason, earlier_blocks: u32) -> BanReason {
    match reason {
        BanReason::Scan { shape, hits, window_seconds, evidence } => {
            BanReason::Scan { shape, hits, window_seconds, evidence: Evidence { earlier_blocks, ..evidence } }
        }
        other @ (BanReason::Gate { .. } | BanReason::Manual { .. }) => other,
    }
}
