//! `kkdcp`: proxies to Kerberos KDCs (`specs/server-config.md` §8.1).

use serde::{Deserialize, Serialize};

/// One `kkdcp` line, `PATH REALM PROTO@HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kkdcp {
    /// URL path that clients post to.
    pub path: String,
    /// Kerberos realm.
    pub realm: String,
    /// How the KDC is reached.
    pub transport: Transport,
    /// Name or address of the KDC, without brackets.
    pub host: String,
    /// Port of the KDC.
    pub port: u16,
}

/// Transport to a KDC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}
