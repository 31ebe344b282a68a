//! Renegotiation with servers that do not know how to do it securely (RFC 5746).

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslOptions, SslRef};
use openssl_sys::SSL;

/// SSL_OP_LEGACY_SERVER_CONNECT: such servers may be talked to, and may renegotiate.
pub(crate) const LEGACY_SERVER_CONNECT: SslOptions = SslOptions::from_bits_retain(1 << 2);

unsafe extern "C" {
    fn SSL_clear_options(ssl: *mut SSL, options: u64) -> u64;
}

/// From now on such a server cannot renegotiate: that ends the connection.
pub(crate) fn forbid_insecure(ssl: &SslRef) {
    // SAFETY: the object is alive, and nobody else has it.
    unsafe { SSL_clear_options(ssl.as_ptr(), LEGACY_SERVER_CONNECT.bits()) };
}
