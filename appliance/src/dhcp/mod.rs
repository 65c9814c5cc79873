//! Asking for a lease on one interface: the I/O around [`glacis_wire::dhcp4::Client`].
//!
//! This runs in the core and so parses bytes from a network as root, against the rule that parsers
//! live in workers. The boundary is drawn so that it can move: [`Shell`] needs no privilege, only
//! an opened [`DhcpSocket`] (which can be made from a passed descriptor) and word of carrier
//! changes, and all it ever gives back is [`DhcpEvent`]s, whose leases hold only checked values.

mod shell;

use glacis_netlink::dhcp_socket::DhcpSocket;
use glacis_netlink::links::{LinkHandle, LinksError};
use glacis_plan::Mac;
use glacis_wire::dhcp4::Lease;
use shell::Shell;
use std::io;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What a client learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhcpEvent {
    /// Use this lease in place of any earlier one; comes again with every renewal.
    Bound { device: String, lease: Lease },
    /// Stop using the lease; the client goes on asking for another.
    Lost { device: String },
}

/// Why no client runs on an interface.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    #[error(
        "{device}: cannot open a packet socket: {source}; run with CAP_NET_RAW, on an interface that is there"
    )]
    Socket { device: String, source: io::Error },
    #[error("{device}: cannot follow its carrier: {source}")]
    Carrier { device: String, source: LinksError },
}

/// Runs a client until the task is aborted, the receiver is dropped or the interface goes away.
///
/// An event waits while the queue is full; the client waits with it, as nothing it could learn
/// meanwhile would be used.
///
/// # Panics
/// Outside a tokio runtime with I/O and time enabled.
pub fn spawn(
    device: &str,
    index: u32,
    mac: Mac,
    events: mpsc::Sender<DhcpEvent>,
) -> Result<JoinHandle<()>, DhcpError> {
    let device = device.to_owned();
    let socket =
        DhcpSocket::open(index).map_err(|source| DhcpError::Socket { device: device.clone(), source })?;
    let carrier = LinkHandle::new()
        .and_then(|links| links.watch())
        .map_err(|source| DhcpError::Carrier { device: device.clone(), source })?;
    let shell = Shell::new(device, index, mac, socket, events);
    Ok(tokio::spawn(shell.run(carrier)))
}
