//! Super-packets: what a TUN device with a vnet header delivers and accepts.
//!
//! [`Splitter`] cuts a super-packet into the packets that it stands for; [`Coalescer`] joins
//! runs of received packets into super-packets. Joining and splitting again gives the same
//! packets, but for the IP identification of unfragmentable packets, which means nothing
//! (RFC 6864 §4.1).

mod checksum;
mod coalesce;
mod packet;
mod split;
mod vnet;

pub use coalesce::{Coalescer, Joined, PACKETS_MAX};
pub use packet::is_user_data;
pub(crate) use packet::type_of_service;
pub use split::Splitter;
pub use vnet::{HEADER_LEN, Segmentation, VnetHeader};

/// Why a packet of the device cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OffloadError {
    /// Shorter than its headers say, or no IP packet.
    #[error("malformed packet")]
    Malformed,
    /// A kind of segmentation that was not asked for.
    #[error("unknown kind of segmentation")]
    Segmentation,
}
