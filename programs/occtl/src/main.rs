//! `occtl`: controls a running `ocserv`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(culvert_control::occtl::run(std::env::args_os().skip(1)))
}
