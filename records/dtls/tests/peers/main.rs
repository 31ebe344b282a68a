//! Against real peers on the loopback interface: OpenSSL and GnuTLS.

mod gnutls;
mod openssl;
mod support;
