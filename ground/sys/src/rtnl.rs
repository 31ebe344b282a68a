//! Interfaces, addresses and routes over rtnetlink: the few requests that a server makes for
//! its TUN devices. Synchronous; every request waits for the kernel's answer.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::cvt::{cvt, cvt_len, retry};

/// A netlink socket for requests to the kernel's routing subsystem.
#[derive(Debug)]
pub struct Rtnl {
    socket: OwnedFd,
    sequence: u32,
}

/// What [`Rtnl::set_link`] changes; `None` leaves a property as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Up or down.
    pub up: Option<bool>,
    /// MTU in octets.
    pub mtu: Option<u32>,
    /// Group of interfaces that can be deleted together.
    pub group: Option<u32>,
}

/// Index of an interface.
///
/// # Errors
/// There is none of that name.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `name` is a C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

impl Rtnl {
    /// Opens a socket in the present network namespace.
    ///
    /// # Errors
    /// Descriptors are used up.
    pub fn open() -> io::Result<Self> {
        // SAFETY: socket takes integers only.
        let fd = cvt(unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::NETLINK_ROUTE,
            )
        })?;
        // SAFETY: the descriptor is fresh and owned by nobody else.
        Ok(Self {
            socket: unsafe { OwnedFd::from_raw_fd(fd) },
            sequence: 0,
        })
    }

    /// Changes properties of an interface.
    ///
    /// # Errors
    /// The kernel's refusal, e.g. without CAP_NET_ADMIN.
    pub fn set_link(&mut self, index: u32, change: LinkChange) -> io::Result<()> {
        let up = libc::IFF_UP.cast_unsigned();
        let (flags, mask) = change.up.map_or((0, 0), |on| (if on { up } else { 0 }, up));
        let mut request = Request::new(libc::RTM_NEWLINK, 0);
        request.link_header(index, flags, mask);
        if let Some(mtu) = change.mtu {
            request.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
        }
        if let Some(group) = change.group {
            request.attribute(libc::IFLA_GROUP, &group.to_ne_bytes());
        }
        self.exchange(request)
    }

    /// Deletes every interface of `group` at once.
    ///
    /// # Errors
    /// The kernel's refusal; `NoDevice` (ENODEV) when the group is empty.
    pub fn delete_group(&mut self, group: u32) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_DELLINK, 0);
        request.link_header(0, 0, 0);
        request.attribute(libc::IFLA_GROUP, &group.to_ne_bytes());
        self.exchange(request)
    }

    /// Groups of all interfaces; most are in 0.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn groups(&mut self) -> io::Result<BTreeSet<u32>> {
        let mut request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP.cast_unsigned() as u16);
        request.link_header(0, 0, 0);
        self.send(request)?;
        let mut groups = BTreeSet::new();
        // The kernel fills at most this much of a dump into one message.
        let mut answer = vec![0; 32 * 1024];
        loop {
            let len = self.receive(&mut answer)?;
            let mut rest = answer.get(..len).unwrap_or_default();
            while let Some((header, content, next)) = next_message(rest) {
                rest = next;
                if header.sequence != self.sequence {
                    continue;
                }
                match i32::from(header.kind) {
                    libc::NLMSG_DONE => return Ok(groups),
                    libc::NLMSG_ERROR => return Err(refusal(content)),
                    _ => groups.extend(attribute(content.get(16..).unwrap_or_default(), libc::IFLA_GROUP)),
                }
            }
        }
    }

    /// Adds `local/prefix_len` to an interface; with `peer` a point-to-point address.
    ///
    /// # Errors
    /// The kernel's refusal; `AlreadyExists` when it is there.
    pub fn add_address(
        &mut self,
        index: u32,
        local: IpAddr,
        prefix_len: u8,
        peer: Option<IpAddr>,
    ) -> io::Result<()> {
        let mut request = Request::new(
            libc::RTM_NEWADDR,
            (libc::NLM_F_CREATE | libc::NLM_F_EXCL).cast_unsigned() as u16,
        );
        // No duplicate address detection on a device that has nobody else on the link.
        let flags = if local.is_ipv6() {
            libc::IFA_F_NODAD as u8
        } else {
            0
        };
        // ifaddrmsg: family, prefix length, flags, scope, index.
        request
            .bytes
            .extend_from_slice(&[family(local), prefix_len, flags, 0]);
        request.bytes.extend_from_slice(&index.to_ne_bytes());
        request.address(libc::IFA_LOCAL, local);
        request.address(libc::IFA_ADDRESS, peer.unwrap_or(local));
        self.exchange(request)
    }

    /// Adds (or replaces) a route through an interface.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn add_route(
        &mut self,
        index: u32,
        destination: IpAddr,
        prefix_len: u8,
        metric: Option<u32>,
    ) -> io::Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE).cast_unsigned() as u16;
        self.route(
            libc::RTM_NEWROUTE,
            flags,
            index,
            (destination, prefix_len),
            metric,
        )
    }

    /// Removes a route through an interface.
    ///
    /// # Errors
    /// The kernel's refusal; ESRCH when there is none.
    pub fn delete_route(&mut self, index: u32, destination: IpAddr, prefix_len: u8) -> io::Result<()> {
        self.route(libc::RTM_DELROUTE, 0, index, (destination, prefix_len), None)
    }

    fn route(
        &mut self,
        kind: u16,
        flags: u16,
        index: u32,
        (destination, prefix_len): (IpAddr, u8),
        metric: Option<u32>,
    ) -> io::Result<()> {
        let mut request = Request::new(kind, flags);
        let scope = if kind == libc::RTM_DELROUTE {
            libc::RT_SCOPE_NOWHERE
        } else {
            libc::RT_SCOPE_LINK
        };
        // rtmsg: family, destination and source length, tos, table, protocol, scope, type, flags.
        request.bytes.extend_from_slice(&[
            family(destination),
            prefix_len,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            scope,
            libc::RTN_UNICAST,
        ]);
        request.bytes.extend_from_slice(&0u32.to_ne_bytes());
        request.address(libc::RTA_DST, masked(destination, prefix_len));
        request.attribute(libc::RTA_OIF, &index.to_ne_bytes());
        if let Some(metric) = metric {
            request.attribute(libc::RTA_PRIORITY, &metric.to_ne_bytes());
        }
        self.exchange(request)
    }

    /// Sends one request and waits for its acknowledgement.
    fn exchange(&mut self, request: Request) -> io::Result<()> {
        self.send(request)?;
        let mut answer = [0u8; 4096];
        loop {
            let len = self.receive(&mut answer)?;
            let Some((header, content, _)) = next_message(answer.get(..len).unwrap_or_default()) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            if header.sequence != self.sequence || i32::from(header.kind) != libc::NLMSG_ERROR {
                continue;
            }
            return match content.first_chunk::<4>() {
                Some([0, 0, 0, 0]) => Ok(()),
                _ => Err(refusal(content)),
            };
        }
    }

    fn send(&mut self, mut request: Request) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence);
        let fd = self.socket.as_fd().as_raw_fd();
        // SAFETY: the pointer and length describe `bytes`.
        retry(|| cvt_len(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), 0) }))?;
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let fd = self.socket.as_fd().as_raw_fd();
        // SAFETY: the pointer and length describe `buffer`, which is writable.
        retry(|| cvt_len(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) }))
    }
}

/// What matters of an nlmsghdr.
struct Header {
    kind: u16,
    sequence: u32,
}

/// Splits the first message off an answer: its header, its content, and what follows it.
fn next_message(answer: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    // nlmsghdr: length (0..4), type (4..6), flags, sequence (8..12), port.
    let (header, _) = answer.split_first_chunk::<16>()?;
    let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *header;
    let len = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
    let header = Header {
        kind: u16::from_ne_bytes([k0, k1]),
        sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
    };
    let next = answer.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((header, answer.get(16..len)?, next))
}

/// The error of an NLMSG_ERROR message.
fn refusal(content: &[u8]) -> io::Error {
    match content.first_chunk::<4>() {
        Some(code) => io::Error::from_raw_os_error(i32::from_ne_bytes(*code).wrapping_neg()),
        None => io::ErrorKind::InvalidData.into(),
    }
}

/// The first attribute of a kind whose value is a number.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<u32> {
    while let Some((header, _)) = attributes.split_first_chunk::<4>() {
        let [l0, l1, k0, k1] = *header;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = attributes.get(4..len)?;
        if u16::from_ne_bytes([k0, k1]) == wanted {
            return value.first_chunk::<4>().map(|octets| u32::from_ne_bytes(*octets));
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
    None
}

struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16) -> Self {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK).cast_unsigned() as u16;
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes }
    }

    /// ifinfomsg: family, padding, type, index, flags, change mask.
    fn link_header(&mut self, index: u32, flags: u32, mask: u32) {
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&index.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&mask.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = (4 + value.len()) as u16;
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    fn finish(&mut self, sequence: u32) -> &[u8] {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv6() {
        libc::AF_INET6 as u8
    } else {
        libc::AF_INET as u8
    }
}

/// Clears the host bits, which the kernel would refuse in a route.
fn masked(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32u32.saturating_sub(prefix_len.into()))
                .unwrap_or(0);
            Ipv4Addr::from(u32::from(v4) & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128u32.saturating_sub(prefix_len.into()))
                .unwrap_or(0);
            std::net::Ipv6Addr::from(u128::from(v6) & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_cleared() {
        let cases = [
            ("10.1.2.3", 8, "10.0.0.0"),
            ("10.1.2.3", 0, "0.0.0.0"),
            ("fd00::1", 64, "fd00::"),
        ];
        for (address, prefix_len, network) in cases {
            assert_eq!(
                masked(address.parse().unwrap(), prefix_len),
                network.parse::<IpAddr>().unwrap()
            );
        }
    }

    #[test]
    fn refusals_are_reported() {
        let mut rtnl = Rtnl::open().unwrap();
        let change = LinkChange {
            mtu: Some(1400),
            ..LinkChange::default()
        };
        assert!(rtnl.set_link(i32::MAX.cast_unsigned(), change).is_err());
        assert_eq!(interface_index("lo").unwrap(), 1);
        assert!(interface_index("no-such-device").is_err());
        assert!(rtnl.groups().unwrap().contains(&0), "loopback is in group 0");
    }
}
