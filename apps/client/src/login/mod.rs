//! From nothing to a cookie.

pub mod forms;
