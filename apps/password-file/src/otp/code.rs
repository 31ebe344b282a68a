//! HOTP (RFC 4226); TOTP (RFC 6238) is HOTP of the number of the time step.

use hmac::{Hmac, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;

/// The code of `counter`, with `digits` (6 to 8) decimal digits.
pub(super) fn hotp(key: &[u8], counter: u64, digits: u32) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(&counter.to_be_bytes());
    let digest: [u8; 20] = mac.finalize().into_bytes().into();
    let offset = usize::from(digest[19] & 0xf);
    let word = [0, 1, 2, 3].map(|index| digest[offset + index]);
    let number = (u32::from_be_bytes(word) & 0x7fff_ffff) % 10u32.pow(digits);
    format!("{number:0width$}", width = digits as usize)
}

/// True when `code` is the one of `counter`.
pub(super) fn is_code(key: &[u8], counter: u64, digits: u32, code: &[u8]) -> bool {
    let expected = hotp(key, counter, digits);
    !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4226 appendix D, RFC 6238 appendix B.
    #[test]
    fn codes_of_the_standards() {
        let key = b"12345678901234567890";
        let codes = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871",
            "520489",
        ];
        for (counter, code) in (0..).zip(codes) {
            assert_eq!(hotp(key, counter, 6), code);
        }
        for (time, code) in [
            (59u64, "94287082"),
            (1_111_111_109, "07081804"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(hotp(key, time / 30, 8), code);
            assert!(is_code(key, time / 30, 8, code.as_bytes()));
        }
        assert!(!is_code(key, 0, 6, b"75522") && !is_code(key, 0, 6, b""));
    }
}
