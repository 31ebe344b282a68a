//! The packet path of the protocol: CSTP frames in TLS records, and frames in DTLS records.

mod compression;
mod datagram;
mod stream;

pub use compression::{Compressing, Compression};
pub use datagram::{DtlsChannel, DtlsSealer};
pub use stream::{Cstp, CstpOpener, CstpSealer};
