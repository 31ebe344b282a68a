//! Constants of the key exchange between the TLS channel and what hangs on it
//! (`specs/cstp-dtls.md` §2.3, §9.1).

/// Label of the TLS exporter that gives the pre-shared key of the DTLS channel; no context.
pub const PSK_EXPORTER_LABEL: &str = "EXPORTER-openconnect-psk";
/// Length of that key, in octets.
pub const PSK_LEN: usize = 32;
