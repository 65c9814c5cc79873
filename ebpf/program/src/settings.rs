//! What the loader fixes at load time and what user space may change later.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use glacis_abi::Settings;

/// Bytes before the network header; the loader sets it to 0 for devices without a link layer. Frozen at load, so
/// the verifier knows it as a constant.
#[unsafe(no_mangle)]
static LINK_HEADER: Global<u32> = Global::new(14);

#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();

#[inline(always)]
pub fn link_header() -> usize {
    LINK_HEADER.load() as usize
}

/// The bits of [`Settings::flags`]; none before user space has written any.
#[inline(always)]
pub fn flags() -> u32 {
    SETTINGS.get(0).map_or(0, |settings| settings.flags)
}

/// Key of the cookies; the loader draws it before it attaches the program anywhere.
#[inline(always)]
pub fn secret() -> [u64; 2] {
    SETTINGS.get(0).map_or([0; 2], |settings| settings.secret)
}
