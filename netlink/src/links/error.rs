//! What went wrong with an interface, and what to do about it.

use std::io;

/// A step on interfaces, addresses, routes or parameters that failed.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    #[error(
        "cannot open a route netlink socket: {source}; the kernel lacks netlink or is out of descriptors"
    )]
    Open { source: io::Error },

    #[error("cannot list {table}: {source}; try again, the kernel may have been busy")]
    List { table: &'static str, source: io::Error },

    #[error(
        "no interface is called {device}; plug it in, or correct its name, MAC or PCI address in the policy"
    )]
    NoDevice { device: String },

    #[error("{device}: cannot {step}: {source}; {advice}")]
    Step { device: String, step: String, source: io::Error, advice: &'static str },

    #[error("{device}: cannot {step}: the device takes {min} to {max}; choose an MTU within")]
    Mtu { device: String, step: String, min: u32, max: u32 },

    #[error(
        "{device}: cannot {step}: {standing} stands in its place and is not ours; \
         remove it, or change the policy"
    )]
    Foreign { device: String, step: String, standing: String },

    #[error("{path:?} is not a kernel parameter that a policy may name: {reason}")]
    SysctlPath { path: String, reason: &'static str },

    #[error("{path}: {value:?} is not a value for a kernel parameter: {reason}")]
    SysctlValue { path: String, value: String, reason: &'static str },

    #[error(
        "/proc/sys/{path}: cannot {step}: {source}; see that the kernel has this parameter and takes the value"
    )]
    Sysctl { path: String, step: &'static str, source: io::Error },
}

impl LinksError {
    pub(super) fn step(device: &str, step: &str, error: rtnetlink::Error) -> Self {
        let source = into_io(error);
        let advice = advice(source.raw_os_error());
        Self::Step { device: device.to_owned(), step: step.to_owned(), source, advice }
    }

    pub(super) fn list(table: &'static str, error: rtnetlink::Error) -> Self {
        Self::List { table, source: into_io(error) }
    }
}

/// The kernel's errno where there is one.
fn into_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

pub(super) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().raw_os_error(),
        _ => None,
    }
}

fn advice(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EPERM) => "run as root or with CAP_NET_ADMIN",
        Some(libc::EACCES) => {
            "IPv6 is switched off here (net/ipv6/conf/*/disable_ipv6), or the MTU is below 1280"
        }
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => {
            "the gateway is not reachable by an address or on-link route of this interface; add one"
        }
        Some(libc::ENETDOWN) => "the interface is down; bring it up first",
        Some(libc::ENODEV) => "the interface went away; plug it in again",
        Some(libc::ENOBUFS | libc::ENOMEM) => "the kernel is out of memory; free some and reload",
        Some(libc::EINVAL) => {
            "the kernel calls it invalid; compare it with the interface's kind and addresses"
        }
        _ => "see the kernel log",
    }
}
