//! Banned sources: a hash of single addresses, and a trie of prefixes when there are any.

use crate::{atomic, clock, counters};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{HashMap, LpmTrie};
use aya_ebpf::macros::btf_map;
use glacis_abi::{BAN_PREFIXES_MAX, BANS_MAX, Ban, Counter, Settings, SourceKey};

/// Memory for entries as they come: the table is nearly empty on most days.
const NO_PREALLOC: usize = aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize;

#[btf_map]
static BANS: HashMap<SourceKey, Ban, BANS_MAX, NO_PREALLOC> = HashMap::new();
#[btf_map]
static BAN_PREFIXES: LpmTrie<SourceKey, Ban, BAN_PREFIXES_MAX> = LpmTrie::new();

/// True when a ban in force covers the source; the drop is then counted, in the ban too.
#[inline(always)]
pub fn drops(source: &SourceKey, flags: u32) -> bool {
    if let Some(ban) = BANS.get_ptr_mut(source)
        && in_force(ban)
    {
        return true;
    }
    flags & Settings::BAN_PREFIXES != 0
        && BAN_PREFIXES
            .get(&Key::new(SourceKey::BITS, *source))
            .is_some_and(|ban| in_force(core::ptr::from_ref(ban).cast_mut()))
}

#[inline(always)]
fn in_force(ban: *mut Ban) -> bool {
    // SAFETY: `ban` points at a map value, which stays readable until the program returns even if the entry is
    // deleted meanwhile.
    let until = unsafe { (&raw const (*ban).until).read_volatile() };
    if until != 0 && clock::now() > until {
        return false;
    }
    // SAFETY: as above; `drops` is an aligned `u64`.
    unsafe { atomic::increment(&raw mut (*ban).drops) };
    counters::add(Counter::BanDrops);
    true
}
