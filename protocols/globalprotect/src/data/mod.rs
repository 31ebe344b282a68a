//! The packet path of the protocol: frames in TLS records, and ESP with magic pings.

mod magic;
mod stream;

pub use magic::MagicPing;
pub use stream::{GpstClientOpener, GpstClientSealer, GpstServerOpener, GpstServerSealer};

/// The ESP channel.
pub type EspChannel = culvert_esp::Channel<MagicPing>;
