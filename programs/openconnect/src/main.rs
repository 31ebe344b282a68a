//! `openconnect`: the client of the suite.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    // The process that restores the host's network is this program, started again.
    if let Some(code) = culvert_netcfg::guard::run_if_asked() {
        return code;
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(culvert_client::run(&arguments))
}
