//! From nothing to a cookie.

mod driver;
mod forms;
mod result;

pub(crate) use driver::{LoginFailure, log_in};
pub(crate) use forms::Answers;
pub(crate) use result::{TwoPhase, cookie_line};
