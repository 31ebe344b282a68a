//! Recognises the messages that a TLS server signs in a handshake, so that a process that may ask
//! for signatures cannot have anything else signed (`specs/server-auth.md` §7.3 rule 2).

const TLS13_CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
const TLS13_PADDING: usize = 64;
const RANDOMS_LEN: usize = 64;
const NAMED_CURVE: u8 = 3;

/// True for what the server's CertificateVerify (RFC 8446 §4.4.3) or ServerKeyExchange (RFC 8422
/// §5.4) signs.
pub(crate) fn is_server_handshake(message: &[u8]) -> bool {
    is_certificate_verify(message) || is_server_key_exchange(message)
}

/// 64 spaces, the context string, zero, and a transcript hash of SHA-256 or SHA-384.
fn is_certificate_verify(message: &[u8]) -> bool {
    let Some((padding, rest)) = message.split_at_checked(TLS13_PADDING) else {
        return false;
    };
    padding.iter().all(|octet| *octet == b' ')
        && rest
            .strip_prefix(TLS13_CONTEXT)
            .is_some_and(|hash| matches!(hash.len(), 32 | 48))
}

/// Both randoms and the server's ephemeral key on a named curve.
fn is_server_key_exchange(message: &[u8]) -> bool {
    let Some((_, params)) = message.split_at_checked(RANDOMS_LEN) else {
        return false;
    };
    let Some((&[NAMED_CURVE, curve_high, curve_low, point_len], point)) = params.split_first_chunk::<4>()
    else {
        return false;
    };
    let expected = match u16::from_be_bytes([curve_high, curve_low]) {
        23 => 65,
        24 => 97,
        25 => 133,
        29 => 32,
        30 => 56,
        _ => return false,
    };
    usize::from(point_len) == expected && point.len() == expected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate_verify(context: &[u8], hash_len: usize) -> Vec<u8> {
        [&[b' '; 64], context, &vec![7; hash_len][..]].concat()
    }

    #[test]
    fn certificate_verify_of_a_server_only() {
        assert!(is_server_handshake(&certificate_verify(TLS13_CONTEXT, 32)));
        assert!(is_server_handshake(&certificate_verify(TLS13_CONTEXT, 48)));
        assert!(!is_server_handshake(&certificate_verify(TLS13_CONTEXT, 33)));
        assert!(!is_server_handshake(&certificate_verify(
            b"TLS 1.3, client CertificateVerify\0",
            32
        )));
        let mut message = certificate_verify(TLS13_CONTEXT, 32);
        message[63] = b'x';
        assert!(!is_server_handshake(&message));
    }

    #[test]
    fn server_key_exchange_has_its_exact_length() {
        for (curve, len) in [(23u16, 65usize), (24, 97), (25, 133), (29, 32), (30, 56)] {
            let [high, low] = curve.to_be_bytes();
            let mut message = vec![1; 64];
            message.extend([3, high, low, len as u8]);
            message.extend(vec![4; len]);
            assert!(is_server_handshake(&message));
            message.push(0);
            assert!(!is_server_handshake(&message), "trailing octet");
        }
        assert!(!is_server_handshake(b""));
        assert!(!is_server_handshake(&[3; 68]));
    }
}
