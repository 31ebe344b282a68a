//! `ocserv`, the server. It executes itself as broker (`ocserv-sm`) and as zygote of the workers
//! (`ocserv-worker`).

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    culvert_server::run(std::env::args_os())
}
