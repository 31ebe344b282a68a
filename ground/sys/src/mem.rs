//! The allocator of glibc: give memory back, keep arenas few.

/// Returns free heap memory to the system; worth calling once after a login, before a session
/// idles for hours.
pub fn trim() {
    // SAFETY: malloc_trim has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Limits glibc to one arena. Call at start: threads started later otherwise reserve one each.
pub fn single_arena() {
    // SAFETY: mallopt has no preconditions; M_ARENA_MAX takes a positive count.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
