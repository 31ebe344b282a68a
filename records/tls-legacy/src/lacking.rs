//! Functions of OpenSSL that the crate `openssl` has no safe face for.

use std::ffi::c_int;

use foreign_types::ForeignTypeRef;
use openssl::nid::Nid;
use openssl::ssl::{SslOptions, SslRef};
use openssl_sys::{SSL, SSL_ctrl};

/// SSL_OP_LEGACY_SERVER_CONNECT: servers that do not know of secure renegotiation (RFC 5746) may be
/// talked to, and may renegotiate.
pub(crate) const LEGACY_SERVER_CONNECT: SslOptions = SslOptions::from_bits_retain(1 << 2);

/// SSL_CTRL_GET_PEER_SIGNATURE_NID.
const GET_PEER_SIGNATURE_NID: c_int = 108;

unsafe extern "C" {
    fn SSL_clear_options(ssl: *mut SSL, options: u64) -> u64;
    fn SSL_get_peer_signature_type_nid(ssl: *const SSL, nid: *mut c_int) -> c_int;
}

/// From now on a server without secure renegotiation cannot renegotiate: that ends the connection.
pub(crate) fn forbid_insecure_renegotiation(ssl: &SslRef) {
    // SAFETY: the object is alive, and nobody else has it.
    unsafe { SSL_clear_options(ssl.as_ptr(), LEGACY_SERVER_CONNECT.bits()) };
}

/// Kind of key and hash of the server's signature, if it made one.
pub(crate) fn peer_signature(ssl: &SslRef) -> Option<(Nid, Nid)> {
    let (mut kind, mut hash) = (0, 0);
    let place: *mut c_int = &raw mut hash;
    // SAFETY: the object is alive, and the functions write a number each.
    let known = unsafe {
        SSL_get_peer_signature_type_nid(ssl.as_ptr(), &raw mut kind) == 1
            && SSL_ctrl(ssl.as_ptr(), GET_PEER_SIGNATURE_NID, 0, place.cast()) == 1
    };
    known.then(|| (Nid::from_raw(kind), Nid::from_raw(hash)))
}
