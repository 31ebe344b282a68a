//! What this program calls itself.

/// Version of the reference whose behaviour this program has, as servers and front ends see it.
pub const PROGRAM_VERSION: &str = "v9.21";
/// The TLS implementation, for `--version`.
pub const TLS_LIBRARY: &str = "rustls 0.23 with aws-lc-rs";

/// The default `User-Agent` (`specs/client.md` §10.1).
pub fn user_agent() -> String {
    format!("AnyConnect-compatible OpenConnect VPN Agent {PROGRAM_VERSION}")
}
