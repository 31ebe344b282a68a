//! Server side, up to and including the answer to CONNECT. [`FrontEnd`] turns the requests of
//! one connection into [`Action`]s; who may log in is decided elsewhere.

mod agent;
mod body;
mod config;
mod connect_request;
mod connect_response;
mod front_end;
mod http_auth;
mod pages;
mod router;

pub use agent::{ClientClass, ClientInfo};
pub use config::{FrontEndConfig, GroupOption, Profile};
pub use connect_request::{ConnectRequest, DtlsMode, DtlsRules};
pub use connect_response::{
    ConnectRefusal, DtlsGrant, TunnelGrant, advertised_rekey, connect_refusal, connect_response,
};
pub use front_end::{Action, FrontEnd};
