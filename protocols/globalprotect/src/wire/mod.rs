//! Formats that both sides write and read.

mod gpst;
mod ipsec;
mod parameters;

pub use gpst::{FRAME_HEADER_LEN, FRAME_PAYLOAD_MAX, frame_header, parse_frame_header};
pub use ipsec::{EspParameters, encryption_name, integrity_name, parse_encryption, parse_integrity};
pub use parameters::Parameters;

/// What begins the TLS tunnel: the answer to the tunnel's GET, without line end
/// (`specs/globalprotect.md` §11).
pub const START_TUNNEL: &[u8] = b"START_TUNNEL";

/// Client version that all sides speak of.
pub const CLIENT_VERSION: &str = "4100";

/// Paths of a gateway and a portal (`specs/globalprotect.md` §17.1).
pub mod path {
    /// Prelogin of a portal.
    pub const PORTAL_PRELOGIN: &str = "global-protect/prelogin.esp";
    /// Prelogin of a gateway.
    pub const GATEWAY_PRELOGIN: &str = "ssl-vpn/prelogin.esp";
    /// Login at a portal, answered with its configuration.
    pub const PORTAL_LOGIN: &str = "global-protect/getconfig.esp";
    /// Login at a gateway.
    pub const GATEWAY_LOGIN: &str = "ssl-vpn/login.esp";
    /// The tunnel's configuration.
    pub const CONFIG: &str = "ssl-vpn/getconfig.esp";
    /// Is a report about the host wanted?
    pub const HIP_CHECK: &str = "ssl-vpn/hipreportcheck.esp";
    /// The report.
    pub const HIP_REPORT: &str = "ssl-vpn/hipreport.esp";
    /// End of the session.
    pub const LOGOUT: &str = "ssl-vpn/logout.esp";
    /// The TLS tunnel.
    pub const TUNNEL: &str = "ssl-tunnel-connect.sslvpn";
}
