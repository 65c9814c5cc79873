//! The TC programs: what comes in and what goes out.
//!
//! Coming in, one verdict per packet, in this order: banned source, not for this host, asks for nothing, one of a
//! flood, port in use, answers a flow, routed onwards, counted. Packets of banned sources are dropped; up to a ration they are counted
//! before. Nothing is ever accepted for others to see: what is not dropped goes on to whatever is attached after.
//!
//! Going out, flows are remembered, and everything goes on.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod atomic;
mod bans;
mod budgets;
mod challenge;
mod cpu;
mod events;
mod extensions;
mod flows;
mod packet;
mod ports;
mod probes;
mod routes;
mod settings;
mod sockets;
mod sources;
mod tcp;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use core::mem::MaybeUninit;
use cpu::Cpu;
use extensions::Transport;
use glacis_abi::{Counter, DROP, NEXT, ProbeKind, Protocol, Settings};
use packet::{Malformed, Network, Packet, Ports};
use probes::Probe;

#[classifier]
pub fn glacis_ingress(context: TcContext) -> i32 {
    let Some(cpu) = Cpu::this() else {
        return NEXT;
    };
    cpu.count(Counter::Packets);
    let packet = Packet::new(context.as_ptr().cast());
    let mut place = MaybeUninit::uninit();
    let probe = Probe::empty(&mut place);
    match packet.network(&mut probe.flow.key.source, &mut probe.destination) {
        Ok(Some(network)) => judge(cpu, &packet, &network, probe),
        Ok(None) => NEXT,
        Err(Malformed) => {
            cpu.count(Counter::Malformed);
            NEXT
        }
    }
}

#[classifier]
pub fn glacis_egress(context: TcContext) -> i32 {
    if let Some(cpu) = Cpu::this() {
        // What cannot be read is not a flow; it is the business of whoever made it.
        let _ = flows::remember(cpu, &Packet::new(context.as_ptr().cast()));
    }
    NEXT
}

#[inline(always)]
fn judge(cpu: Cpu, packet: &Packet, network: &Network, probe: &mut Probe) -> i32 {
    let settings = settings::flags();
    probe.is_banned =
        settings & Settings::KEEP_ESTABLISHED == 0 && bans::drops(cpu, probe.source(), settings);
    if probe.is_banned && !cpu.spares_a_look_at_the_banned() {
        return DROP;
    }
    let mut verdict = NEXT;
    if settings & Settings::COUNT_PROBES != 0 && packet.is_for_this_host() {
        verdict = match examine(cpu, packet, network, settings, probe) {
            Ok(verdict) => verdict,
            Err(Malformed) => {
                cpu.count(Counter::Malformed);
                NEXT
            }
        };
    }
    if probe.is_banned { DROP } else { verdict }
}

/// What a packet asks for.
pub struct Request {
    protocol: Protocol,
    ports: Ports,
    purpose: Purpose,
    may_be_challenged: bool,
}

#[derive(Clone, Copy)]
pub enum Purpose {
    Probe(ProbeKind),
    /// It answers something that nobody may have said.
    Answer,
    /// An answer too, a RST without ACK: maybe to a challenge.
    Reset {
        sequence: u32,
    },
}

impl Request {
    #[inline(always)]
    fn tcp(ports: Ports, purpose: Purpose, transport: &Transport, is_answerable: bool) -> Self {
        let may_be_challenged = is_answerable && !transport.is_routed;
        Self { protocol: Protocol::Tcp, ports, purpose, may_be_challenged }
    }

    #[inline(always)]
    fn other(protocol: Protocol, ports: Ports, kind: ProbeKind) -> Self {
        Self { protocol, ports, purpose: Purpose::Probe(kind), may_be_challenged: false }
    }
}

/// Counts the packet if it asks for something at a port where nothing answers. Returns its verdict.
#[inline(always)]
fn examine(
    cpu: Cpu,
    packet: &Packet,
    network: &Network,
    settings: u32,
    probe: &mut Probe,
) -> Result<i32, Malformed> {
    let Some(transport) = extensions::transport(packet, network)? else {
        cpu.count(Counter::LaterFragments);
        return Ok(NEXT);
    };
    let Some(Request { protocol, ports, purpose, may_be_challenged }) =
        request(cpu, packet, &transport, settings)?
    else {
        return Ok(NEXT);
    };
    if matches!(purpose, Purpose::Probe(_)) && !probe.is_banned && sources::flood(probe.source(), cpu.now()) {
        cpu.count(Counter::ProbesShed);
        return Ok(NEXT);
    }
    let link = settings::link_header() as u32;
    probe.flow.key.port = ports.destination;
    probe.flow.key.protocol = protocol as u8;
    probe.flow.key.family = network.family;
    probe.flow.source_port = ports.source;
    probe.network_offset = link + network.offset;
    probe.transport_offset = link + transport.offset;
    probe.may_be_challenged = may_be_challenged;
    let skb = packet.context();
    if let Purpose::Reset { sequence } = purpose
        && (challenge::hear_echo(skb, probe, sequence) != 0 || settings & Settings::STEALTH == 0)
    {
        return Ok(NEXT);
    }
    if is_explained(cpu, skb, probe, protocol, purpose) {
        return Ok(NEXT);
    }
    let Purpose::Probe(kind) = purpose else {
        cpu.count(Counter::Backscatter);
        return Ok(NEXT);
    };
    probe.kind = kind;
    Ok(probes::count(cpu, skb, probe))
}

/// Whether the port is in use, or the packet part of something that this host began, or for another host.
#[inline(always)]
fn is_explained(cpu: Cpu, skb: *mut __sk_buff, probe: &Probe, protocol: Protocol, purpose: Purpose) -> bool {
    let port = u16::from_be_bytes(probe.key().port);
    let begins = matches!(purpose, Purpose::Probe(ProbeKind::Syn | ProbeKind::Init));
    let explanation = if ports::is_exposed(protocol, port) || sockets::serve(skb, probe, protocol) {
        Counter::Open
    } else if !begins && flows::explain(cpu, &probe.flow) {
        Counter::FlowReplies
    } else if routes::lead_onwards(cpu, skb, probe) {
        Counter::Forwarded
    } else {
        return false;
    };
    cpu.count(explanation);
    true
}

/// What the packet asks for; `None` when it asks for nothing, or answers.
#[inline(always)]
fn request(
    cpu: Cpu,
    packet: &Packet,
    transport: &Transport,
    settings: u32,
) -> Result<Option<Request>, Malformed> {
    match Protocol::from_number(transport.protocol) {
        Some(Protocol::Tcp) => tcp::request(cpu, packet, transport, settings),
        Some(Protocol::Udp) => {
            let ports: Ports = packet.load(transport.offset)?;
            if ports::is_udp_reply(ports.source()) {
                cpu.count(Counter::UdpReplies);
                return Ok(None);
            }
            cpu.count(Counter::Datagrams);
            Ok(Some(Request::other(Protocol::Udp, ports, ProbeKind::Datagram)))
        }
        Some(Protocol::Sctp) if settings & Settings::STEALTH != 0 => {
            let start: SctpStart = packet.copy(transport.offset)?;
            if start.chunk != SctpStart::INIT {
                return Ok(None);
            }
            cpu.count(Counter::Inits);
            Ok(Some(Request::other(Protocol::Sctp, start.ports, ProbeKind::Init)))
        }
        Some(Protocol::Sctp) | None => Ok(None),
    }
}

/// RFC 9260 section 3: the common header and that of the first chunk.
#[repr(C)]
#[derive(Clone, Copy)]
struct SctpStart {
    ports: Ports,
    tag: [u8; 4],
    checksum: [u8; 4],
    chunk: u8,
    chunk_flags: u8,
    chunk_length: [u8; 2],
}

impl SctpStart {
    const INIT: u8 = 1;
}

// SAFETY: `repr(C)`, of bytes only, and so without padding.
unsafe impl packet::Header for SctpStart {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The socket and route helpers are for programs under the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
