//! Bans: entered in the store, then in the book, then in the kernel; lifted the same way.

use super::{Daemon, now};
use crate::bans::{self, BanRefusal};
use crate::log::whole;
use crate::scan::Trigger;
use glacis_control::{Ban, BanReason, EventKind, Refusal, Reply};
use glacis_loader::MonotonicTime;
use glacis_netlink::nft::NftError;
use glacis_plan::AutoBlockMode;
use glacis_plan::closed::{TABLE, TABLE_FAMILY};
use glacis_plan::nft::Op;
use ipnet::IpNet;
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
    /// Blocks what the detector found, unless the policy only observes or the source is never to be blocked.
    pub(super) async fn take_trigger(&mut self, trigger: Trigger) {
        let Some(settings) = self.wanted.scan.as_ref().and_then(|scan| scan.auto_block.clone()) else {
            return;
        };
        self.detector.forgive(&trigger.source);
        if let Some(why) = self.never_blocked(&trigger.source) {
            tracing::info!(source = %trigger.source, why, "a scanner is not blocked");
            return;
        }
        let since = now();
        let until = settings.duration.map(|span| since.plus(span));
        if self.bans.holds_until(&trigger.source, until) {
            return;
        }
        let ban = Ban {
            source: trigger.source,
            since,
            until,
            reason: trigger.reason,
            author: AUTHOR_AUTO.to_owned(),
        };
        if settings.mode == AutoBlockMode::Observe {
            self.note(EventKind::WouldBlock { ban });
            return;
        }
        match self.ban(ban).await {
            Ok(ban) => self.tell_enforced(&ban).await,
            Err(refusal) => tracing::warn!(source = %trigger.source, %refusal, "scanner not blocked"),
        }
    }

    /// Reads a ban back from the kernel and says what stands there. Sets that are large are not read: the kernel's
    /// acknowledgement has to do.
    async fn tell_enforced(&mut self, ban: &Ban) {
        let set = bans::ban_set(&ban.source);
        let name = set.name.clone();
        if self.bans.len() > READ_BACK_MAX {
            tracing::info!(source = %ban.source, set = %name, "scanner blocked");
            return;
        }
        let source = ban.source;
        let found = self
            .kernel
            .run(move |state| state.nft.set_elements(TABLE_FAMILY, &TABLE, &set))
            .await
            .map(|elements| elements.into_iter().find(|element| bans::is_of(element, &source)));
        match found {
            Ok(Some(element)) => {
                let timeout =
                    element.timeout.map_or_else(|| "none".to_owned(), |timeout| format!("{timeout:?}"));
                tracing::info!(source = %ban.source, set = %name, timeout, "scanner blocked");
            }
            Ok(None) => {
                tracing::error!(source = %ban.source, set = %name, "the kernel does not hold a block that it took");
                self.loaded = None;
            }
            Err(error) => tracing::warn!(error = whole(&error), "a block could not be read back"),
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
        if let Some(why) = self.never_blocked(&source).filter(|_| !force) {
            let message = format!("{source} is {why}; to block it all the same, add --force");
            return Reply::Refused { refusal: Refusal { message, detail: String::new() } };
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
        match self.ban(ban).await {
            Ok(ban) => Reply::Blocked { ban },
            Err(refusal) => Reply::Refused { refusal },
        }
    }

    async fn ban(&mut self, ban: Ban) -> Result<Ban, Refusal> {
        let swallowed = self
            .bans
            .admit(&ban)
            .map_err(|refusal: BanRefusal| Refusal { message: refusal.to_string(), detail: String::new() })?;
        self.store.put_bans(std::slice::from_ref(&ban), &swallowed, vec![], ban.since).await.map_err(|error| Refusal {
            message: format!("the block could not be stored, so it was not made: {error}"),
            detail: String::new(),
        })?;
        let mut ops: Vec<Op> = swallowed.iter().flat_map(bans::lift).collect();
        ops.extend(bans::enforce(&ban, ban.since));
        for source in &swallowed {
            self.bans.strike(source);
        }
        self.bans.enter(ban.clone());
        let (source, until) = (ban.source, ban.until);
        self.enforce(ops, move |tc| {
            for gone in &swallowed {
                tc.unban(*gone)?;
            }
            tc.ban(source, until.map(|until| MonotonicTime::now().plus(until.since(now()))))
        })
        .await?;
        Ok(ban)
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
        match self.enforce(bans::lift(&source), move |tc| tc.unban(source).map(drop)).await {
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
        let lifted =
            self.enforce(ops, move |tc| sources.iter().try_for_each(|source| tc.unban(*source).map(drop)));
        if let Err(refusal) = lifted.await {
            tracing::warn!(%refusal, "ended bans are lifted with the next load");
        }
    }

    /// Tells both enforcers. The nft set decides; the TC program's copy only makes it cheaper.
    async fn enforce(
        &mut self,
        ops: Vec<Op>,
        fast: impl FnOnce(&mut glacis_loader::TcProgram) -> Result<(), glacis_loader::LoaderError>
        + Send
        + 'static,
    ) -> Result<(), Refusal> {
        let based_on = self.generation;
        let (committed, copied) = self
            .kernel
            .run(move |state| {
                let committed = match state.nft.commit(&ops, based_on) {
                    // Someone else was here since. The ban goes in all the same; the next audit looks what they did.
                    Err(NftError::Stale(_)) => state.nft.commit(&ops, None).map(|_| None),
                    result => result.map(|done| Some(done.generation)),
                };
                (committed, state.tc.as_mut().map_or(Ok(()), fast))
            })
            .await;
        if let Err(error) = copied {
            tracing::warn!(error = whole(&error), "the TC program's copy of the bans is behind");
        }
        match committed {
            Ok(generation) => {
                self.generation = generation;
                Ok(())
            }
            Err(error) => {
                // The store has it: loading the whole ruleset again brings the kernel to the same state.
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

    /// Why a source must not be blocked without force, if so.
    fn never_blocked(&self, source: &IpNet) -> Option<&'static str> {
        let touches = |address| source.contains(&address);
        if source.addr().is_loopback() || source.addr().is_unspecified() {
            return Some("loopback or unspecified");
        }
        let host = super::facts::never_block(&self.observed);
        if host.into_iter().chain(self.leases.peers()).any(touches) {
            return Some("an address of this host, a gateway or a resolver of it");
        }
        let never = self.wanted.scan.as_ref()?.auto_block.as_ref()?.never.iter();
        never
            .copied()
            .any(|net| net.contains(source) || source.contains(&net))
            .then_some("never blocked by the policy")
    }

    /// Scan records and events past the retention go.
    pub(super) fn retain(&self) {
        self.store.retain(now(), self.wanted.scan.as_ref().map(|scan| scan.retention));
    }
}
