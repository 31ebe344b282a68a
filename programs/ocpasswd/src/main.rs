//! ocpasswd
fn main() {}
