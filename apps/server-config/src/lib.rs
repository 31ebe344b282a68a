//! The configuration file of `ocserv`: its grammar, the one table of options, and the typed
//! configuration (`specs/server-config.md` §6-9).

#![forbid(unsafe_code)]

mod auth;
mod config;
mod file;
mod global;
mod grammar;
mod host;
mod kkdcp;
mod load;
mod note;
mod ports;
mod raw;
mod reader;
mod report;
mod route;
mod session;
pub mod table;
mod user_config;

pub use auth::{AccountingMethod, AuthConfig, AuthMethod, CertificateRequest, GroupSeparator, Radius};
pub use config::{
    BanPolicy, CertRebind, Compression, Config, Global, Host, NetPriority, Protocol, RekeyMethod, Routes,
    SelectGroup, SessionSettings, SyslogFacility, UsernameCase,
};
pub use culvert_priorities::TlsPriorities;
pub use kkdcp::{Kkdcp, Transport};
pub use note::{ConfigError, Note};
pub use ports::{PortItem, PortProtocol, PortRestriction};
pub use route::route_text;
pub use user_config::{ExposedRoute, UserConfigError};
