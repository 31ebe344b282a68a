//! Client side: [`Login`] ends in a [`Cookie`]; [`Gateway`] makes the requests that need only the
//! cookie, and the functions beside it read the answers.

mod answer;
mod challenge;
mod config;
mod cookie;
mod gateway;
mod hip;
mod login;
mod login_answer;
mod place;
mod portal;
mod prelogin;
mod questions;
mod request;
mod sign_in;

pub use answer::Refusal;
pub use config::{ConfigError, EspOffer, Granted, parse_config};
pub use cookie::{Cookie, CookieError};
pub use gateway::Gateway;
pub use hip::{HipAnswer, HostReport, NetworkInterface, parse_hip_check, parse_success};
pub use login::{Login, LoginConfig, LoginError};
pub use portal::{GatewayEntry, Portal};
pub use request::{Client, ClientOs};
