//! Server side: [`FrontEnd`] turns the requests of one connection into [`Action`]s; who may log in
//! is decided elsewhere. Portal and gateway are the same server.

mod config_answer;
mod front_end;
mod hip;
mod pages;
mod request;

pub use config_answer::{Grant, config_answer, config_refusal};
pub use front_end::{Action, FrontEnd, FrontEndConfig};
pub use pages::{logged_out, start_tunnel, tunnel_refusal};
pub use request::{ClientInfo, ConfigRequest};

use crate::wire::path;

/// True for the URLs of this protocol: one listener can serve others beside it.
pub fn is_target(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let path = path.trim_start_matches('/');
    path.starts_with("global-protect/") || path.starts_with("ssl-vpn/") || path == path::TUNNEL
}
