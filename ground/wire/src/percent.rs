//! Percent-encoding (RFC 3986 §2.1).

/// Appends `text` with everything but unreserved characters as `%xx`, in lower case.
pub fn encode(text: &str, out: &mut String) {
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02x}"));
        }
    }
}

/// The octets that `text` stands for; `None` when a `%` is not followed by two hexadecimal digits.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    decoded(text, |_| None)
}

/// [`decode`], but a `%` that encodes nothing stays as it is.
pub fn decode_leniently(text: &str) -> Vec<u8> {
    decoded(text, Some).unwrap_or_default()
}

/// `otherwise` says what becomes of a `%` that encodes nothing.
fn decoded(text: &str, otherwise: impl Fn(u8) -> Option<u8>) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        octets.push(match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
                hex_value(*high) << 4 | hex_value(*low)
            }
            (b'%', _) => otherwise(first)?,
            _ => first,
        });
    }
    Some(octets)
}

/// The value of a hexadecimal digit.
fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn octets_and_their_escapes() {
        assert_eq!(decode("a%40B%c3%BC%00"), Some(b"a@B\xc3\xbc\0".to_vec()));
        assert_eq!(decode_leniently("a%40B%c3%BC%00"), b"a@B\xc3\xbc\0");
        for (text, stays) in [
            ("%", &b"%"[..]),
            ("%4", b"%4"),
            ("%+f", b"%+f"),
            ("%zz%41", b"%zzA"),
            ("100% x%2", b"100% x%2"),
            ("%%41", b"%A"),
        ] {
            assert_eq!(decode(text), None, "{text}");
            assert_eq!(decode_leniently(text), stays, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(text in ".{0,40}") {
            let mut encoded = String::new();
            encode(&text, &mut encoded);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(decode(&encoded), Some(text.clone().into_bytes()));
            prop_assert_eq!(decode_leniently(&encoded), text.into_bytes());
        }

        #[test]
        fn never_panics(text in "(%|[0-9a-fG+é]){0,40}") {
            let lenient = decode_leniently(&text);
            if let Some(strict) = decode(&text) {
                prop_assert_eq!(strict, lenient);
            }
        }
    }
}
