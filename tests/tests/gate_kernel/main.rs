//! Gates in a kernel: real packets against the compiled ruleset and the steps that fill it.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

mod leading;
mod leaving;
mod reloading;
mod scene;
mod worker;
