//! The TC ingress program: drops what banned sources send and counts what anybody sends to closed ports.
//!
//! One verdict per packet, in this order: banned source, not for this host, not a probe, port in use,
//! routed onwards, counted. It never accepts a packet for others to see: what it does not drop goes on to
//! whatever is attached after it.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod atomic;
mod bans;
mod clock;
mod counters;
mod extensions;
mod packet;
mod ports;
mod probes;
mod routes;
mod settings;
mod sockets;

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use glacis_abi::{Counter, DROP, NEXT, ProbeKey, Protocol, Settings};
use packet::{Malformed, Network, Packet, Ports, TcpStart};

const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

#[classifier]
pub fn glacis_ingress(context: TcContext) -> i32 {
    counters::add(Counter::Packets);
    let packet = Packet::new(context.as_ptr().cast());
    match inspect(&packet) {
        Ok(verdict) => verdict,
        Err(Malformed) => {
            counters::add(Counter::Malformed);
            NEXT
        }
    }
}

#[inline(always)]
fn inspect(packet: &Packet) -> Result<i32, Malformed> {
    let Some(network) = packet.network()? else {
        return Ok(NEXT);
    };
    let flags = settings::flags();
    if bans::drops(&network.source(), flags) {
        return Ok(DROP);
    }
    if flags & Settings::COUNT_PROBES != 0 && packet.is_for_this_host() {
        count(packet, &network)?;
    }
    Ok(NEXT)
}

/// Counts the packet if it asks for something at a port where nothing answers.
#[inline(always)]
fn count(packet: &Packet, network: &Network) -> Result<(), Malformed> {
    let Some((protocol, ports)) = probe(packet, network)? else {
        return Ok(());
    };
    if ports::is_exposed(protocol, ports.destination()) || sockets::serve(packet, network, protocol, &ports) {
        counters::add(Counter::Open);
    } else if routes::lead_onwards(packet, network) {
        counters::add(Counter::Forwarded);
    } else {
        let key = ProbeKey {
            source: network.source(),
            port: ports.destination,
            protocol: protocol as u8,
            family: network.family(),
        };
        counters::add(Counter::Probes);
        probes::count(&key, packet.ifindex());
    }
    Ok(())
}

/// The ports of a packet that begins something; `None` for everything else.
#[inline(always)]
fn probe(packet: &Packet, network: &Network) -> Result<Option<(Protocol, Ports)>, Malformed> {
    let Some(transport) = extensions::transport(packet, network)? else {
        counters::add(Counter::LaterFragments);
        return Ok(None);
    };
    match Protocol::from_number(transport.protocol) {
        Some(Protocol::Tcp) => {
            let header: TcpStart = packet.load(transport.offset)?;
            if header.flags & (TCP_SYN | TCP_ACK) != TCP_SYN {
                return Ok(None);
            }
            counters::add(Counter::Syns);
            Ok(Some((Protocol::Tcp, header.ports)))
        }
        Some(Protocol::Udp) => {
            let ports: Ports = packet.load(transport.offset)?;
            if ports::is_udp_reply(ports.source()) {
                counters::add(Counter::UdpReplies);
                return Ok(None);
            }
            counters::add(Counter::Datagrams);
            Ok(Some((Protocol::Udp, ports)))
        }
        None => Ok(None),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The socket and route helpers are for programs under the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
