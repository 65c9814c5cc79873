//! The proxies: ours and others', as their packages come.

use super::processes::{Process, ProcessorTime, own_kibibytes};
use super::{FRONT, OWN_ARGUMENT, Road, SERVER, this_in};
use crate::Outcome;
use std::fs;
use std::net::SocketAddr;
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The relay crate and nothing else.
    Own,
    Haproxy,
    Nginx,
    /// The kernel alone, by a rule for each direction and no other.
    Dnat,
    /// No proxy: the way is routed.
    Direct,
}

/// Between clients and the server.
pub(crate) struct Running<'a> {
    pub(crate) name: &'static str,
    pub(crate) road: &'a Road,
    /// Where clients find the server by way of it.
    pub(crate) target: SocketAddr,
    /// None when it is the kernel's work.
    pids: Vec<u32>,
    _process: Option<(Process, TempDir)>,
}

impl Peer {
    const fn name(self) -> &'static str {
        match self {
            Self::Own => "ours",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx stream",
            Self::Dnat => "plain DNAT",
            Self::Direct => "direct",
        }
    }

    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Own => 7001,
            Self::Haproxy => 7002,
            Self::Nginx => 7003,
            Self::Dnat => 7006,
            Self::Direct => SERVER.port(),
        }
    }

    pub(crate) fn start(self, road: &Road) -> Outcome<Running<'_>> {
        let target = if self == Self::Direct { SERVER } else { SocketAddr::new(FRONT.into(), self.port()) };
        let folder = TempDir::new()?;
        let file = folder.path().join("configuration").display().to_string();
        let mut command = match self {
            Self::Direct => None,
            Self::Dnat => {
                road.proxy.run(["nft", &dnat(target)]);
                None
            }
            Self::Own => {
                let mut command = this_in(&road.proxy)?;
                command.args([OWN_ARGUMENT, &target.to_string(), &SERVER.to_string()]);
                Some(command)
            }
            Self::Haproxy => {
                fs::write(&file, haproxy(target, road.connections))?;
                Some(road.proxy.command(["haproxy", "-db", "-q", "-f", &file]))
            }
            Self::Nginx => {
                fs::write(
                    &file,
                    nginx(target, &folder.path().join("pid").display().to_string(), road.connections),
                )?;
                Some(road.proxy.command(["nginx", "-c", &file]))
            }
        };
        let process = command.as_mut().map(Process::start).transpose()?;
        road.wait_for(self.name(), target)?;
        let pids = process.as_ref().map(Process::family).unwrap_or_default();
        Ok(Running {
            pids,
            _process: process.map(|process| (process, folder)),
            ..Running::by(self.name(), road, target)
        })
    }
}

impl<'a> Running<'a> {
    /// What somebody else started, and waits for.
    pub(crate) const fn by(name: &'static str, road: &'a Road, target: SocketAddr) -> Self {
        Self { name, road, target, pids: Vec::new(), _process: None }
    }

    pub(crate) fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Of a process that somebody else started.
    pub(crate) fn of(self, pid: u32) -> Self {
        Self { pids: vec![pid], ..self }
    }

    pub(crate) fn own_kibibytes(&self) -> Outcome<f64> {
        own_kibibytes(&self.pids)
    }

    pub(crate) fn processor_time(&self) -> ProcessorTime<'_> {
        ProcessorTime(&self.pids)
    }
}

fn dnat(at: SocketAddr) -> String {
    format!(
        "table ip plain {{
            chain to_server {{
                type nat hook prerouting priority dstnat
                ip daddr {} tcp dport {} dnat to {SERVER}
            }}
            chain from_server {{
                type nat hook postrouting priority srcnat
                oifname \"g1\" masquerade
            }}
        }}",
        at.ip(),
        at.port()
    )
}

/// Its defaults, but for room for ten thousand connections: a thread per processor, no splicing.
fn haproxy(at: SocketAddr, connections: usize) -> String {
    format!(
        "global
    maxconn {connections}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen relay
    bind {at}
    server only {SERVER}
"
    )
}

fn nginx(at: SocketAddr, pid: &str, connections: usize) -> String {
    let descriptors = 2 * connections;
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid {pid};
error_log stderr crit;
worker_processes auto;
events {{ worker_connections {descriptors}; }}
stream {{ server {{ listen {at} backlog=4096; proxy_pass {SERVER}; proxy_timeout 1h; }} }}
"
    )
}
