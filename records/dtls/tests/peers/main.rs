//! Against real peers on the loopback interface: OpenSSL and GnuTLS.

#![allow(clippy::unwrap_used)] // Helpers outside of `#[test]` functions too.

mod gnutls;
mod openssl;
mod support;
