//! Control messages beside datagrams.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Room for the control messages of one datagram.
#[repr(C, align(8))]
pub(super) struct Control([u8; Self::LEN]);

impl Control {
    /// More than four messages of at most 20 octets need.
    pub(super) const LEN: usize = 160;

    pub(super) const fn new() -> Self {
        Self([0; Self::LEN])
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.0.as_mut_ptr().cast()
    }
}

/// Writes control messages one behind the other.
pub(super) struct Writer<'c> {
    control: &'c mut Control,
    used: usize,
}

impl<'c> Writer<'c> {
    pub(super) fn new(control: &'c mut Control) -> Self {
        Self { control, used: 0 }
    }

    /// Octets written.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Appends a message of at most 20 octets. A datagram has at most three.
    pub(super) fn push(&mut self, level: i32, kind: i32, payload: &[u8]) {
        // SAFETY: CMSG_SPACE only computes.
        let space = unsafe { libc::CMSG_SPACE(payload.len() as u32) } as usize;
        assert!(
            self.used + space <= Control::LEN,
            "room for every control message"
        );
        // SAFETY: CMSG_LEN and CMSG_DATA only compute; the buffer is aligned and has room for the
        // message, as was just checked.
        unsafe {
            let message = self
                .control
                .as_mut_ptr()
                .cast::<u8>()
                .add(self.used)
                .cast::<libc::cmsghdr>();
            (*message).cmsg_level = level;
            (*message).cmsg_type = kind;
            (*message).cmsg_len = libc::CMSG_LEN(payload.len() as u32) as _;
            std::ptr::copy_nonoverlapping(payload.as_ptr(), libc::CMSG_DATA(message), payload.len());
        }
        self.used += space;
    }

    /// Our address that an IPv4 datagram leaves from.
    pub(super) fn push_local_v4(&mut self, local: Ipv4Addr) {
        // in_pktinfo: interface index (any), local address, an address that sending ignores.
        let mut info = [0; 12];
        info[4..8].copy_from_slice(&local.octets());
        self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
    }

    /// Our address that an IPv6 datagram leaves from.
    pub(super) fn push_local_v6(&mut self, local: Ipv6Addr) {
        // in6_pktinfo: local address, interface index (any).
        let mut info = [0; 20];
        info[..16].copy_from_slice(&local.octets());
        self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
    }
}

pub(super) fn for_each_control(header: &libc::msghdr, mut visit: impl FnMut(i32, i32, &[u8])) {
    // SAFETY: the kernel filled in the control messages; the macros stay within them.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let len = ((*message).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            let data = std::slice::from_raw_parts(libc::CMSG_DATA(message), len);
            visit((*message).cmsg_level, (*message).cmsg_type, data);
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
}

pub(super) fn native_int(data: &[u8]) -> Option<i32> {
    data.get(..4)
        .and_then(|octets| <[u8; 4]>::try_from(octets).ok())
        .map(i32::from_ne_bytes)
}
