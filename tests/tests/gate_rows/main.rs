//! Reverse-scan gates end to end: the daemon between clients and backends, each in a namespace of its own; a row of the
//! acceptance list each, then what a gate makes of bad input and of load.

mod ask;
mod backend;
mod crowd;
mod descriptors;
mod fast_path;
mod flight;
mod fronts;
mod judging;
mod load;
mod memory;
mod programs;
mod protocols;
mod proxies;
mod refusing;
mod scene;
mod spared;
mod switch;
mod telling;
mod tls;
