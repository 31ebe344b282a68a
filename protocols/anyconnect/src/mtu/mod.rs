//! MTU arithmetic of both sides and the client's path probing (`specs/cstp-dtls.md` §13).
//! Everything that a peer says is clamped before it is used.

mod probe;

use culvert_vocab::{MTU_MIN_IPV6, Mtu};

pub use probe::{PROBE_FILL, Prober};

/// Base MTU when nothing is known about the path.
const BASE_UNKNOWN: u16 = 1406;
/// Smallest base MTU that a client announces.
const BASE_MIN: u16 = 1280;
/// Largest number that a server believes in `X-CSTP-Base-MTU` and `X-CSTP-MTU`.
const CLIENT_MTU_MAX: u16 = 16384;
/// Type octet, DTLS header, MAC, IV and padding that a client expects: 1 + 13 + 20 + 32 + 16.
const ASSUMED_OVERHEAD: u16 = 82;
/// UDP header.
const UDP: u16 = 8;
/// Octets that a server adds to a client's tunnel MTU, besides IP and UDP, to get its link MTU.
const LINK_ALLOWANCE: u16 = 66;
/// Smallest link MTU that a client can talk a server down to.
const LINK_MIN: u16 = 800;

/// IP header of the outer packets.
fn ip_header(outer_ipv6: bool) -> u16 {
    if outer_ipv6 { 40 } else { 20 }
}

/// What a client knows about the path when it sends CONNECT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientMtu {
    /// `--base-mtu`.
    pub base_option: Option<u16>,
    /// `--mtu`.
    pub mtu_option: Option<u16>,
    /// Path MTU of the TCP connection, from the kernel.
    pub tcp_path_mtu: Option<u16>,
    /// Segment size of the TCP connection.
    pub tcp_mss: Option<u16>,
    /// The server is reached over IPv6.
    pub outer_ipv6: bool,
}

/// Numbers of the CONNECT request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestedMtu {
    /// `X-CSTP-Base-MTU`.
    pub base: u16,
    /// `X-CSTP-MTU`.
    pub mtu: u16,
}

/// What to ask for (`specs/cstp-dtls.md` §13.1).
pub fn client_request(known: &ClientMtu) -> RequestedMtu {
    let base = known
        .base_option
        .or(known.tcp_path_mtu.filter(|&mtu| mtu > 0))
        .or(known
            .tcp_mss
            .filter(|&mss| mss > 0)
            .map(|mss| mss.saturating_sub(13)))
        .unwrap_or(BASE_UNKNOWN)
        .max(BASE_MIN);
    let mtu = known
        .mtu_option
        .unwrap_or(base - ASSUMED_OVERHEAD - UDP - ip_header(known.outer_ipv6));
    RequestedMtu { base, mtu }
}

/// Octets that a DTLS record adds, by the cipher that a server assumes for the UDP channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overhead {
    /// No UDP channel at all.
    NoDatagram,
    /// A UDP channel whose cipher is not known.
    Unknown,
    /// AES-128-GCM or AES-256-GCM.
    AesGcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
    /// AES-CBC with HMAC-SHA1.
    AesCbcSha1,
    /// AES-CBC with HMAC-SHA256.
    AesCbcSha256,
    /// 3DES-CBC with HMAC-SHA1.
    TripleDesSha1,
}

impl Overhead {
    fn octets(self) -> u16 {
        const TYPE: u16 = 1;
        match self {
            Self::NoDatagram => 0,
            Self::Unknown => TYPE,
            Self::AesGcm => 13 + 8 + 16 + TYPE,
            Self::ChaCha20Poly1305 => 13 + 16 + TYPE,
            Self::AesCbcSha1 => 13 + 16 + 20 + 16 + TYPE,
            Self::AesCbcSha256 => 13 + 16 + 32 + 16 + TYPE,
            Self::TripleDesSha1 => 13 + 8 + 20 + 8 + TYPE,
        }
    }
}

/// What a server knows when it answers CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerMtu {
    /// `mtu` of the configuration, else the MTU of the TUN device.
    pub configured: u16,
    /// The client's `X-CSTP-Base-MTU`.
    pub client_base: Option<u16>,
    /// The client's `X-CSTP-MTU`.
    pub client_mtu: Option<u16>,
    /// The client came over IPv6.
    pub outer_ipv6: bool,
    /// The client is to get an IPv6 address.
    pub inner_ipv6: bool,
    /// Of the UDP channel.
    pub overhead: Overhead,
}

/// Numbers of the CONNECT response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantedMtu {
    /// `X-CSTP-Base-MTU`: largest outer packet.
    pub link: u16,
    /// `X-CSTP-MTU`: MTU of the tunnel.
    pub data: Mtu,
    /// The tunnel can carry IPv6.
    pub ipv6: bool,
}

/// What to grant (`specs/cstp-dtls.md` §13.2).
pub fn server_grant(known: &ServerMtu) -> GrantedMtu {
    let min = if known.inner_ipv6 { MTU_MIN_IPV6 } else { LINK_MIN };
    let headers = ip_header(known.outer_ipv6) + UDP;
    let believed = |value: Option<u16>| value.filter(|&value| value <= CLIENT_MTU_MAX);
    let wanted = believed(known.client_base)
        .filter(|&base| base >= min)
        .or(believed(known.client_mtu)
            .map(|mtu| mtu + headers + LINK_ALLOWANCE)
            .filter(|&link| link >= min));
    let link = wanted.map_or(known.configured, |wanted| wanted.min(known.configured));
    let data = link.saturating_sub(headers + known.overhead.octets());
    GrantedMtu {
        link,
        data: Mtu::clamped(data.into()),
        ipv6: known.inner_ipv6 && data >= MTU_MIN_IPV6,
    }
}

/// Tunnel MTU of a client once the cipher of its UDP channel is known: what fits the server's
/// base MTU, at most what was negotiated (`specs/cstp-dtls.md` §13.3). `sealed_len` gives the
/// length of the record for a packet, type octet included; `overhead` is the most that it adds.
pub fn client_data_mtu(
    base: u16,
    outer_ipv6: bool,
    overhead: usize,
    sealed_len: impl Fn(usize) -> usize,
    negotiated: Mtu,
) -> Mtu {
    let headers = usize::from(ip_header(outer_ipv6) + UDP);
    let room = usize::from(base).saturating_sub(headers);
    // Padding may add less than the most.
    let least = room.saturating_sub(overhead);
    let fitting = (least..=room).take_while(|&len| sealed_len(len) <= room);
    let data = fitting.last().unwrap_or(least);
    Mtu::clamped(data as u64).min(negotiated)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_openconnect_asks_for() {
        let path = |mtu| ClientMtu {
            tcp_path_mtu: Some(mtu),
            ..ClientMtu::default()
        };
        assert_eq!(
            client_request(&path(1500)),
            RequestedMtu {
                base: 1500,
                mtu: 1390
            }
        );
        assert_eq!(
            client_request(&path(1000)),
            RequestedMtu {
                base: 1280,
                mtu: 1170
            }
        );
        assert_eq!(
            client_request(&ClientMtu {
                outer_ipv6: true,
                ..path(1500)
            })
            .mtu,
            1370
        );
        assert_eq!(client_request(&ClientMtu::default()).base, 1406);
        let mss = ClientMtu {
            tcp_mss: Some(1448),
            mtu_option: Some(1200),
            ..ClientMtu::default()
        };
        assert_eq!(
            client_request(&mss),
            RequestedMtu {
                base: 1435,
                mtu: 1200
            }
        );
    }

    const SERVER: ServerMtu = ServerMtu {
        configured: 1500,
        client_base: Some(1500),
        client_mtu: Some(1390),
        outer_ipv6: false,
        inner_ipv6: false,
        overhead: Overhead::AesGcm,
    };

    #[test]
    fn what_ocserv_grants() {
        for (overhead, data) in [
            (Overhead::AesGcm, 1434),
            (Overhead::ChaCha20Poly1305, 1442),
            (Overhead::AesCbcSha1, 1406),
            (Overhead::AesCbcSha256, 1394),
            (Overhead::TripleDesSha1, 1422),
            (Overhead::NoDatagram, 1472),
            (Overhead::Unknown, 1471),
        ] {
            let granted = server_grant(&ServerMtu { overhead, ..SERVER });
            assert_eq!((granted.link, granted.data.get()), (1500, data), "{overhead:?}");
        }
        let old = ServerMtu {
            configured: 1420,
            client_base: None,
            client_mtu: Some(1300),
            overhead: Overhead::NoDatagram,
            ..SERVER
        };
        let granted = server_grant(&old);
        assert_eq!((granted.link, granted.data.get()), (1394, 1366));
    }

    #[test]
    fn hostile_numbers_are_ignored() {
        for (client_base, client_mtu) in [
            (Some(0), Some(0)),
            (Some(799), Some(10)),
            (Some(65535), Some(65535)),
            (None, None),
        ] {
            assert_eq!(
                server_grant(&ServerMtu {
                    client_base,
                    client_mtu,
                    ..SERVER
                })
                .link,
                1500
            );
        }
    }

    #[test]
    fn a_small_tunnel_carries_no_ipv6() {
        let v6 = ServerMtu {
            inner_ipv6: true,
            ..SERVER
        };
        assert!(server_grant(&v6).ipv6);
        assert!(
            !server_grant(&ServerMtu {
                client_base: Some(1300),
                ..v6
            })
            .ipv6
        );
        assert_eq!(
            server_grant(&ServerMtu {
                client_base: Some(1000),
                client_mtu: None,
                ..v6
            })
            .link,
            1500
        );
    }

    #[test]
    fn client_after_the_handshake() {
        let negotiated = Mtu::clamped(1434);
        let gcm = |base, outer_ipv6| client_data_mtu(base, outer_ipv6, 38, |len| len + 38, negotiated).get();
        assert_eq!(gcm(1500, false), 1434);
        assert_eq!(gcm(1500, true), 1414);
        assert_eq!(gcm(0, false), culvert_vocab::MTU_MIN);
        // Header, IV, then type, packet, MAC and padding in whole blocks.
        let cbc = |len: usize| 13 + 16 + (1 + len + 20) / 16 * 16 + 16;
        let data = client_data_mtu(1500, false, 13 + 16 + 1 + 20 + 16, cbc, negotiated);
        assert_eq!(data.get(), 1418);
        assert_eq!((cbc(1418), cbc(1419)), (1469, 1485));
    }

    proptest! {
        #[test]
        fn never_beyond_the_configuration(
            configured in 576u16.., client_base: Option<u16>, client_mtu: Option<u16>, outer_ipv6: bool, inner_ipv6: bool,
        ) {
            let granted = server_grant(&ServerMtu {
                configured, client_base, client_mtu, outer_ipv6, inner_ipv6, overhead: Overhead::AesCbcSha256,
            });
            prop_assert!(granted.link <= configured);
            prop_assert!(!granted.ipv6 || granted.data.get() >= 1280);
        }
    }
}
