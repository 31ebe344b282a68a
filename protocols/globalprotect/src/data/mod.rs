//! The packet path of the protocol: frames in TLS records, and ESP with magic pings.

mod magic;
mod sources;
mod stream;

pub use magic::MagicPing;
pub use sources::{CheckedOpener, Sources};
pub use stream::{GpstClientOpener, GpstClientSealer, GpstServerOpener, GpstServerSealer};

/// The ESP channel.
pub type EspChannel = culvert_esp::Channel<MagicPing>;
