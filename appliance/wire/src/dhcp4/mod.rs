//! A DHCPv4 client (RFC 2131) as a state machine.
//!
//! ```text
//!            Timer                Offer               Ack
//!  Waiting ---------> Selecting ---------> Requesting ------> Bound <---------------+
//!     ^                   ^                    |                | T1                | Ack
//!     |                   +--- no answer ------+                v                   |
//!     |                                                     Renewing ---T2---> Rebinding
//!     +------------ Nak (from any), expiry -----------------------------------------+
//!                                       Bound --LinkUp--> Rebooting --Ack, silence--> Bound
//! ```
//!
//! Three files share the work: `client` decides, `message` encodes and decodes, `lease` judges
//! what a server offers. Servers are not trusted: an option can only ever set what its type says,
//! within the bounds named in `lease`.
//!
//! Not done: probing an offered address by ARP and DECLINE (RFC 2131 section 4.4.1, a SHOULD),
//! options overloaded into `sname` and `file` (option 52), RELEASE (a firewall keeps its address).

mod client;
mod lease;
mod message;
#[cfg(test)]
mod tests;
mod timing;

pub use client::{Client, Destination, Input, Loss, OUTPUTS_MAX, Output, Rejection};
pub use lease::{DNS_SERVERS_MAX, Lease, LeaseError, LeaseRoute, ROUTES_MAX};
pub use message::{CLIENT_PORT, MESSAGE_BYTES_MAX, SERVER_PORT};
