//! What `ps` shows of this process.

use std::ffi::CString;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;

use crate::cvt::cvt;

/// Names this process in `ps`: both the short name and the command line, which is cut to the
/// room that the original arguments had. Call before threads start; afterwards
/// `std::env::args` gives the title.
///
/// # Errors
/// `/proc` is not mounted.
pub fn set_title(title: &str) -> io::Result<()> {
    let bytes: Vec<u8> = title.bytes().filter(|byte| *byte != 0).collect();
    let name = CString::new(bytes.get(..bytes.len().min(15)).unwrap_or_default()).unwrap_or_default();
    // SAFETY: PR_SET_NAME takes a C string of at most 16 octets.
    cvt(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) })?;
    let area = argument_area()?;
    let room = area.len().saturating_sub(1);
    for (index, address) in area.enumerate() {
        let byte = if index < room {
            bytes.get(index).copied().unwrap_or(0)
        } else {
            0
        };
        // SAFETY: the kernel says that this address belongs to the argument strings, which are
        // ordinary writable memory; the last octet stays NUL, so every argument still ends.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(byte) };
    }
    Ok(())
}

/// Overwrites the `index`-th argument (0 is the program) with `x`, so that a secret given on the
/// command line is no longer shown. Call before threads start.
///
/// # Errors
/// `/proc` is not mounted.
pub fn overwrite_argument(index: usize) -> io::Result<()> {
    let mut argument = 0;
    for address in argument_area()? {
        // SAFETY: as in `set_title`; only octets other than NUL change.
        unsafe {
            let octet = std::ptr::with_exposed_provenance_mut::<u8>(address);
            if octet.read_volatile() == 0 {
                argument += 1;
            } else if argument == index {
                octet.write_volatile(b'x');
            }
        }
    }
    Ok(())
}

/// Addresses of the argument strings. They are the same in clones, which may have no `/proc`.
fn argument_area() -> io::Result<Range<usize>> {
    static AREA: OnceLock<Range<usize>> = OnceLock::new();
    match AREA.get() {
        Some(area) => Ok(area.clone()),
        None => {
            let area = read_argument_area()?;
            Ok(AREA.get_or_init(|| area).clone())
        }
    }
}

/// From `/proc/self/stat` (fields 48 and 49).
fn read_argument_area() -> io::Result<Range<usize>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The program's name may contain blanks and brackets; numbers follow the last bracket,
    // beginning with field 3.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let mut numbers = fields
        .split_ascii_whitespace()
        .skip(48 - 3)
        .map(str::parse::<usize>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(start)), Some(Ok(end))) if start != 0 && start < end => Ok(start..end),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}
