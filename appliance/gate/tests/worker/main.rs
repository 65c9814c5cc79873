//! The worker as the core sees it: a feed, listening sockets, and a network with clients and backends.
//!
//! Each test has a network namespace of its own, so it needs root.

mod harness;
mod verdicts;
