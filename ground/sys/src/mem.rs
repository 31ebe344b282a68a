//! The allocator of glibc: give memory back, keep arenas few.

/// Least size of a page, of which every other is a multiple.
const PAGE: u64 = 4096;

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

/// Takes the pages of all code and constants out of this process's memory; what is needed again
/// comes back from the page cache. Worth calling once when most of the program has been used for
/// the last time (a login), before a session idles for hours.
pub fn forget_code() {
    // SAFETY: the callback only reads the headers that it is given.
    unsafe {
        libc::dl_iterate_phdr(Some(forget_object), std::ptr::null_mut());
    }
}

/// Forgets the segments of one loaded object that were never written to, not even by the dynamic
/// linker: dropping them loses nothing.
unsafe extern "C" fn forget_object(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: dl_iterate_phdr passes a valid object with `dlpi_phnum` headers at `dlpi_phdr`.
    let (base, headers) = unsafe {
        let object = &*object;
        let headers = std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into());
        (object.dlpi_addr, headers)
    };
    for header in headers {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            let start = (base + header.p_vaddr) & !(PAGE - 1);
            let end = base + header.p_vaddr + header.p_memsz;
            if let Ok(len) = usize::try_from(end - start) {
                // SAFETY: the range is a mapped segment that is private, backed by its file and
                // unmodified: MADV_DONTNEED lets the next access read the same bytes again.
                unsafe {
                    libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTNEED);
                }
            }
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_file_kb() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }

    #[test]
    fn forgotten_code_still_works_and_takes_less_memory() {
        let before = resident_file_kb();
        forget_code();
        let after = resident_file_kb();
        assert!(after < before, "{before} kB, then {after} kB");
        assert_eq!("2026".parse::<u32>(), Ok(2026));
        trim();
    }
}
