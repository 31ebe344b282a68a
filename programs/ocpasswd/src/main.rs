//! `ocpasswd`: changes the password file of `ocserv`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(culvert_password_file::tool::run(std::env::args_os().skip(1)))
}
