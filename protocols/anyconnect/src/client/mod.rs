//! Client side: [`Login`] ends in a [`Cookie`]; [`ConnectOptions`] make the request that turns
//! the cookie into a tunnel, and [`parse_connect_response`] reads what it is like.

mod browser_token;
mod connect;
mod cookie;
mod document;
mod host_scan;
mod login;
mod login_form;
mod login_steps;
mod platform;
mod profile;
mod request;
mod routes;
mod second_certificate;
mod strap;
mod tunnel;

pub use connect::{ConnectOptions, DtlsRequest};
pub use cookie::{Cookie, CookieError};
pub use login::Login;
pub use login_form::FormProblem;
pub use login_steps::{HostScanRule, LoginConfig, LoginError};
pub use platform::Platform;
pub use profile::ProfileHash;
pub use second_certificate::{SecondCertificate, SecondProof, SignatureHash};
pub use strap::{StrapError, StrapKey, StrapKeys, StrapProof};
pub use tunnel::{ConnectError, Connected, DtlsMode, DtlsOffer, parse_connect_response};
