//! Links, addresses and routes over rtnetlink, and kernel parameters.
//!
//! Reads what the kernel has ([`LinkHandle::observe`]), takes single steps towards what a plan asks
//! ([`LinkHandle::apply`]) and tells that something changed ([`LinkHandle::watch`]). What to change
//! is decided elsewhere. Every address and route made here carries [`RTPROT_GLACIS`]; nothing that
//! does not carry it is ever removed or replaced.

mod address;
mod apply;
mod device;
mod error;
mod observe;
mod route;
mod sysctl;
mod watch;

pub use error::LinksError;
pub use sysctl::{read_sysctl, write_sysctl};
pub use watch::{LinkEvent, LinkWatch, WATCHED_LINKS_MAX};

use glacis_plan::{LinkChange, ObservedLink};
use rtnetlink::Handle;

/// Our number as the originator of routes (`rtm_protocol`) and addresses (`IFA_PROTO`, which
/// Linux has since 5.18 and older kernels ignore; they would make every address look foreign).
///
/// Both are `u8` and free above the kernel's own few (`include/uapi/linux/rtnetlink.h`,
/// `include/uapi/linux/if_addr.h`); neither those headers nor iproute2's `rt_protos` give 71 (`G`)
/// to anyone.
pub const RTPROT_GLACIS: u8 = 71;

/// A connection to the kernel's routing tables in the network namespace it was opened in.
#[derive(Clone, Debug)]
pub struct LinkHandle {
    handle: Handle,
}

impl LinkHandle {
    /// Opens the connection; its task runs until the last clone is dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn new() -> Result<Self, LinksError> {
        let (connection, handle, _unsolicited) =
            rtnetlink::new_connection().map_err(|source| LinksError::Open { source })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Everything the kernel has, by interface index.
    ///
    /// Routes come without host bits, and with a metric of `None` where it is the kernel's default
    /// (0 for IPv4, 1024 for IPv6). Left out are routes that
    /// the kernel made itself, other tables than main, and link-local addresses that are not ours.
    pub async fn observe(&self) -> Result<Vec<ObservedLink>, LinksError> {
        observe::links(&self.handle).await
    }

    /// Takes one step; one that is already taken succeeds and changes nothing.
    pub async fn apply(&self, change: &LinkChange) -> Result<(), LinksError> {
        apply::apply(&self.handle, change).await
    }

    /// Follows changes made by anyone from now on.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn watch(&self) -> Result<LinkWatch, LinksError> {
        LinkWatch::open()
    }
}
