//! Views of IP packets: where the transport header is, and what surrounds it.

use super::checksum::Sum;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const UDP_HEADER_LEN: usize = 8;

/// Offset of the checksum field in a TCP header.
pub(crate) const TCP_CHECKSUM: usize = 16;
/// Offset of the checksum field in a UDP header.
pub(crate) const UDP_CHECKSUM: usize = 6;

/// Where the parts of an IP packet are. The packet is at least as long as its IP headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) ipv6: bool,
    /// Offset of the transport header.
    pub(crate) transport: usize,
    /// Transport protocol.
    pub(crate) protocol: u8,
    /// IPv4 options or IPv6 extension headers are present.
    pub(crate) options: bool,
}

impl Layout {
    /// Finds the transport header; `None` for fragments and malformed packets.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    fn parse_v4(packet: &[u8]) -> Option<Self> {
        let header = packet.first_chunk::<20>()?;
        let transport = usize::from(header[0] & 0x0f) * 4;
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        if transport < 20 || packet.len() < transport || fragment {
            return None;
        }
        Some(Self {
            ipv6: false,
            transport,
            protocol: header[9],
            options: transport > 20,
        })
    }

    fn parse_v6(packet: &[u8]) -> Option<Self> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const DESTINATION_OPTIONS: u8 = 60;
        const FRAGMENT: u8 = 44;
        let header = packet.first_chunk::<40>()?;
        let (mut protocol, mut transport) = (header[6], 40);
        while matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            let extension = packet.get(transport..)?.first_chunk::<8>()?;
            protocol = extension[0];
            transport += (usize::from(extension[1]) + 1) * 8;
        }
        if protocol == FRAGMENT || packet.len() < transport {
            return None;
        }
        Some(Self {
            ipv6: true,
            transport,
            protocol,
            options: transport > 40,
        })
    }

    /// Length of the TCP header with its options; `None` when it is cut off.
    pub(crate) fn tcp_header_len(&self, packet: &[u8]) -> Option<usize> {
        let len = usize::from(packet.get(self.transport + 12)? >> 4) * 4;
        (len >= 20 && packet.len() >= self.transport + len).then_some(len)
    }

    /// Sum of the pseudo-header for `len` octets of transport header and payload
    /// (RFC 9293 §3.1, RFC 8200 §8.1). With a routing header the final destination would count,
    /// which is why the address in the IP header is right only for packets that arrived.
    pub(crate) fn pseudo_header(&self, packet: &[u8], len: usize) -> Sum {
        let addresses = if self.ipv6 { 8..40 } else { 12..20 };
        // An IP packet is at most 65575 octets long; the upper half of the IPv6 length counts.
        Sum::default()
            .bytes(packet.get(addresses).unwrap_or_default())
            .word(u16::from(self.protocol))
            .word((len >> 16) as u16)
            .word(len as u16)
    }

    /// True when the transport checksum of the whole packet is right.
    pub(crate) fn checksum_is_right(&self, packet: &[u8]) -> bool {
        let segment = packet.get(self.transport..).unwrap_or_default();
        self.pseudo_header(packet, segment.len()).bytes(segment).fold() == 0xffff
    }

    /// Writes length, identification and header checksum of the IP header for a packet that is
    /// now `packet.len()` octets long.
    pub(crate) fn set_ip_length(&self, packet: &mut [u8], identification: Option<u16>) {
        if self.ipv6 {
            let len = packet.len().saturating_sub(40) as u16;
            put(packet, 4, len);
            return;
        }
        put(packet, 2, packet.len() as u16);
        if let Some(identification) = identification {
            put(packet, 4, identification);
        }
        put(packet, 10, 0);
        let checksum = Sum::default()
            .bytes(packet.get(..self.transport).unwrap_or_default())
            .finish();
        put(packet, 10, checksum);
    }
}

/// Writes a big-endian field; nothing when it lies outside.
pub(crate) fn put(packet: &mut [u8], offset: usize, value: u16) {
    if let Some(field) = packet.get_mut(offset..offset + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Reads a big-endian field; 0 when it lies outside.
pub(crate) fn word(packet: &[u8], offset: usize) -> u16 {
    packet
        .get(offset..offset + 2)
        .map_or(0, |field| u16::from_be_bytes([field[0], field[1]]))
}

/// Reads a big-endian field of 32 bits; 0 when it lies outside.
pub(crate) fn long(packet: &[u8], offset: usize) -> u32 {
    u32::from(word(packet, offset)) << 16 | u32::from(word(packet, offset + 2))
}

/// Type of service or traffic class of an IP packet; 0 for anything else.
pub(crate) fn type_of_service(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 4 => *second,
        [first, second, ..] if first >> 4 == 6 => first << 4 | second >> 4,
        _ => 0,
    }
}

/// True for packets that count as activity of the user: not ICMP or IGMP, nor ICMPv6, also behind
/// hop-by-hop options, as a kernel sends its multicast listener reports by itself
/// (`specs/server-config.md` §9.2).
pub fn is_user_data(packet: &[u8]) -> bool {
    const ICMP: u8 = 1;
    const IGMP: u8 = 2;
    const HOP_BY_HOP: u8 = 0;
    const ICMP_V6: u8 = 58;
    match packet.first().map(|first| first >> 4) {
        Some(4) => packet
            .get(9)
            .is_some_and(|protocol| !matches!(*protocol, ICMP | IGMP)),
        Some(6) => match packet.get(6) {
            Some(&HOP_BY_HOP) => packet.get(40).is_some_and(|protocol| *protocol != ICMP_V6),
            protocol => protocol.is_some_and(|protocol| *protocol != ICMP_V6),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_protocols_are_no_activity() {
        let v4 = |protocol| [0x45, 0, 0, 20, 0, 0, 0, 0, 64, protocol, 0, 0];
        assert!(is_user_data(&v4(TCP)) && is_user_data(&v4(UDP)) && is_user_data(&v4(50)));
        assert!(!is_user_data(&v4(1)) && !is_user_data(&v4(2)));
        let v6 = |protocol| [0x60, 0, 0, 0, 0, 0, protocol, 64];
        assert!(is_user_data(&v6(TCP)) && !is_user_data(&v6(58)));
        let with_options = |protocol| [v6(0).as_slice(), &[0; 32], &[protocol, 0, 5, 2]].concat();
        assert!(is_user_data(&with_options(TCP)) && !is_user_data(&with_options(58)));
        assert!(!is_user_data(&v6(0)));
        assert!(!is_user_data(&[]) && !is_user_data(&[0x45]));
    }

    #[test]
    fn type_of_service_of_both_families() {
        assert_eq!(type_of_service(&[0x45, 0xb8]), 0xb8);
        assert_eq!(type_of_service(&[0x6b, 0x80]), 0xb8);
        assert_eq!(type_of_service(&[0x45]), 0);
    }

    #[test]
    fn fragments_and_short_packets_have_no_layout() {
        let mut packet = [0u8; 40];
        packet[0] = 0x45;
        packet[9] = TCP;
        assert!(Layout::parse(&packet).is_some());
        packet[6] = 0x20;
        assert_eq!(Layout::parse(&packet), None);
        packet[6] = 0x40;
        assert!(Layout::parse(&packet).is_some());
        packet[0] = 0x4f;
        assert_eq!(Layout::parse(&packet), None);
        packet[0] = 0x60;
        packet[6] = 0;
        assert_eq!(Layout::parse(&packet), None);
    }
}
