//! How the allocator gives memory back.

/// Allocations from here on are mapped for themselves and unmapped when they are freed.
const MAPPED_FROM_BYTES: libc::c_int = 256 << 10;
/// Threads share one arena: what one frees, another uses.
const ARENAS: libc::c_int = 1;

/// Keeps a peak from staying: a sweep of the kernel's tables, a large commit and a large policy each take megabytes for a
/// moment. The allocator would otherwise learn from them to keep such amounts, and once per thread.
pub fn give_back_what_is_freed() {
    // SAFETY: sets numbers of the allocator, while there is one thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}
