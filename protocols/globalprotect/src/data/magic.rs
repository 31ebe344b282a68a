//! Magic pings: the probes of ESP are echo requests to the gateway (`specs/globalprotect.md` §12).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use culvert_esp::{Examined, NextHeader, Probe};

use super::Sources;

/// What the payload of every ping begins with.
const MAGIC: [u8; 16] = *b"monitor\0\0pan ha ";
const IPV4_HEADER_LEN: usize = 20;
const IPV6_HEADER_LEN: usize = 40;
const ICMP_HEADER_LEN: usize = 8;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Identifier of pings, and of the IPv4 packets that carry them.
const IDENTIFIER: [u8; 2] = *b"GG";

/// Types of echo request and reply.
#[derive(Clone, Copy)]
struct EchoTypes {
    request: u8,
    reply: u8,
}

const ICMP_ECHO: EchoTypes = EchoTypes { request: 8, reply: 0 };
const ICMPV6_ECHO: EchoTypes = EchoTypes {
    request: 128,
    reply: 129,
};

/// The addresses between which pings travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    V4 { client: Ipv4Addr, gateway: Ipv4Addr },
    V6 { client: Ipv6Addr, gateway: Ipv6Addr },
}

/// Probes of the ESP channel. The client asks, the gateway answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MagicPing {
    /// The client's end.
    Client(ClientPing),
    /// The gateway's end: answers every ping of this client, and lets nothing pass that is not
    /// its own.
    Gateway(Sources),
}

/// Pings of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientPing {
    path: Path,
    sequence: u16,
}

impl MagicPing {
    /// Pings from `client`, its inner address, to the gateway's address of the same family;
    /// `None` when the families differ.
    pub fn client(client: IpAddr, gateway: IpAddr) -> Option<Self> {
        let path = match (client, gateway) {
            (IpAddr::V4(client), IpAddr::V4(gateway)) => Path::V4 { client, gateway },
            (IpAddr::V6(client), IpAddr::V6(gateway)) => Path::V6 { client, gateway },
            _ => return None,
        };
        Some(Self::Client(ClientPing { path, sequence: 0 }))
    }
}

impl Probe for MagicPing {
    fn request(&mut self) -> Option<(NextHeader, Vec<u8>)> {
        let Self::Client(ping) = self else { return None };
        let sequence = ping.sequence;
        ping.sequence = sequence.wrapping_add(1);
        Some(match ping.path {
            Path::V4 { client, gateway } => (NextHeader::Ipv4, echo_v4(client, gateway, sequence)),
            Path::V6 { client, gateway } => (NextHeader::Ipv6, echo_v6(client, gateway, sequence)),
        })
    }

    fn examine(&self, next_header: NextHeader, payload: &[u8]) -> Option<Examined> {
        match self {
            Self::Client(ping) => is_reply(ping.path, payload).then_some(Examined::Answer),
            Self::Gateway(sources) => match next_header {
                NextHeader::Dummy => None,
                NextHeader::Ipv4 | NextHeader::Ipv6 if sources.allow(payload) => {
                    answer(payload).map(|reply| Examined::Request(next_header, reply))
                }
                // No client compresses.
                NextHeader::Ipv4 | NextHeader::Ipv6 | NextHeader::Lzo => Some(Examined::Foreign),
            },
        }
    }
}

fn echo(types: EchoTypes, sequence: u16) -> Vec<u8> {
    let mut message = vec![types.request, 0, 0, 0];
    message.extend_from_slice(&IDENTIFIER);
    message.extend_from_slice(&sequence.to_be_bytes());
    message.extend_from_slice(&MAGIC);
    message
}

fn echo_v4(client: Ipv4Addr, gateway: Ipv4Addr, sequence: u16) -> Vec<u8> {
    let mut message = echo(ICMP_ECHO, sequence);
    set_checksum(&mut message, 2, 0);
    let total = (IPV4_HEADER_LEN + message.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&IDENTIFIER);
    // Don't fragment; TTL 64.
    packet.extend_from_slice(&[0x40, 0, 64, ICMP, 0, 0]);
    packet.extend_from_slice(&client.octets());
    packet.extend_from_slice(&gateway.octets());
    set_checksum(&mut packet, 10, 0);
    packet.extend_from_slice(&message);
    packet
}

fn echo_v6(client: Ipv6Addr, gateway: Ipv6Addr, sequence: u16) -> Vec<u8> {
    let mut message = echo(ICMPV6_ECHO, sequence);
    let pseudo = pseudo_header_sum(&client.octets(), &gateway.octets(), message.len());
    set_checksum(&mut message, 2, pseudo);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(message.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[ICMPV6, 128]);
    packet.extend_from_slice(&client.octets());
    packet.extend_from_slice(&gateway.octets());
    packet.extend_from_slice(&message);
    packet
}

/// True for an echo reply from the gateway with the magic payload; nothing else is looked at.
fn is_reply(path: Path, packet: &[u8]) -> bool {
    let (source, message, types) = match (path, packet.first().map(|octet| octet >> 4)) {
        (Path::V4 { gateway, .. }, Some(4)) => (
            packet.get(12..16) == Some(&gateway.octets()),
            icmp_v4(packet),
            ICMP_ECHO,
        ),
        (Path::V6 { gateway, .. }, Some(6)) => (
            packet.get(8..24) == Some(&gateway.octets()),
            icmp_v6(packet),
            ICMPV6_ECHO,
        ),
        _ => return false,
    };
    source && message.is_some_and(|message| is_magic(message, types.reply))
}

/// The ICMP message of an IPv4 packet without options and fragmentation.
fn icmp_v4(packet: &[u8]) -> Option<&[u8]> {
    let header = packet.get(..IPV4_HEADER_LEN)?;
    let fragmented = header.get(6).is_none_or(|flags| flags & 0x3f != 0) || header.get(7) != Some(&0);
    (header.first() == Some(&0x45) && header.get(9) == Some(&ICMP) && !fragmented)
        .then(|| packet.get(IPV4_HEADER_LEN..))
        .flatten()
}

/// The ICMPv6 message of an IPv6 packet without extension headers.
fn icmp_v6(packet: &[u8]) -> Option<&[u8]> {
    (packet.get(6) == Some(&ICMPV6))
        .then(|| packet.get(IPV6_HEADER_LEN..))
        .flatten()
}

fn is_magic(message: &[u8], message_type: u8) -> bool {
    message.starts_with(&[message_type, 0])
        && message
            .get(ICMP_HEADER_LEN..)
            .is_some_and(|payload| payload.starts_with(&MAGIC))
}

/// The reply to a magic ping: the same packet the other way round. Every packet comes here, so
/// only a ping is copied.
fn answer(packet: &[u8]) -> Option<Vec<u8>> {
    let mut reply;
    match packet.first()? >> 4 {
        4 if is_magic(icmp_v4(packet)?, ICMP_ECHO.request) => {
            reply = packet.to_vec();
            let (header, message) = reply.split_at_mut_checked(IPV4_HEADER_LEN)?;
            let (source, destination) = header.get_mut(12..20)?.split_at_mut(4);
            source.swap_with_slice(destination);
            *message.first_mut()? = ICMP_ECHO.reply;
            set_checksum(message, 2, 0);
        }
        6 if is_magic(icmp_v6(packet)?, ICMPV6_ECHO.request) => {
            reply = packet.to_vec();
            let (header, message) = reply.split_at_mut_checked(IPV6_HEADER_LEN)?;
            let (source, destination) = header.get_mut(8..40)?.split_at_mut(16);
            source.swap_with_slice(destination);
            *message.first_mut()? = ICMPV6_ECHO.reply;
            let pseudo = pseudo_header_sum(source, destination, message.len());
            set_checksum(message, 2, pseudo);
        }
        _ => return None,
    }
    Some(reply)
}

/// Sum of the IPv6 pseudo header (RFC 8200 §8.1).
fn pseudo_header_sum(source: &[u8], destination: &[u8], len: usize) -> u32 {
    sum(source) + sum(destination) + len as u32 + u32::from(ICMPV6)
}

/// Writes the Internet checksum (RFC 1071) of `bytes` at `at`; `start` is added to the sum.
fn set_checksum(bytes: &mut [u8], at: usize, start: u32) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.fill(0);
    }
    let mut total = start + sum(bytes);
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&(!(total as u16)).to_be_bytes());
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(*pair.first().unwrap_or(&0)) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum()
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    fn vector(name: &str, nth: usize) -> Vec<u8> {
        let text = include_str!("../../tests/vectors/magic-ping.txt");
        let value = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
            .nth(nth)
            .unwrap();
        HEXLOWER.decode(value.as_bytes()).unwrap()
    }

    fn gateway() -> MagicPing {
        let own = ["10.77.0.2/32", "fd77::2/128"];
        MagicPing::Gateway(Sources::new(own.map(|own| own.parse().unwrap()).to_vec()))
    }

    fn ping_v4() -> MagicPing {
        MagicPing::client("10.77.0.2".parse().unwrap(), "192.0.2.1".parse().unwrap()).unwrap()
    }

    fn ping_v6() -> MagicPing {
        MagicPing::client("fd77::2".parse().unwrap(), "2001:db8:47::1".parse().unwrap()).unwrap()
    }

    #[test]
    fn requests_and_replies_of_the_reference() {
        let mut ping = ping_v4();
        let (_, first) = ping.request().unwrap();
        assert_eq!(first, vector("request seq 0", 0));
        assert_eq!(ping.request().unwrap().1, vector("request seq 1", 0));
        let reply = vector("reply seq 0", 0);
        assert_eq!(ping.examine(NextHeader::Ipv4, &reply), Some(Examined::Answer));
        assert_eq!(
            gateway().examine(NextHeader::Ipv4, &first),
            Some(Examined::Request(NextHeader::Ipv4, reply))
        );
        assert_eq!(gateway().request(), None);
    }

    /// Every packet of the user is looked at.
    #[test]
    fn data_costs_no_allocation() {
        let mut data = vec![0; 1400];
        let everywhere = ["0.0.0.0/0", "::/0"].map(|network| network.parse().unwrap());
        let gateway = MagicPing::Gateway(Sources::new(everywhere.to_vec()));
        for ping in [ping_v4(), ping_v6(), gateway] {
            for first in [0x45, 0x60] {
                data[0] = first;
                let counted = allocation_counter::measure(|| {
                    assert_eq!(ping.examine(NextHeader::of_packet(&data), &data), None);
                });
                assert_eq!(counted.count_total, 0);
            }
        }
    }

    #[test]
    fn ipv6_differs_in_the_identifier_only() {
        let request = vector("request seq 0 id 0ef6", 0);
        let reply = vector("reply seq 0 id 0ef6", 0);
        assert_eq!(
            gateway().examine(NextHeader::Ipv6, &request),
            Some(Examined::Request(NextHeader::Ipv6, reply.clone()))
        );
        let mut ping = ping_v6();
        assert_eq!(ping.examine(NextHeader::Ipv6, &reply), Some(Examined::Answer));
        let (next_header, ours) = ping.request().unwrap();
        assert_eq!(next_header, NextHeader::Ipv6);
        assert_eq!((&ours[..42], &ours[46..]), (&request[..42], &request[46..]));
        assert!(matches!(
            gateway().examine(NextHeader::Ipv6, &ours),
            Some(Examined::Request(..))
        ));
    }

    #[test]
    fn the_long_form_is_echoed_whole() {
        let request = vector("request long seq 0", 0);
        let Some(Examined::Request(_, reply)) = gateway().examine(NextHeader::Ipv4, &request) else {
            panic!("not answered")
        };
        assert_eq!(reply[28..], request[28..]);
    }

    #[test]
    fn other_packets_are_data() {
        let request = vector("request seq 0", 0);
        let reply = vector("reply seq 0", 0);
        assert_eq!(ping_v4().examine(NextHeader::Ipv4, &request), None);
        let foreign = Some(Examined::Foreign);
        assert_eq!(
            gateway().examine(NextHeader::Ipv4, &reply),
            foreign,
            "not the client's"
        );
        assert_eq!(gateway().examine(NextHeader::Lzo, &request), foreign);
        assert_eq!(gateway().examine(NextHeader::Dummy, &request), None);
        assert_eq!(ping_v6().examine(NextHeader::Ipv4, &reply), None);
        for at in [0, 9, 12, 20, 28] {
            let mut changed = reply.clone();
            changed[at] ^= 0x11;
            assert_eq!(ping_v4().examine(NextHeader::Ipv4, &changed), None, "{at}");
        }
        let fragment = |mut packet: Vec<u8>| {
            packet[6] = 0x20;
            packet
        };
        assert_eq!(gateway().examine(NextHeader::Ipv4, &fragment(request)), None);
    }

    proptest! {
        #[test]
        fn never_panics(packet in prop::collection::vec(any::<u8>(), 0..100), version in prop_oneof![Just(0x45u8), Just(0x60)]) {
            let mut packet = packet;
            if let Some(first) = packet.first_mut() {
                *first = version;
            }
            for ping in [ping_v4(), ping_v6(), gateway()] {
                let _ = ping.examine(NextHeader::Ipv4, &packet);
            }
        }
    }
}
