//! ocserv
fn main() {}
