//! The system's random source.

use std::io;

use crate::cvt::{cvt_len, retry};

/// Fills `bytes` with random octets that are fit for keys.
///
/// # Errors
/// The system has no random source (never seen on a kernel with `getrandom`).
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        // SAFETY: the pointer and length describe `rest`, which is writable.
        filled += retry(|| cvt_len(unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) }))?;
    }
    Ok(())
}

/// An array of random octets.
///
/// # Errors
/// As [`fill`].
pub fn array<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn arrays_differ() {
        assert_ne!(super::array::<32>().unwrap(), super::array::<32>().unwrap());
    }
}
