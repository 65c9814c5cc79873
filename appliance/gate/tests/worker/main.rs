//! The worker as the core sees it: a feed, listening sockets, and a network with clients and backends.
//!
//! Each test has a network namespace of its own, so it needs root.

mod backends;
mod bans;
mod bounds;
mod clients;
mod fronts;
mod harness;
mod proxies;
mod reconfigure;
mod tls;
mod verdicts;
