//! The Glacis binary.
fn main() {}
