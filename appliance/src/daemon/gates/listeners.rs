//! Listening sockets of gates. They stay open here when the worker dies, so clients wait and are not refused.

use glacis_plan::GatePlan;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::thread::available_parallelism;

/// Connections that may wait in one socket; the kernel bounds it by `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;
/// Most threads of the worker.
const THREADS_MAX: usize = 8;

#[derive(Debug, thiserror::Error)]
#[error("gate {gate} cannot listen on TCP port {port}: {cause}; does another program have it?")]
pub(in crate::daemon) struct ListenError {
    gate: String,
    port: u16,
    cause: io::Error,
}

/// The sockets of each port: one for every thread of the worker, among which the kernel spreads connections.
pub(super) struct Listeners {
    threads: usize,
    by_port: BTreeMap<u16, Vec<OwnedFd>>,
}

impl Listeners {
    pub(super) fn new() -> Self {
        let threads = available_parallelism().map_or(1, |count| count.get().min(THREADS_MAX));
        Self { threads, by_port: BTreeMap::new() }
    }

    pub(super) const fn threads(&self) -> usize {
        self.threads
    }

    /// Opens what is missing and closes what no gate names. Ports that cannot be had are told; the others listen.
    pub(super) fn converge(&mut self, gates: &[GatePlan]) -> Vec<ListenError> {
        self.by_port.retain(|port, _| gates.iter().any(|gate| gate.port == *port));
        let mut errors = vec![];
        for gate in gates {
            if self.by_port.contains_key(&gate.port) {
                continue;
            }
            match (0..self.threads).map(|_| listen(gate.port)).collect::<io::Result<Vec<_>>>() {
                Ok(sockets) => {
                    self.by_port.insert(gate.port, sockets);
                }
                Err(cause) => errors.push(ListenError { gate: gate.name.clone(), port: gate.port, cause }),
            }
        }
        errors
    }

    pub(super) fn listens(&self, gate: &GatePlan) -> bool {
        self.by_port.contains_key(&gate.port)
    }

    /// Duplicates for the worker, in the order of the gates; each of them must listen.
    pub(super) fn duplicates(&self, gates: &[GatePlan]) -> io::Result<Vec<OwnedFd>> {
        let sockets = gates.iter().filter_map(|gate| self.by_port.get(&gate.port)).flatten();
        sockets.map(OwnedFd::try_clone).collect()
    }
}

/// On the wildcard addresses of both families.
fn listen(port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::INET6, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}
