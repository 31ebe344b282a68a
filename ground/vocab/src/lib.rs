//! The one vocabulary that every layer above the ground shares: secrets, names, session
//! identifiers, login forms and the configuration of a tunnel.
//!
//! Client protocols produce a [`TunnelConfig`], server protocols serialise it, `netcfg` applies
//! it and scripts get it as environment. Values are validated when they are built
//! (parse, don't validate), so no later layer checks them again.

#![forbid(unsafe_code)]

mod form;
mod name;
mod scheme;
mod secret;
mod session;
mod tunnel;

pub use form::{Choice, Field, FieldKind, Form, TokenKind};
pub use name::{GROUPS_MAX, GroupName, NameError, UserName};
pub use scheme::HttpScheme;
pub use secret::{SecretBytes, SecretString};
pub use session::{SafeId, SessionId, SessionIdError};
pub use tunnel::{
    AddressV4, AddressV6, MTU_MAX, MTU_MIN, MTU_MIN_IPV6, Mtu, MtuError, RekeyMethod, Timers, TunnelConfig,
};
