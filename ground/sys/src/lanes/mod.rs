//! Algorithms that wait for one block before the next of the same packet, for [`LANES`] packets side
//! by side with the vector instructions of the processor.

pub mod aes_cbc;
pub mod sha1;

/// Packets that are processed at a time.
pub const LANES: usize = 16;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Sixteen octets of each of four packets, in their order.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn gather(octets: [&[u8; 16]; 4]) -> __m512i {
        let [a, b, c, d] = octets.map(|octets| load(octets));
        let gathered = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
        _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(gathered, c), d)
    }

    /// Sixteen octets.
    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn load(octets: &[u8; 16]) -> __m128i {
        // SAFETY: the reference is valid for the sixteen octets that are read, of any alignment.
        unsafe { _mm_loadu_si128(octets.as_ptr().cast()) }
    }

    /// Writes sixteen octets.
    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn store(to: &mut [u8; 16], octets: __m128i) {
        // SAFETY: the reference is valid for the sixteen octets that are written, of any alignment.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), octets) }
    }
}
