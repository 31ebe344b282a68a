//! TUN devices: opening, adopting, offloads, packets.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::cvt::{cvt, cvt_len, retry};

/// Octets of the `virtio_net_hdr` before every packet of a device with [`Tun::vnet_header`].
pub const VNET_HEADER_LEN: usize = 10;

/// How a device is opened.
#[derive(Debug, Clone, Default)]
pub struct TunOptions<'a> {
    /// Interface name; may contain `%d`, which the kernel replaces by a free number. Empty: `tun%d`.
    pub name: &'a str,
    /// Ask for the vnet header and the offloads that need it; falls back by itself.
    pub offload: bool,
    /// Who may open the device besides root.
    pub owner: Option<u32>,
    /// Which group may open the device.
    pub group: Option<u32>,
}

/// Why a device could not be opened. The texts are those of `specs/client.md` §12.6.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The name is longer than 15 octets or contains `/`, blanks or NUL.
    #[error("'{0}' is no valid interface name")]
    Name(String),
    /// `/dev/net/tun` and `/dev/tun` could not be opened.
    #[error("Failed to open tun device: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused the device.
    #[error("Failed to bind local tun device (TUNSETIFF): {0}")]
    Attach(#[source] io::Error),
    /// A property of the device could not be set.
    #[error("Failed to configure the tun device ({0}): {1}")]
    Configure(&'static str, #[source] io::Error),
    /// The descriptor is no attached TUN device without packet information.
    #[error("the descriptor is no usable tun device: {0}")]
    Adopt(#[source] io::Error),
}

/// Segmentation that the kernel leaves to the packet path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// TCP super-packets, and packets with partial checksums.
    pub tcp: bool,
    /// UDP super-packets (Linux 6.2).
    pub udp: bool,
}

/// An open TUN device: non-blocking, close-on-exec, one packet per call.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    name: String,
    vnet_header: bool,
    offload: Offload,
}

impl Tun {
    /// Opens or creates a device. It vanishes when its last descriptor is closed, unless it
    /// existed before.
    ///
    /// # Errors
    /// See [`TunError`].
    pub fn open(options: &TunOptions<'_>) -> Result<Self, TunError> {
        let name = if options.name.is_empty() {
            "tun%d"
        } else {
            options.name
        };
        let base = libc::IFF_TUN | libc::IFF_NO_PI;
        let fd = open_device().map_err(TunError::Open)?;
        if options.offload {
            // A persistent device made without the vnet header refuses it: retry as it is.
            if let Ok(attached) = attach(&fd, name, base | libc::IFF_VNET_HDR)? {
                return Self::finish(fd, &attached, true, options);
            }
        }
        let attached = attach(&fd, name, base)?.map_err(TunError::Attach)?;
        Self::finish(fd, &attached, false, options)
    }

    /// Adopts a device that another process opened.
    ///
    /// # Errors
    /// [`TunError::Adopt`] when the descriptor is something else.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, TunError> {
        let mut request = empty_request();
        // SAFETY: TUNGETIFF fills in an ifreq.
        cvt(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) })
            .map_err(TunError::Adopt)?;
        // SAFETY: TUNGETIFF sets the flags member of the union.
        let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & libc::IFF_TUN == 0 || flags & libc::IFF_NO_PI == 0 {
            return Err(TunError::Adopt(io::ErrorKind::InvalidInput.into()));
        }
        let vnet_header = flags & libc::IFF_VNET_HDR != 0;
        set_nonblocking(&fd).map_err(TunError::Adopt)?;
        Self::finish(fd, &request, vnet_header, &TunOptions::default())
    }

    fn finish(
        fd: OwnedFd,
        attached: &libc::ifreq,
        vnet_header: bool,
        options: &TunOptions<'_>,
    ) -> Result<Self, TunError> {
        if let Some(uid) = options.owner {
            set_number(&fd, libc::TUNSETOWNER as _, uid)
                .map_err(|error| TunError::Configure("owner", error))?;
        }
        if let Some(gid) = options.group {
            set_number(&fd, libc::TUNSETGROUP as _, gid)
                .map_err(|error| TunError::Configure("group", error))?;
        }
        let offload = if vnet_header {
            negotiate(&fd)
        } else {
            Offload::default()
        };
        Ok(Self {
            fd,
            name: interface_name(attached),
            vnet_header,
            offload,
        })
    }

    /// Name of the interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True when every packet is preceded by [`VNET_HEADER_LEN`] octets.
    pub fn vnet_header(&self) -> bool {
        self.vnet_header
    }

    /// What the kernel hands over unsegmented.
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// Reads one packet (with its vnet header).
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and length describe `buffer`, which is writable.
        retry(|| {
            cvt_len(unsafe { libc::read(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
        })
    }

    /// Writes one packet (with its vnet header) gathered from `parts`.
    ///
    /// # Errors
    /// `InvalidInput` for packets that the kernel does not accept; an I/O error while the
    /// interface is down.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = i32::try_from(parts.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: IoSlice is guaranteed to be ABI compatible with iovec.
        retry(|| cvt_len(unsafe { libc::writev(self.fd.as_raw_fd(), parts.as_ptr().cast(), count) }))
    }

    /// The descriptor, for another process.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_device() -> io::Result<OwnedFd> {
    let open = |path: &str| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
    };
    // The first error is the one to report: `/dev/tun` exists on unusual systems only.
    open("/dev/net/tun")
        .or_else(|error| open("/dev/tun").map_err(|_| error))
        .map(OwnedFd::from)
}

/// The outer error is a bad name, the inner one the kernel's refusal.
fn attach(fd: &OwnedFd, name: &str, flags: i32) -> Result<io::Result<libc::ifreq>, TunError> {
    let mut request = request_for(name)?;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and fills in an ifreq.
    let result = cvt(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) });
    Ok(result.map(|_| request))
}

/// Asks for the largest set of offloads that this kernel knows.
fn negotiate(fd: &OwnedFd) -> Offload {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    for (flags, offload) in [
        (tcp | udp, Offload { tcp: true, udp: true }),
        (
            tcp,
            Offload {
                tcp: true,
                udp: false,
            },
        ),
        (0, Offload::default()),
    ] {
        if set_number(fd, libc::TUNSETOFFLOAD as _, flags).is_ok() {
            return offload;
        }
    }
    Offload::default()
}

fn set_number(fd: &OwnedFd, request: libc::Ioctl, value: u32) -> io::Result<()> {
    // SAFETY: the requests used here take an integer, no pointer.
    cvt(unsafe { libc::ioctl(fd.as_raw_fd(), request, libc::c_ulong::from(value)) })?;
    Ok(())
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: fcntl with F_GETFL and F_SETFL takes integers only.
    unsafe {
        let flags = cvt(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        cvt(libc::fcntl(
            fd.as_raw_fd(),
            libc::F_SETFL,
            flags | libc::O_NONBLOCK,
        ))?;
    }
    Ok(())
}

fn empty_request() -> libc::ifreq {
    // SAFETY: ifreq is a plain C structure for which zeroes are valid.
    unsafe { std::mem::zeroed() }
}

fn request_for(name: &str) -> Result<libc::ifreq, TunError> {
    let mut request = empty_request();
    let valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if !valid || name.len() >= request.ifr_name.len() {
        return Err(TunError::Name(name.to_owned()));
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte.cast_signed() as libc::c_char;
    }
    Ok(request)
}

fn interface_name(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.map(|byte| byte.cast_unsigned());
    CStr::from_bytes_until_nul(&bytes)
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_refused() {
        for name in ["sixteen-octets-x", "a b", "a/b", "a\0b"] {
            assert!(matches!(request_for(name), Err(TunError::Name(_))), "{name:?}");
        }
        assert_eq!(interface_name(&request_for("vpns%d").unwrap()), "vpns%d");
    }

    #[test]
    fn other_descriptors_are_not_adopted() {
        let (end, _other) = io::pipe().unwrap();
        assert!(matches!(Tun::from_fd(end.into()), Err(TunError::Adopt(_))));
    }
}
