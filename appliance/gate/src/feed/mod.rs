//! What the core and the gate worker say to each other, and how: JSON behind a length on a stream socket, as
//! [`glacis_control::frame`] has it, with descriptors beside the first byte of a message.

mod transport;

pub use transport::{FeedError, FeedReader, FeedWriter, MESSAGE_DESCRIPTORS_MAX};

use glacis_control::UnixMillis;
use glacis_control::gate::{ClientRecord, Finding, GateStatus, GateTest, Verdict};
use glacis_plan::GatePlan;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Most bans in one message; more are handed over in several.
pub const BANS_PER_MESSAGE: usize = 65_536;

/// Told by the core. The first message is [`ToWorker::Configure`], at once followed by the whole book; or the book comes
/// first, and then no client that is known is looked at anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "kebab-case")]
pub enum ToWorker {
    /// From now on these gates, in place of those before. Connections that are relayed go on. Beside it travel the
    /// listening sockets: `threads` for each gate, in the order of the gates, then the country database if `countries`.
    Configure {
        gates: Vec<GatePlan>,
        /// Threads of the worker; the same in every message to one worker.
        threads: usize,
        /// Addresses of this host, never looked at.
        own: Vec<IpNet>,
        countries: bool,
    },
    /// Known of clients, by other gates' looks, before this worker began or from another appliance.
    Learn { records: Vec<ClientRecord> },
    /// Forget the clients in these networks.
    Forget { within: Vec<IpNet> },
    /// Whom the kernel keeps out from now on (`added`, with the time since when), and whom no more. Their packets, and the
    /// answers to ours, are dropped, so that a look at them would see silence: they are refused without one, also where
    /// a front names them, and what was seen of them since is doubted.
    Bans { added: Vec<(IpNet, UnixMillis)>, lifted: Vec<IpNet> },
    /// Look at a client as the gate would, whatever is known; nothing is to be remembered of it.
    Test { id: u64, gate: String, client: IpAddr },
}

/// Told by the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "kebab-case")]
pub enum FromWorker {
    /// The gates of one more [`ToWorker::Configure`] are served. The first one also says that the sandbox is closed.
    Ready,
    /// A gate looked at a client. `findings` are those of this look; what was known of other ports stays.
    Judged { gate: String, client: IpAddr, findings: Vec<Finding>, verdict: Verdict },
    /// A backend was taken out of service (`down` says why) or in again. Until this is said first, it is in.
    Backend { gate: String, address: SocketAddr, down: Option<String> },
    /// Once a second. Counters began with this worker.
    Status { gates: Vec<GateStatus> },
    /// `Err`: why no look could be taken.
    Tested { id: u64, result: Result<GateTest, String> },
}
