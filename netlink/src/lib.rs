//! The kernel's network state over netlink: rulesets by nf_tables, links, addresses and routes by rtnetlink.
//!
//! Carries out what a plan says and reads back what is there; decides nothing.

pub mod dhcp_socket;
pub mod links;
pub mod nft;
