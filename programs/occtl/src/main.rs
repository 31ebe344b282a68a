//! occtl
fn main() {}
