//! Read-only look at the header of an IP packet, for logs and idle timers.

use std::net::IpAddr;

const ICMP: u8 = 1;
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;

/// What the fixed header of a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketInfo {
    /// 4 or 6.
    pub version: u8,
    /// Protocol number (IPv4), or first next header (IPv6).
    pub protocol: u8,
    /// Type of service or traffic class octet.
    pub tos: u8,
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
}

impl PacketInfo {
    /// Reads the header of `packet`; `None` if it is too short or of another version.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Some(Self {
                version: 4,
                protocol: *packet.get(9)?,
                tos: *packet.get(1)?,
                source: octets::<4>(packet, 12)?.into(),
                destination: octets::<4>(packet, 16)?.into(),
            }),
            6 => Some(Self {
                version: 6,
                protocol: *packet.get(6)?,
                tos: packet.first()? << 4 | packet.get(1)? >> 4,
                source: octets::<16>(packet, 8)?.into(),
                destination: octets::<16>(packet, 24)?.into(),
            }),
            _ => None,
        }
    }

    /// True for ICMP, IGMP and ICMPv6, which do not count as use of a session
    /// (`specs/server-config.md` §9.2).
    pub fn is_control(&self) -> bool {
        match self.version {
            4 => matches!(self.protocol, ICMP | IGMP),
            _ => self.protocol == ICMPV6,
        }
    }
}

fn octets<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_versions() {
        let mut v4 = [0; 20];
        v4[..2].copy_from_slice(&[0x45, 0xb8]);
        v4[9] = 17;
        v4[12..].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let info = PacketInfo::parse(&v4).unwrap();
        assert_eq!((info.version, info.protocol, info.tos), (4, 17, 0xb8));
        assert_eq!(
            (info.source.to_string(), info.destination.to_string()),
            ("10.0.0.1".into(), "10.0.0.2".into())
        );
        assert!(!info.is_control());

        let mut v6 = [0; 40];
        v6[..2].copy_from_slice(&[0x6b, 0x80]);
        v6[6] = 58;
        v6[39] = 1;
        let info = PacketInfo::parse(&v6).unwrap();
        assert_eq!(
            (info.version, info.tos, info.destination.to_string()),
            (6, 0xb8, "::1".into())
        );
        assert!(info.is_control());
    }

    #[test]
    fn only_the_control_protocol_of_the_family_counts() {
        let mut v4 = [0; 20];
        v4[0] = 0x45;
        for (protocol, control) in [(1, true), (2, true), (6, false), (58, false)] {
            v4[9] = protocol;
            assert_eq!(
                PacketInfo::parse(&v4).unwrap().is_control(),
                control,
                "{protocol}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(packet in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(info) = PacketInfo::parse(&packet) {
                let header = if info.version == 4 { 20 } else { 40 };
                prop_assert!(packet.len() >= header);
            }
        }
    }
}
