//! openconnect
fn main() {}
