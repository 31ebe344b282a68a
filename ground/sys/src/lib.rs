//! The operating system, as the layers above need it: TUN devices, sockets with segmentation
//! offload, the event loop, channels that carry descriptors, processes and privileges.
//! Also what needs certain instructions of the processor.
//!
//! This is the only crate with `unsafe` code. Sockets, users and syslog go through libc's
//! functions, never through raw system calls, so that preload wrappers (proxychains,
//! socket_wrapper, uid_wrapper, nss_wrapper) work. Nothing here knows a protocol.

#![allow(unsafe_code)]

pub mod channel;
pub mod clock;
mod cvt;
pub mod epoll;
pub mod file_lock;
pub mod files;
pub mod interfaces;
pub mod lanes;
pub mod libproxy;
pub mod library;
pub mod mem;
pub mod netns;
pub mod network_changes;
pub mod pcsc;
pub mod process;
pub mod random;
pub mod rtnl;
pub mod sandbox;
pub mod signal;
pub mod syslog;
pub mod tcp;
pub mod term;
pub mod tun;
pub mod udp;
pub mod user;
pub mod utmp;
