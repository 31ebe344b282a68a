//! The system log, through libc.

use std::ffi::CString;

/// Priorities.
pub use libc::{LOG_ALERT, LOG_CRIT, LOG_DEBUG, LOG_EMERG, LOG_ERR, LOG_INFO, LOG_NOTICE, LOG_WARNING};
/// Facilities that the configuration can name.
pub use libc::{
    LOG_AUTH, LOG_AUTHPRIV, LOG_DAEMON, LOG_LOCAL0, LOG_LOCAL1, LOG_LOCAL2, LOG_LOCAL3, LOG_LOCAL4,
    LOG_LOCAL5, LOG_LOCAL6, LOG_LOCAL7, LOG_USER,
};

/// Names this program in the log. The pid is written with every line.
pub fn open(ident: &str, facility: i32) {
    // libc keeps the pointer, so the name is leaked on purpose (once per process).
    let ident = Box::leak(without_nul(ident).into_boxed_c_str());
    // SAFETY: `ident` lives for ever and ends with NUL.
    unsafe { libc::openlog(ident.as_ptr(), libc::LOG_PID | libc::LOG_NDELAY, facility) }
}

/// Writes one line.
pub fn log(priority: i32, line: &str) {
    let line = without_nul(line);
    // SAFETY: the format takes exactly one C string, and `line` is one.
    unsafe { libc::syslog(priority, c"%s".as_ptr(), line.as_ptr()) }
}

fn without_nul(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}
