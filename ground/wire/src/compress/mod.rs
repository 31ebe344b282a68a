//! Stateless compression of single packets: LZ4 blocks and LZS
//! (`specs/cstp-dtls.md` §12). No history between packets, output bounded by the caller's buffer.

mod lzs;

/// Compression method of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Raw LZ4 block, `oc-lz4` in headers.
    Lz4,
    /// LZS bit stream, `lzs` in headers.
    Lzs,
}

impl Method {
    /// Name in `Accept-Encoding` and `Content-Encoding` headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "oc-lz4",
            Self::Lzs => "lzs",
        }
    }

    /// The method with this header name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Lz4, Self::Lzs]
            .into_iter()
            .find(|method| method.name() == name)
    }
}

/// A compressed packet is malformed or larger than the room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed or oversized compressed packet")]
pub struct DecompressError;

/// Compresses `packet` into `out` and returns the length; `None` when it does not fit, which is
/// how a caller learns that compression does not pay.
pub fn compress(method: Method, packet: &[u8], out: &mut [u8]) -> Option<usize> {
    match method {
        Method::Lz4 => lz4_flex::block::compress_into(packet, out).ok(),
        Method::Lzs => lzs::compress(packet, out),
    }
}

/// Decompresses one packet into `out` and returns its length.
///
/// # Errors
/// Malformed input, or more output than `out` has room for.
pub fn decompress(method: Method, packet: &[u8], out: &mut [u8]) -> Result<usize, DecompressError> {
    match method {
        Method::Lz4 => lz4_flex::block::decompress_into(packet, out).map_err(|_| DecompressError),
        Method::Lzs => lzs::decompress(packet, out),
    }
}
