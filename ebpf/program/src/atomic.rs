//! Atomic additions, which `core` does not offer for a target that declares no compare-and-swap.

use core::arch::asm;

/// Adds one without an answer.
///
/// # Safety
/// `word` points at an aligned `u64` of a live map value.
#[inline(always)]
pub unsafe fn increment(word: *mut u64) {
    // SAFETY: by the caller; the instruction touches these eight bytes only.
    unsafe { asm!("lock *(u64 *)({word} + 0) += {one}", word = in(reg) word, one = in(reg) 1_u64) }
}

/// Adds one and answers what the word then holds. `BPF_FETCH` needs Linux 5.12.
///
/// # Safety
/// As [`increment`].
#[inline(always)]
pub unsafe fn increment_and_fetch(word: *mut u64) -> u64 {
    let mut value = 1_u64;
    // SAFETY: as above.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
            word = in(reg) word,
            value = inout(reg) value,
        );
    }
    value + 1
}
