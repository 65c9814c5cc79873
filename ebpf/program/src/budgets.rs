//! Rations over all CPUs: looked at by whoever wants something, written only while there is something to have.

use crate::atomic;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use glacis_abi::{Budget, Spent};

#[btf_map]
static BUDGETS: Array<Spent, { Budget::ALL.len() }> = Array::new();

/// Whether this window has no unit left.
#[inline(always)]
pub fn is_spent(budget: Budget, now: u64) -> bool {
    let Some(spent) = BUDGETS.get_ptr(budget as u32) else {
        return false;
    };
    // SAFETY: as in `take`.
    unsafe {
        (&raw const (*spent).units).read_volatile() >= budget.per_window()
            && now / Spent::WINDOW_NS <= (&raw const (*spent).window).read_volatile()
    }
}

/// Takes one unit, if there is one.
#[inline(always)]
pub fn take(budget: Budget, now: u64) -> bool {
    let Some(spent) = BUDGETS.get_ptr_mut(budget as u32) else {
        return false;
    };
    let window = now / Spent::WINDOW_NS;
    // SAFETY: `spent` points at a map value, readable and writable until the program returns; its words are aligned.
    unsafe {
        // A CPU whose clock is a tick behind must not open the window before this one again.
        if window > (&raw const (*spent).window).read_volatile() {
            (&raw mut (*spent).units).write_volatile(0);
            (&raw mut (*spent).window).write_volatile(window);
        }
        (&raw const (*spent).units).read_volatile() < budget.per_window()
            && atomic::increment_and_fetch(&raw mut (*spent).units) <= budget.per_window()
    }
}
