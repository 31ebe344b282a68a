//! UDP-encapsulated ESP (RFC 4303 in the layout of RFC 3948) as GlobalProtect, Juniper NC and
//! Pulse use it, client and server, without input or output: no IKE, the keys come from the
//! protocol's TLS side (`specs/esp.md`).
//!
//! ```text
//! association    algorithms, SPI and keys of one direction
//! sealer         the sending half: sequence numbers, IVs, padding, encryption, ICV
//! opener         the receiving half: ICV, replay window, decryption, padding
//! inbound        the receiving half across a rekey: the present association and the one before
//! channel        both halves with probes: what the packet path carries
//! probe          what a protocol's probes are made of
//! lzo            LZO1X, the compression of Juniper's servers
//! cipher, mac, replay    the parts of the two halves
//! ```

#![forbid(unsafe_code)]

mod association;
mod channel;
mod cipher;
mod inbound;
#[cfg(test)]
mod lanes_tests;
#[cfg(test)]
mod last_numbers;
pub mod lzo;
mod mac;
mod opener;
mod packet;
mod probe;
mod replay;
mod sealer;
#[cfg(test)]
mod vectors;

pub use association::{Association, Encryption, Integrity, KeyError, Spi};
pub use channel::Channel;
pub use inbound::Inbound;
pub use opener::{Opened, Opener};
pub use packet::{NextHeader, inner_mtu, spi_of};
pub use probe::{ByteProbe, Examined, Probe};
pub use sealer::Sealer;
