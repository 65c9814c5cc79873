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
    /// No proxy: the way is routed.
    Direct,
}

/// A proxy at work.
pub(crate) struct Running {
    pub(crate) name: &'static str,
    /// Where clients find the server by way of it.
    pub(crate) target: SocketAddr,
    process: Option<Process>,
    _folder: TempDir,
}

impl Peer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Own => "ours",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx stream",
            Self::Direct => "direct",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Own => 7001,
            Self::Haproxy => 7002,
            Self::Nginx => 7003,
            Self::Direct => SERVER.port(),
        }
    }

    pub(crate) fn start(self, road: &Road) -> Outcome<Running> {
        let folder = TempDir::new()?;
        let target = if self == Self::Direct { SERVER } else { SocketAddr::new(FRONT.into(), self.port()) };
        let file = folder.path().join("configuration").display().to_string();
        let mut command = match self {
            Self::Direct => None,
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
        let running = Running { name: self.name(), target, process, _folder: folder };
        road.wait_for(running.name, target)?;
        Ok(running)
    }
}

impl Running {
    fn pids(&self) -> Vec<u32> {
        self.process.as_ref().map(Process::family).unwrap_or_default()
    }

    pub(crate) fn own_kibibytes(&self) -> Outcome<f64> {
        own_kibibytes(&self.pids())
    }

    pub(crate) fn processor_time(&self) -> ProcessorTime {
        ProcessorTime(self.pids())
    }
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
