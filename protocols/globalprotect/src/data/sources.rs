use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use culvert_record::{FrameKind, OpenError, OpenedFrame, StreamOpened, StreamOpener};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where a client's packets may come from: its addresses, and the networks behind it. Others would
/// speak in somebody else's name (`specs/globalprotect.md` §22).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources(Vec<IpNet>);

impl Sources {
    /// Packets may come from these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// True for an IP packet that may pass.
    pub fn allow(&self, packet: &[u8]) -> bool {
        source(packet).is_some_and(|source| self.0.iter().any(|network| network.contains(&source)))
    }
}

fn source(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let octets: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        6 => {
            let octets: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// Opens frames, and passes over packets that come from elsewhere.
pub struct CheckedOpener<O> {
    opener: O,
    sources: Sources,
}

impl<O> CheckedOpener<O> {
    /// Checks what `opener` opens.
    pub fn new(opener: O, sources: Sources) -> Self {
        Self { opener, sources }
    }
}

impl<O: StreamOpener> StreamOpener for CheckedOpener<O> {
    fn open(&mut self, buffer: &mut [u8]) -> Result<StreamOpened, OpenError> {
        let opened = self.opener.open(buffer)?;
        if let StreamOpened::Frame {
            consumed,
            frame: OpenedFrame {
                kind: FrameKind::Data,
                payload,
            },
        } = &opened
            && !self
                .sources
                .allow(buffer.get(payload.clone()).unwrap_or_default())
        {
            return Ok(StreamOpened::Skipped { consumed: *consumed });
        }
        Ok(opened)
    }

    fn decompress(&self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        self.opener.decompress(packet, out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sources() -> Sources {
        let networks = ["10.0.0.2/32", "192.168.7.0/24", "fd00::2/128"];
        Sources::new(networks.map(|network| network.parse().unwrap()).to_vec())
    }

    fn packet(source: &str) -> Vec<u8> {
        match source.parse().unwrap() {
            IpAddr::V4(source) => {
                let mut packet = vec![0x45; 20];
                packet[12..16].copy_from_slice(&source.octets());
                packet
            }
            IpAddr::V6(source) => {
                let mut packet = vec![0x60; 40];
                packet[8..24].copy_from_slice(&source.octets());
                packet
            }
        }
    }

    #[test]
    fn own_addresses_and_networks_behind() {
        for (source, allowed) in [
            ("10.0.0.2", true),
            ("10.0.0.3", false),
            ("192.168.7.200", true),
            ("192.168.8.1", false),
            ("fd00::2", true),
            ("fd00::3", false),
            ("fe80::1", false),
        ] {
            assert_eq!(sources().allow(&packet(source)), allowed, "{source}");
        }
        assert!(!sources().allow(&packet("10.0.0.2")[..15]) && !sources().allow(&[]));
        assert!(!Sources::default().allow(&packet("10.0.0.2")));
    }

    /// One frame, as it is.
    struct Plain;

    impl StreamOpener for Plain {
        fn open(&mut self, buffer: &mut [u8]) -> Result<StreamOpened, OpenError> {
            Ok(StreamOpened::Frame {
                consumed: buffer.len(),
                frame: OpenedFrame {
                    kind: FrameKind::Data,
                    payload: 0..buffer.len(),
                },
            })
        }

        fn decompress(&self, _packet: &[u8], _out: &mut [u8]) -> Option<usize> {
            None
        }
    }

    #[test]
    fn frames_of_others_are_passed_over() {
        let mut opener = CheckedOpener::new(Plain, sources());
        let opened = opener.open(&mut packet("10.0.0.9"));
        assert_eq!(opened, Ok(StreamOpened::Skipped { consumed: 20 }));
        let opened = opener.open(&mut packet("10.0.0.2")).unwrap();
        assert!(matches!(opened, StreamOpened::Frame { consumed: 20, .. }));
    }

    proptest! {
        #[test]
        fn never_panics(packet in prop::collection::vec(any::<u8>(), 0..50)) {
            let _ = sources().allow(&packet);
        }
    }
}
