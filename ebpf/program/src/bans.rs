//! Banned sources: a hash of single addresses, and a trie of prefixes when there are any.

use crate::atomic;
use crate::cpu::Cpu;
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
pub fn drops(cpu: Cpu, source: &SourceKey, flags: u32) -> bool {
    let Some(ban) = in_force(cpu, source, flags) else {
        return false;
    };
    // SAFETY: `ban` points at a map value, which stays usable until the program returns even if the entry is deleted
    // meanwhile; `drops` is an aligned `u64`.
    unsafe { atomic::increment(&raw mut (*ban).drops) };
    cpu.count(Counter::BanDrops);
    true
}

/// True when a ban in force covers the source.
#[inline(always)]
pub fn cover(cpu: Cpu, source: &SourceKey, flags: u32) -> bool {
    in_force(cpu, source, flags).is_some()
}

#[inline(always)]
fn in_force(cpu: Cpu, source: &SourceKey, flags: u32) -> Option<*mut Ban> {
    let is_on = |ban: &*mut Ban| {
        // SAFETY: as in `drops`.
        let until = unsafe { (&raw const (**ban).until).read_volatile() };
        until == 0 || cpu.now() <= until
    };
    BANS.get_ptr_mut(source).filter(is_on).or_else(|| {
        if flags & Settings::BAN_PREFIXES == 0 {
            return None;
        }
        let ban = BAN_PREFIXES.get(&Key::new(SourceKey::BITS, *source))?;
        Some(core::ptr::from_ref(ban).cast_mut()).filter(is_on)
    })
}
