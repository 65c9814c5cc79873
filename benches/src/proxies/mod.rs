//! TCP proxies side by side: clients, a proxy and a server, each in a network namespace, joined by veths.

mod compare;
pub(crate) mod load;
mod own;
mod peers;
pub(crate) mod processes;

pub(crate) use compare::{Load, compare, idle_kibibytes};
pub(crate) use peers::{Peer, Running};

use crate::Outcome;
use glacis_tests::netns::Namespace;
use processes::Process;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// First argument of a bench binary that is to be the server: then where it listens.
const SERVER_ARGUMENT: &str = "proxies-server";
/// First argument of a bench binary that is to be a proxy on the relay crate: then where it listens, and the server.
const OWN_ARGUMENT: &str = "proxies-own";

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The proxy's, towards clients.
pub(crate) const FRONT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The proxy's, towards the server.
const BACK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 9000);
/// Idle connections of which memory is measured.
const IDLE_CONNECTIONS: usize = 10_000;
/// Descriptors of a proxy beside two for each connection.
const SPARE_DESCRIPTORS: usize = 1_000;
const READY_WITHIN: Duration = Duration::from_secs(10);

/// What a bench binary with these arguments is to be for another one. `None`: itself.
pub(crate) fn child(arguments: &[String]) -> Option<Outcome<()>> {
    let address = |index: usize| -> Outcome<SocketAddr> {
        Ok(arguments.get(index).ok_or("an address is missing")?.parse()?)
    };
    match arguments.first()?.as_str() {
        SERVER_ARGUMENT => Some(address(1).and_then(|at| Ok(load::serve(at)?))),
        OWN_ARGUMENT => Some(address(1).and_then(|at| Ok(own::run(at, address(2)?)?))),
        _ => None,
    }
}

/// Clients, proxies and a server that runs.
pub(crate) struct Road {
    pub(crate) clients: Namespace,
    pub(crate) proxy: Namespace,
    /// How many a proxy can have, by the descriptors that it is allowed.
    pub(crate) connections: usize,
    _server: Process,
    servers: Namespace,
}

impl Road {
    /// `c0` leads from the clients to the proxy's `g0`, `g1` from there to the server's `s0`. Clients have a route to the
    /// server, too.
    pub(crate) fn new() -> Outcome<Self> {
        let connections = raise_open_files()?;
        let (clients, proxy, servers) =
            (Namespace::new("clients"), Namespace::new("proxy"), Namespace::new("server"));
        clients.veth("c0", &proxy, "g0");
        proxy.veth("g1", &servers, "s0");
        clients.address("c0", &format!("{CLIENT}/24"));
        proxy.address("g0", &format!("{FRONT}/24"));
        proxy.address("g1", &format!("{BACK}/24"));
        servers.address("s0", &format!("{}/24", SERVER.ip()));
        clients.run(["ip", "route", "add", "default", "via", &FRONT.to_string()]);
        servers.run(["ip", "route", "add", "default", "via", &BACK.to_string()]);
        for namespace in [&clients, &proxy, &servers] {
            // Thousands of connections a second between two addresses must not run out of ports.
            namespace.run(["sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=1024 65535"]);
            namespace.run(["sysctl", "-q", "-w", "net.ipv4.tcp_tw_reuse=1"]);
            namespace.run(["sysctl", "-q", "-w", "net.core.somaxconn=4096"]);
            namespace.run(["sysctl", "-q", "-w", "net.ipv4.tcp_syncookies=0"]);
            namespace.run(["sysctl", "-q", "-w", "net.ipv4.tcp_max_syn_backlog=4096"]);
        }
        proxy.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
        // Connections of half a minute must fit the table of a router that follows them.
        proxy.run(["sysctl", "-q", "-w", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=5"]);
        let server = Process::start(this_in(&servers)?.args([SERVER_ARGUMENT, &SERVER.to_string()]))?;
        Ok(Self { clients, proxy, connections, _server: server, servers })
    }

    /// Ends the connections that the server keeps idle, past the proxy, which may have no room for one more.
    pub(crate) fn forget_idle(&self) -> Outcome<()> {
        Ok(self.servers.enter(|| load::forget_idle(SERVER))?)
    }

    /// Waits until a client's exchange with the server by way of this address comes about.
    pub(crate) fn wait_for(&self, what: &str, target: SocketAddr) -> Outcome<()> {
        let start = Instant::now();
        while !self.clients.enter(|| load::is_reached(target)) {
            if start.elapsed() > READY_WITHIN {
                return Err(format!("{what} leads nobody to the server").into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Allows this process and its children as many descriptors as [`IDLE_CONNECTIONS`] take in a proxy, or as many as can
/// be had; tells how many connections that makes.
fn raise_open_files() -> Outcome<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = (2 * IDLE_CONNECTIONS + SPARE_DESCRIPTORS) as u64;
    if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: Some(wanted) }).is_ok() {
        return Ok(IDLE_CONNECTIONS);
    }
    let maximum = getrlimit(Resource::Nofile).maximum.unwrap_or(wanted);
    setrlimit(Resource::Nofile, Rlimit { current: Some(maximum), maximum: Some(maximum) })?;
    Ok((maximum as usize).saturating_sub(SPARE_DESCRIPTORS) / 2)
}

/// This binary, in a namespace.
fn this_in(namespace: &Namespace) -> Outcome<Command> {
    Ok(namespace.command([std::env::current_exe()?]))
}
