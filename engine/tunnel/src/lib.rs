//! Packets between a TUN device and the transports of a tunnel: split and joined super-packets,
//! sealed and opened in place, many per system call; timers and fall-back.
//!
//! Nothing here knows a protocol: a transport is a socket and a record layer that implements the
//! traits of `culvert-record`. One [`Session`] is one tunnel; a process may run many of them on
//! one `Poller` with one set of [`Buffers`].

#![forbid(unsafe_code)]

mod batch;
mod buffers;
mod device;
pub mod offload;
mod pace;
mod policy;
mod rate;
mod session;

pub use buffers::{Arrival, Buffers};
pub use device::Device;
pub use pace::{Pace, Passed};
pub use policy::{Action, Channel, Policy, PolicyConfig, Role};
pub use session::{
    DatagramLoss, DatagramSocket, Event, FrameError, Marks, Notice, SecondThread, Session, SessionConfig,
    SharedSocket, Statistics, StreamError, TOKENS,
};
