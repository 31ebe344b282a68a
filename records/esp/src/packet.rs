//! The layout of a packet (`specs/esp.md` §2) and the arithmetic of its size (§10).

use culvert_vocab::Mtu;

use crate::association::{Integrity, Spi};

/// Octets of a cipher block and of the IV.
pub(crate) const BLOCK: usize = 16;
/// Octets of SPI and sequence number.
pub(crate) const HEADER_LEN: usize = 8;
/// Octets before the ciphertext.
pub(crate) const PREFIX_LEN: usize = HEADER_LEN + BLOCK;
/// Octets of pad length and next header.
pub(crate) const TRAILER_LEN: usize = 2;

const UDP_HEADER: usize = 8;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHeader {
    /// An IPv4 packet (4).
    Ipv4,
    /// An IPv6 packet (41).
    Ipv6,
    /// An IPv4 packet compressed with LZO1X (5, Juniper's own).
    Lzo,
    /// Nothing: a packet to be discarded (59, RFC 4303 §2.6).
    Dummy,
}

impl NextHeader {
    /// The number on the wire.
    pub const fn octet(self) -> u8 {
        match self {
            Self::Ipv4 => 4,
            Self::Lzo => 5,
            Self::Ipv6 => 41,
            Self::Dummy => 59,
        }
    }

    /// The header with this number on the wire; `None` for what is not carried.
    pub const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            4 => Some(Self::Ipv4),
            5 => Some(Self::Lzo),
            41 => Some(Self::Ipv6),
            59 => Some(Self::Dummy),
            _ => None,
        }
    }

    /// The header of an IP packet: IPv6 for version 6, IPv4 for everything else.
    pub fn of_packet(packet: &[u8]) -> Self {
        match packet.first() {
            Some(octet) if octet >> 4 == 6 => Self::Ipv6,
            _ => Self::Ipv4,
        }
    }
}

/// The SPI of a datagram: the association to which it claims to belong.
pub fn spi_of(datagram: &[u8]) -> Option<Spi> {
    datagram
        .first_chunk()
        .and_then(|octets| Spi::new(u32::from_be_bytes(*octets)))
}

/// Octets of padding before the trailer, for a payload of `len` octets.
pub(crate) const fn pad_len(len: usize) -> usize {
    (BLOCK - (len + TRAILER_LEN) % BLOCK) % BLOCK
}

/// The largest inner packet whose datagram fits a link of this MTU.
pub fn inner_mtu(link_mtu: u16, outer_ipv6: bool, integrity: Integrity) -> Mtu {
    let ip = if outer_ipv6 { IPV6_HEADER } else { IPV4_HEADER };
    let ciphertext = usize::from(link_mtu).saturating_sub(ip + UDP_HEADER + PREFIX_LEN + integrity.icv_len());
    Mtu::clamped((ciphertext / BLOCK * BLOCK).saturating_sub(TRAILER_LEN) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_the_specification() {
        for (link, ipv6, sha1, sha256) in [
            (1500, false, 1422, 1422),
            (1500, true, 1406, 1406),
            (1492, false, 1422, 1422),
            (1400, false, 1326, 1326),
            (1280, true, 1182, 1182),
        ] {
            assert_eq!(inner_mtu(link, ipv6, Integrity::HmacSha1).get(), sha1);
            assert_eq!(inner_mtu(link, ipv6, Integrity::HmacMd5).get(), sha1);
            assert_eq!(inner_mtu(link, ipv6, Integrity::HmacSha256).get(), sha256);
        }
    }

    #[test]
    fn padding_fills_blocks() {
        for len in 0..100 {
            assert_eq!((len + pad_len(len) + TRAILER_LEN) % BLOCK, 0);
            assert!(pad_len(len) < BLOCK);
        }
    }
}
