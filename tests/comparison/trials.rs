//! The traffic: scans that are to be blocked, and packets that must not get anyone blocked.

use crate::network::{
    BYSTANDER, GATEWAY, Network, OPEN_PORT, SHELTERED, VICTIM, VICTIM_V6, outside, outside_v6, resolver, tool,
};
use glacis_tests::traffic::{Flood, Packet, Sources, flags};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What should become of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Right {
    Blocked,
    Spared,
}

/// One kind of traffic and the one source that it comes from, or pretends to come from.
pub struct Trial {
    pub name: &'static str,
    pub right: Right,
    pub source: IpAddr,
    send: fn(&Network, IpAddr),
}

impl Trial {
    pub fn send(&self, network: &Network) {
        (self.send)(network, self.source);
    }
}

/// A host with nothing before it, whose name a scanner uses beside its own.
const DECOY: IpAddr = outside(211);
/// How long a scan may take before it is cut off.
const SCAN_SECONDS_MAX: u32 = 40;
/// Above every peer's threshold, as the next.
const FORGED_PACKETS: u16 = 60;
/// A real host connects to so many ports at once.
pub const BURST_PORTS: u16 = 60;

fn scan(name: &'static str, source: IpAddr, send: fn(&Network, IpAddr)) -> Trial {
    Trial { name, right: Right::Blocked, source, send }
}

fn spare(name: &'static str, source: IpAddr, send: fn(&Network, IpAddr)) -> Trial {
    Trial { name, right: Right::Spared, source, send }
}

/// Scans by real tools, each from an address of its own.
pub fn scans() -> Vec<Trial> {
    vec![
        scan("`nmap -sS`", outside(11), |n, s| nmap(n, s, &["-sS", "-p", "1-60"])),
        scan("`nmap -sT`", outside(12), |n, s| nmap(n, s, &["-sT", "-p", "1-60"])),
        scan("`nmap -sF`", outside(13), |n, s| nmap(n, s, &["-sF", "-p", "1-60"])),
        scan("`nmap -sN`", outside(14), |n, s| nmap(n, s, &["-sN", "-p", "1-60"])),
        scan("`nmap -sX`", outside(15), |n, s| nmap(n, s, &["-sX", "-p", "1-60"])),
        scan("`nmap -sM`", outside(16), |n, s| nmap(n, s, &["-sM", "-p", "1-60"])),
        scan("`nmap -sA`", outside(17), |n, s| nmap(n, s, &["-sA", "-p", "1-60"])),
        scan("`nmap -sU`", outside(18), |n, s| nmap(n, s, &["-sU", "-p", "1-40"])),
        scan("`nmap -sY` (SCTP)", outside(19), |n, s| nmap(n, s, &["-sY", "-p", "1-40"])),
        scan("`nmap -6 -sS`", outside_v6(0), |n, s| nmap(n, s, &["-6", "-sS", "-p", "1-60"])),
        scan("`nmap -sS -f` (fragments)", outside(20), |n, s| nmap(n, s, &["-sS", "-f", "-p", "1-60"])),
        scan("`nmap -sS -D` (the real source)", outside(21), |n, s| {
            let decoys = format!("{DECOY},{},ME", SHELTERED[1]);
            // As frames: a raw socket would tell the connection tracker of the outside, which shelters a decoy there.
            nmap(n, s, &["-sS", "-p", "1-60", "--send-eth", "-D", &decoys]);
        }),
        scan("`masscan`", outside(22), |n, s| {
            let argv = ["masscan", "-p1-60", "--rate", "100", "--wait", "1", "--interface", "o0"];
            let ends = ["--adapter-ip", &s.to_string(), "--router-mac", &n.router_mac, &VICTIM.to_string()];
            tool(n, SCAN_SECONDS_MAX, &[&argv[..], &ends].concat());
        }),
        scan("`zmap`, one port of 24 addresses", outside(23), |n, s| {
            let argv = [
                "zmap",
                "-i",
                "o0",
                "-p",
                "23",
                "-r",
                "100",
                "-c",
                "1",
                "-b",
                "/dev/null",
                "-o",
                "/dev/null",
            ];
            let ends = ["-q", "-S", &s.to_string(), "-G", &n.router_mac, "198.18.0.0/26"];
            tool(n, SCAN_SECONDS_MAX, &[&argv[..], &ends].concat());
        }),
        scan("`hping3 -S`, 60 ports", outside(24), |n, s| {
            let argv = ["hping3", "-q", "-S", "-p", "++1", "-c", "60", "-i", "u20000", "-a"];
            tool(n, SCAN_SECONDS_MAX, &[&argv[..], &[&s.to_string(), &VICTIM.to_string()]].concat());
        }),
    ]
}

/// One port every six seconds, for more than two minutes.
pub fn slow_scan() -> Trial {
    scan("`nmap -sS`, a port every 6 s", outside(30), |n, s| {
        let delays = ["--scan-delay", "6s", "--max-scan-delay", "6s", "--max-retries", "0", "-p", "1-22"];
        let ends = ["-S", &s.to_string(), "-e", "o0", &VICTIM.to_string()];
        tool(n, 180, &[&["nmap", "-n", "-Pn", "-sS"], &delays[..], &ends].concat());
    })
}

/// A scan from an honest address while a flood of forged sources runs.
pub fn scan_in_flood() -> Trial {
    scan("`nmap -sS` in the middle of the flood", outside(31), |n, s| nmap(n, s, &["-sS", "-p", "1-60"]))
}

/// Packets that say nothing, or nothing true, about the source that they bear.
pub fn innocents() -> Vec<Trial> {
    vec![
        spare("forged: the gateway", GATEWAY, forged_syns),
        spare("forged: the resolver", resolver(), forged_syns),
        spare("forged: a client behind NAT or a stateful firewall", SHELTERED[0], forged_syns),
        spare("forged: a host with nothing before it", BYSTANDER, forged_syns),
        // Sent by the trial of the real source.
        spare("decoy of `nmap -D`: a client behind NAT", SHELTERED[1], |_, _| {}),
        spare("decoy of `nmap -D`: a host with nothing before it", DECOY, |_, _| {}),
        spare("300 connections to the open port", outside(203), |network, source| {
            for _ in 0..300 {
                network.answers(source, Duration::from_millis(400));
            }
        }),
        spare("40 SYN-ACKs that answer someone else's forgery", outside(204), |network, source| {
            for port in 0..40 {
                let (from, to) = (SocketAddr::new(source, 443), victim(20_000 + port));
                network.before_victim.send(&Packet::tcp(from, to, flags::SYN | flags::ACK).answering(9, 9));
            }
        }),
        spare("40 late answers of a DNS server", outside(205), |network, source| {
            for port in 0..40 {
                let (from, to) = (SocketAddr::new(source, 53), victim(30_000 + port));
                network.before_victim.send(&Packet::udp(from, to, &[0; 40]));
            }
        }),
    ]
}

fn forged_syns(network: &Network, source: IpAddr) {
    for port in 1..=FORGED_PACKETS {
        let from = SocketAddr::new(source, 40_000 + port);
        network.before_victim.send(&Packet::tcp(from, victim(port), flags::SYN));
    }
}

fn victim(port: u16) -> SocketAddr {
    assert_ne!(port, OPEN_PORT, "a trial scans closed ports");
    SocketAddr::new(VICTIM.into(), port)
}

fn nmap(network: &Network, source: IpAddr, words: &[&str]) {
    let target = if source.is_ipv4() { VICTIM.to_string() } else { VICTIM_V6.to_string() };
    let ends = ["-S", &source.to_string(), "-e", "o0", "--max-retries", "0", "-T4", &target];
    tool(network, SCAN_SECONDS_MAX, &[&["nmap", "-n", "-Pn"], words, &ends].concat());
}

/// 100,000 sources, each with two packets: nobody reaches a threshold that counts packets.
pub const FLOOD_SOURCES: u32 = 100_000;
pub const FLOOD_PACKETS: u64 = 200_000;

/// A flood of forged SYNs, fast enough to hide in and slow enough to be bounded in time on any machine.
pub fn flood() -> Flood {
    let first = IpAddr::from([100, 64, 0, 0]);
    Flood {
        packets_max: FLOOD_PACKETS,
        packets_per_second: Some(20_000),
        time_max: Duration::from_secs(30),
        ports: 1..=1000,
        ..Flood::syn(Sources::forged(first, FLOOD_SOURCES), VICTIM.into())
    }
}
