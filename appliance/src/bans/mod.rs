//! The book of bans: who is blocked and until when, and how the kernel is told.
//!
//! Pure. The daemon is the one owner of a [`BanBook`], and brings what it enters into the kernel and the store.

mod kernel;
mod ladder;
mod offences;
#[cfg(test)]
mod tests;

use glacis_control::{Ban, BanReason, UnixMillis};
use ipnet::IpNet;
pub use kernel::{ban_set, enforce_all, is_of, lift, reconcile};
pub use ladder::{is_forgiven, sentence};
pub use offences::OffenceBook;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Single addresses banned at once: what the TC program's copy holds.
pub const SINGLES_MAX: usize = glacis_loader::BANS_MAX;
/// Prefixes banned at once, likewise. An add to the kernel's interval set costs with their number.
pub const PREFIXES_MAX: usize = glacis_loader::BAN_PREFIXES_MAX;
/// Single addresses that the auto-block may ban at once: however many scan, operators find room.
pub const AUTO_SINGLES_MAX: usize = 60_000;
/// Prefixes that the auto-block may ban at once, likewise.
pub const AUTO_PREFIXES_MAX: usize = 15_000;
const _: () = assert!(AUTO_SINGLES_MAX < SINGLES_MAX && AUTO_PREFIXES_MAX < PREFIXES_MAX);

/// Live bans, one per prefix. What it answers about an address costs with the prefix lengths in use, not with the
/// number of bans.
#[derive(Debug, Default)]
pub struct BanBook {
    bans: BTreeMap<IpNet, Ban>,
    /// Of the bans that end.
    ends: BTreeSet<(UnixMillis, IpNet)>,
    v4: Tally,
    v6: Tally,
    automatic: Tally,
}

/// How many bans there are of each prefix length.
#[derive(Debug, Default)]
struct Tally {
    by_length: BTreeMap<u8, usize>,
    singles: usize,
    prefixes: usize,
}

/// Why a source cannot be banned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BanRefusal {
    #[error("{source_net} is already covered by the block of {by}; unblock that first")]
    Covered { source_net: IpNet, by: IpNet },
    #[error("{source_net} is already blocked for at least as long")]
    Held { source_net: IpNet },
    #[error("the block of {inside} ends later than one of {source_net} would; unblock it first")]
    WouldShorten { source_net: IpNet, inside: IpNet },
    #[error("{SINGLES_MAX} addresses are blocked, which is the bound; unblock some or block a prefix")]
    Full,
    #[error("{PREFIXES_MAX} prefixes are blocked, which is the bound; unblock some")]
    FullOfPrefixes,
    #[error(
        "the auto-block holds {AUTO_SINGLES_MAX} addresses, its bound: the rest is for blocks by hand; unblock some \
         or shorten the duration"
    )]
    AutoFull,
    #[error(
        "the auto-block holds {AUTO_PREFIXES_MAX} prefixes, its bound: the rest is for blocks by hand; unblock some \
         or shorten the duration"
    )]
    AutoFullOfPrefixes,
    #[error("{0} is too wide: a block covers at most an IPv4 /8 or an IPv6 /16")]
    TooWide(IpNet),
}

/// What entering many bans in one go came to.
#[derive(Debug, Default)]
pub struct Entered {
    /// Now in the book: to be stored and enforced.
    pub bans: Vec<Ban>,
    /// No longer in the book, a wider ban took their place: to be removed from the store and lifted.
    pub lifted: Vec<IpNet>,
    pub refused: Vec<(Ban, BanRefusal)>,
}

impl BanBook {
    pub fn new(bans: impl IntoIterator<Item = Ban>) -> Self {
        let mut book = Self::default();
        bans.into_iter().for_each(|ban| book.enter(ban));
        book
    }

    pub fn len(&self) -> usize {
        self.bans.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.bans.values()
    }

    pub fn get(&self, source: &IpNet) -> Option<&Ban> {
        self.bans.get(source)
    }

    /// The widest ban that covers an address.
    pub fn covering(&self, address: IpAddr) -> Option<&Ban> {
        self.holders(&IpNet::from(address)).next()
    }

    /// Whether a source is blocked at least until then, by itself or within a wider prefix.
    pub fn holds_until(&self, source: &IpNet, until: Option<UnixMillis>) -> bool {
        let lasts = |ban: &Ban| ban.until.is_none() || (until.is_some() && ban.until >= until);
        self.holders(source).any(lasts)
    }

    /// Whether a ban may be entered, and which narrower bans it takes the place of. An interval set holds no
    /// overlapping prefixes, so a wide ban swallows the narrow ones that end no later.
    pub fn admit(&self, ban: &Ban) -> Result<Vec<IpNet>, BanRefusal> {
        let source = ban.source;
        let widest = if source.addr().is_ipv4() { 8 } else { 16 };
        if source.prefix_len() < widest {
            return Err(BanRefusal::TooWide(source));
        }
        self.has_room(ban)?;
        if let Some(wider) = self.holders(&source).find(|known| known.source != source) {
            return Err(BanRefusal::Covered { source_net: source, by: wider.source });
        }
        let mut swallowed = vec![];
        for known in self.inside(&source).filter(|known| known.source != source) {
            if !ends_later(known, ban) {
                swallowed.push(known.source);
            } else if !is_single(&known.source) {
                return Err(BanRefusal::WouldShorten { source_net: source, inside: known.source });
            }
            // A single address that ends later stays: it lives in a set of its own.
        }
        Ok(swallowed)
    }

    /// Enters a ban that was admitted, in the place of an earlier one of the same source.
    pub fn enter(&mut self, ban: Ban) {
        self.strike(&ban.source);
        let source = ban.source;
        self.family_mut(&source).add(&source);
        if is_automatic(&ban) {
            self.automatic.add(&source);
        }
        if let Some(until) = ban.until {
            self.ends.insert((until, source));
        }
        self.bans.insert(source, ban);
    }

    pub fn strike(&mut self, source: &IpNet) -> Option<Ban> {
        let ban = self.bans.remove(source)?;
        self.family_mut(source).remove(source);
        if is_automatic(&ban) {
            self.automatic.remove(source);
        }
        if let Some(until) = ban.until {
            self.ends.remove(&(until, *source));
        }
        Some(ban)
    }

    /// Enters the bans that may be entered, one after the other, so that one store commit and one netlink transaction
    /// can follow. An automatic ban of a source that is blocked for as long already is refused as held.
    pub fn enter_all(&mut self, bans: impl IntoIterator<Item = Ban>) -> Entered {
        let mut entered = Entered::default();
        let (mut new, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for ban in bans {
            let source = ban.source;
            let admitted = if is_automatic(&ban) && self.holds_until(&source, ban.until) {
                Err(BanRefusal::Held { source_net: source })
            } else {
                self.admit(&ban)
            };
            let swallowed = match admitted {
                Ok(swallowed) => swallowed,
                Err(refusal) => {
                    entered.refused.push((ban, refusal));
                    continue;
                }
            };
            for swallowed in swallowed {
                self.strike(&swallowed);
                // One of this call was never told to anyone.
                if !new.contains(&swallowed) {
                    gone.insert(swallowed);
                }
            }
            new.insert(source);
            self.enter(ban);
        }
        entered.bans = new.iter().filter_map(|source| self.bans.get(source)).cloned().collect();
        entered.lifted = gone.into_iter().filter(|source| !self.bans.contains_key(source)).collect();
        entered
    }

    /// Takes out the bans whose time is up.
    pub fn take_expired(&mut self, now: UnixMillis) -> Vec<Ban> {
        let mut over = vec![];
        while let Some((until, source)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.ends.remove(&(until, source));
            over.extend(self.strike(&source));
        }
        over
    }

    /// Moves all bans with the wall clock, by so many milliseconds, so that each keeps the time that it has left; returns
    /// those that changed.
    pub fn shift(&mut self, milliseconds: i64) -> Vec<Ban> {
        let ending: Vec<IpNet> = self.ends.iter().map(|(_, source)| *source).collect();
        let mut moved = vec![];
        for source in ending {
            let Some(mut ban) = self.strike(&source) else { continue };
            ban.since = ban.since.shifted(milliseconds);
            ban.until = ban.until.map(|until| until.shifted(milliseconds));
            self.enter(ban.clone());
            moved.push(ban);
        }
        moved
    }

    /// Live bans, soonest to end first, permanent ones last.
    pub fn listed(&self) -> Vec<Ban> {
        let ending = self.ends.iter().filter_map(|(_, source)| self.bans.get(source));
        ending.chain(self.bans.values().filter(|ban| ban.until.is_none())).cloned().collect()
    }

    fn has_room(&self, ban: &Ban) -> Result<(), BanRefusal> {
        let (single, known) = (is_single(&ban.source), self.bans.get(&ban.source));
        let (mine, all, full) = if single {
            (self.automatic.singles, self.v4.singles + self.v6.singles, BanRefusal::Full)
        } else {
            (self.automatic.prefixes, self.v4.prefixes + self.v6.prefixes, BanRefusal::FullOfPrefixes)
        };
        let (bound, auto_bound, auto_full) = if single {
            (SINGLES_MAX, AUTO_SINGLES_MAX, BanRefusal::AutoFull)
        } else {
            (PREFIXES_MAX, AUTO_PREFIXES_MAX, BanRefusal::AutoFullOfPrefixes)
        };
        if known.is_none() && all >= bound {
            return Err(full);
        }
        if is_automatic(ban) && !known.is_some_and(is_automatic) && mine >= auto_bound {
            return Err(auto_full);
        }
        Ok(())
    }

    /// Bans whose prefix has all of a source in it, its own included; the widest first.
    fn holders(&self, source: &IpNet) -> impl Iterator<Item = &Ban> {
        let lengths = self.family(source).by_length.range(..=source.prefix_len());
        let address = source.addr();
        lengths.filter_map(move |(length, _)| {
            let prefix =
                IpNet::new(address, *length).expect("a length in use is within the family's").trunc();
            self.bans.get(&prefix)
        })
    }

    /// Bans whose prefix lies in that of a source, its own included. Prefixes nest or are apart, so those are the ones
    /// between its first and its last address.
    fn inside(&self, source: &IpNet) -> impl Iterator<Item = &Ban> {
        let last = IpNet::from(source.broadcast());
        self.bans.range(source.trunc()..=last).map(|(_, ban)| ban)
    }

    fn family(&self, source: &IpNet) -> &Tally {
        match source {
            IpNet::V4(_) => &self.v4,
            IpNet::V6(_) => &self.v6,
        }
    }

    fn family_mut(&mut self, source: &IpNet) -> &mut Tally {
        match source {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        }
    }
}

impl Tally {
    fn kind(&mut self, source: &IpNet) -> &mut usize {
        if is_single(source) { &mut self.singles } else { &mut self.prefixes }
    }

    fn add(&mut self, source: &IpNet) {
        *self.kind(source) += 1;
        *self.by_length.entry(source.prefix_len()).or_default() += 1;
    }

    fn remove(&mut self, source: &IpNet) {
        *self.kind(source) -= 1;
        if let Some(count) = self.by_length.get_mut(&source.prefix_len()) {
            *count -= 1;
            if *count == 0 {
                self.by_length.remove(&source.prefix_len());
            }
        }
    }
}

/// Whether the auto-block asked for it.
fn is_automatic(ban: &Ban) -> bool {
    matches!(ban.reason, BanReason::Scan { .. })
}

fn is_single(source: &IpNet) -> bool {
    source.prefix_len() == source.max_prefix_len()
}

fn ends_later(one: &Ban, other: &Ban) -> bool {
    match (one.until, other.until) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(a), Some(b)) => a > b,
    }
}
