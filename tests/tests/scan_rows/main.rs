//! Scan awareness end to end: the daemon in one namespace, real scanners in another, a row of the acceptance list each.

mod bans;
mod detection;
mod evidence;
mod scene;
mod shapes;
