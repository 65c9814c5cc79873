//! Harness for tests that drive the real thing: network namespaces, real peers, real boots.
//!
//! A test that needs root and has none fails with the reason; it never skips.

pub mod bin;
pub mod daemon;
pub mod netns;
pub mod status_worker;
pub mod traffic;
pub mod vm;
