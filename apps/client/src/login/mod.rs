//! From nothing to a cookie.

mod browser;
mod driver;
mod forms;
mod host_scan;
mod loopback;
mod result;

pub(crate) use driver::{LoginFailure, log_in};
pub(crate) use forms::Answers;
pub(crate) use result::{TwoPhase, cookie_line};
