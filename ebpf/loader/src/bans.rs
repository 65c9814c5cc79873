//! Bans in the program's maps: a hash of single addresses and a trie of prefixes.
//!
//! The nftables sets are the truth and these maps their fast copy; what is refused here is still blocked there.

use crate::{BAN_PREFIXES_MAX, BANS_MAX, LoaderError, MonotonicTime, TcProgram};
use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use glacis_abi::{Ban, Settings, SourceKey};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

const BANS: &str = "BANS";
const BAN_PREFIXES: &str = "BAN_PREFIXES";

/// A ban as the program has it; one that is over stays until it is removed, and drops nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelBan {
    /// A single address is a /32 or a /128.
    pub source: IpNet,
    /// `None`: permanent.
    pub until: Option<MonotonicTime>,
    /// Packets dropped by this ban, whatever its ends were moved to.
    pub drops: u64,
}

impl TcProgram {
    /// Bans a source, or moves the end of its ban; in force with the next packet. Host bits are ignored.
    pub fn ban(&mut self, source: IpNet, until: Option<MonotonicTime>) -> Result<(), LoaderError> {
        let slot = Slot::of(source)?;
        let until = until.map_or(0, |end| end.0);
        let drops = self.read(&slot)?.map_or(0, |ban| ban.drops);
        self.write(source, &slot, Ban { until, drops })
    }

    /// Lifts a ban: true when there was one.
    pub fn unban(&mut self, source: IpNet) -> Result<bool, LoaderError> {
        let lifted = self.delete(&Slot::of(source)?)?;
        self.settle_prefix_flag()?;
        Ok(lifted)
    }

    /// Every ban, single addresses first, each kind ordered by address.
    pub fn bans(&self) -> Result<Vec<KernelBan>, LoaderError> {
        Ok(self.read_all()?.into_iter().map(|(slot, ban)| slot.describe(ban)).collect())
    }

    /// Packets that the ban of exactly this source dropped; `None` without such a ban.
    pub fn ban_drops(&self, source: IpNet) -> Result<Option<u64>, LoaderError> {
        Ok(self.read(&Slot::of(source)?)?.map(|ban| ban.drops))
    }

    /// Makes the bans exactly these. A source that is banned before and after is banned throughout, also when its
    /// prefix becomes longer or shorter: new bans come first, old ones go after.
    ///
    /// Goes on past a source that cannot be banned and returns the first such error at the end.
    pub fn replace_bans(
        &mut self,
        wanted: impl IntoIterator<Item = (IpNet, Option<MonotonicTime>)>,
    ) -> Result<(), LoaderError> {
        let mut outcome = Ok(());
        let mut bans = BTreeMap::new();
        for (source, until) in wanted {
            match Slot::of(source) {
                Ok(slot) => _ = bans.insert(slot, (source, until.map_or(0, |end| end.0))),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        let present = self.read_all()?;
        let mut refused = Vec::new();
        for (slot, (source, until)) in &bans {
            let before = present.get(slot);
            if before.is_some_and(|ban| ban.until == *until) {
                continue;
            }
            let ban = Ban { until: *until, drops: before.map_or(0, |ban| ban.drops) };
            match self.write(*source, slot, ban) {
                Ok(()) => {}
                // There may be room once the old ones are gone.
                Err(LoaderError::BansFull { .. }) => refused.push((*source, *slot, ban)),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        for slot in present.keys().filter(|slot| !bans.contains_key(slot)) {
            outcome = outcome.and(self.delete(slot).map(drop));
        }
        for (source, slot, ban) in refused {
            outcome = outcome.and(self.write(source, &slot, ban));
        }
        outcome.and(self.settle_prefix_flag())
    }

    /// Has the program ask the trie if, and only if, there is something in it.
    pub(crate) fn settle_prefix_flag(&mut self) -> Result<(), LoaderError> {
        let first = self.ban_prefixes.keys().next().transpose();
        let has_any = first.map_err(LoaderError::map(BAN_PREFIXES, "read"))?.is_some();
        self.settings.put(&[(Settings::BAN_PREFIXES, has_any)])
    }

    fn read(&self, slot: &Slot) -> Result<Option<Ban>, LoaderError> {
        let found = match slot {
            Slot::Address(key) => self.bans.get(key, 0),
            Slot::Prefix { bits, key } => self.ban_prefixes.get(&Key::new(*bits, *key), 0),
        };
        match (found, slot) {
            // The trie answers with the longest match, which may be a shorter prefix than the one asked for.
            (Ok(_), Slot::Prefix { .. }) if !self.has_prefix(slot)? => Ok(None),
            (Ok(ban), _) => Ok(Some(ban)),
            (Err(MapError::KeyNotFound), _) => Ok(None),
            (Err(error), _) => Err(LoaderError::map(slot.map(), "read")(error)),
        }
    }

    fn write(&mut self, source: IpNet, slot: &Slot, ban: Ban) -> Result<(), LoaderError> {
        let written = match slot {
            Slot::Address(key) => self.bans.insert(key, ban, 0),
            Slot::Prefix { bits, key } => self.ban_prefixes.insert(&Key::new(*bits, *key), ban, 0),
        };
        match written {
            // The hash says E2BIG and the trie ENOSPC.
            Err(error) if matches!(os_error(&error), Some(libc::E2BIG | libc::ENOSPC)) => {
                return Err(LoaderError::BansFull { net: source, max: slot.capacity() });
            }
            other => other.map_err(LoaderError::map(slot.map(), "write"))?,
        }
        if matches!(slot, Slot::Prefix { .. }) {
            self.settings.put(&[(Settings::BAN_PREFIXES, true)])?;
        }
        Ok(())
    }

    fn delete(&mut self, slot: &Slot) -> Result<bool, LoaderError> {
        let deleted = match slot {
            Slot::Address(key) => self.bans.remove(key),
            Slot::Prefix { bits, key } => self.ban_prefixes.remove(&Key::new(*bits, *key)),
        };
        match deleted {
            Ok(()) => Ok(true),
            Err(error) if os_error(&error) == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(LoaderError::map(slot.map(), "delete from")(error)),
        }
    }

    fn read_all(&self) -> Result<BTreeMap<Slot, Ban>, LoaderError> {
        let mut all = BTreeMap::new();
        for entry in &self.bans {
            let (key, ban) = entry.map_err(LoaderError::map(BANS, "read"))?;
            all.insert(Slot::Address(key), ban);
        }
        for entry in &self.ban_prefixes {
            let (key, ban) = entry.map_err(LoaderError::map(BAN_PREFIXES, "read"))?;
            all.insert(Slot::Prefix { bits: key.prefix_len(), key: key.data() }, ban);
        }
        Ok(all)
    }
}

impl TcProgram {
    /// Whether the trie has exactly this prefix. Walks its keys, 5 ms when it is full.
    fn has_prefix(&self, slot: &Slot) -> Result<bool, LoaderError> {
        for key in self.ban_prefixes.keys() {
            let key = key.map_err(LoaderError::map(BAN_PREFIXES, "read"))?;
            if *slot == (Slot::Prefix { bits: key.prefix_len(), key: key.data() }) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Where a ban lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Address(SourceKey),
    /// `bits` count from the first bit of the 128-bit key.
    Prefix {
        bits: u32,
        key: SourceKey,
    },
}

impl Slot {
    fn of(source: IpNet) -> Result<Self, LoaderError> {
        let source = source.trunc();
        if let IpNet::V6(v6) = source
            && v6.prefix_len() <= SourceKey::V4_BITS
            && v6.contains(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped())
        {
            return Err(LoaderError::BanCoversIpv4 { net: source });
        }
        let key = SourceKey::from(source.network());
        if source.prefix_len() == source.max_prefix_len() {
            return Ok(Self::Address(key));
        }
        let above = if source.addr().is_ipv4() { SourceKey::V4_BITS } else { 0 };
        Ok(Self::Prefix { bits: u32::from(above + source.prefix_len()), key })
    }

    fn source(self) -> IpNet {
        let (bits, key) = match self {
            Self::Address(key) => (SourceKey::BITS, key),
            Self::Prefix { bits, key } => (bits, key),
        };
        let address = IpAddr::from(key);
        let bits = if address.is_ipv4() { bits.saturating_sub(u32::from(SourceKey::V4_BITS)) } else { bits };
        IpNet::new_assert(address, u8::try_from(bits).unwrap_or(u8::MAX))
    }

    fn describe(self, ban: Ban) -> KernelBan {
        let until = (ban.until != 0).then_some(MonotonicTime(ban.until));
        KernelBan { source: self.source(), until, drops: ban.drops }
    }

    const fn map(&self) -> &'static str {
        match self {
            Self::Address(_) => BANS,
            Self::Prefix { .. } => BAN_PREFIXES,
        }
    }

    const fn capacity(&self) -> usize {
        match self {
            Self::Address(_) => BANS_MAX,
            Self::Prefix { .. } => BAN_PREFIXES_MAX,
        }
    }
}

fn os_error(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => error.raw_os_error(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn sources_round_trip_through_slots() {
        for text in [
            "192.0.2.7/32",
            "192.0.2.0/24",
            "0.0.0.0/0",
            "128.0.0.0/1",
            "2001:db8::7/128",
            "2001:db8::/32",
            "::1/128",
            "::/97",
        ] {
            assert_eq!(Slot::of(net(text)).unwrap().source(), net(text), "{text}");
        }
    }

    #[test]
    fn single_addresses_go_to_the_hash_and_prefixes_to_the_trie() {
        assert!(matches!(Slot::of(net("192.0.2.7/32")).unwrap(), Slot::Address(_)));
        assert!(matches!(Slot::of(net("2001:db8::7/128")).unwrap(), Slot::Address(_)));
        assert!(matches!(Slot::of(net("192.0.2.6/31")).unwrap(), Slot::Prefix { bits: 127, .. }));
        assert!(matches!(Slot::of(net("2001:db8::6/127")).unwrap(), Slot::Prefix { bits: 127, .. }));
    }

    #[test]
    fn host_bits_are_ignored() {
        assert_eq!(Slot::of(net("192.0.2.7/24")).unwrap(), Slot::of(net("192.0.2.0/24")).unwrap());
    }

    #[test]
    fn an_ipv6_prefix_that_covers_ipv4_is_refused() {
        for text in ["::/0", "::/80", "::ffff:0:0/96"] {
            assert!(matches!(Slot::of(net(text)), Err(LoaderError::BanCoversIpv4 { .. })), "{text}");
        }
        for text in ["::/97", "2000::/3", "64:ff9b::/96"] {
            assert!(Slot::of(net(text)).is_ok(), "{text}");
        }
    }
}
