//! Flows out of this host, so that what answers them is not taken for a probe.
//!
//! Remembered are UDP, TCP that is forwarded (a masqueraded connection has no socket here), and the SYNs of this host's
//! own connections: their sockets explain the answers while they live, and the flow explains what is still under way
//! when one is closed in the middle of a download.

use crate::cpu::Cpu;
use crate::packet::{Malformed, Packet, Ports, TCP_ACK, TCP_RST, TCP_SYN, TcpHeader};
use crate::probes::Probe;
use crate::{extensions, settings};
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::btf_map;
use core::mem::MaybeUninit;
use glacis_abi::{Counter, FLOWS_MAX, FlowKey, Protocol, Settings};

#[btf_map]
static FLOWS: LruHashMap<FlowKey, u64, FLOWS_MAX> = LruHashMap::new();

/// A flow's time is written again when it is this old: a second, nearly.
const REFRESH_NS: u64 = 1 << 30;
/// As long as nf_conntrack keeps a UDP stream; TCP flows have no limit but the table's size.
const UDP_AGE_MAX_NS: u64 = 180_000_000_000;

/// Remembers the flow that a packet on its way out belongs to.
#[inline(always)]
pub fn remember(cpu: Cpu, packet: &Packet) -> Result<(), Malformed> {
    if settings::flags() & Settings::COUNT_PROBES == 0 {
        return Ok(());
    }
    // The answer, as it will come in.
    let mut place = MaybeUninit::uninit();
    let answer = Probe::empty(&mut place);
    let Some(network) = packet.network(&mut answer.destination, &mut answer.flow.key.source)? else {
        return Ok(());
    };
    let key = &mut answer.flow;
    let Some(transport) = extensions::transport(packet, &network)? else {
        return Ok(());
    };
    let (protocol, ports) = match Protocol::from_number(transport.protocol) {
        Some(Protocol::Udp) => (Protocol::Udp, packet.load::<Ports>(transport.offset)?),
        Some(Protocol::Tcp) => {
            let header: TcpHeader = packet.load(transport.offset)?;
            if !is_a_flow(packet, &header) {
                return Ok(());
            }
            (Protocol::Tcp, header.ports)
        }
        _ => return Ok(()),
    };
    key.key.port = ports.source;
    key.key.protocol = protocol as u8;
    key.key.family = network.family;
    key.source_port = ports.destination;
    let now = cpu.now();
    if let Some(seen) = FLOWS.get_ptr_mut(&*key) {
        // SAFETY: `seen` points at a map value, readable and writable until the program returns; it is an aligned
        // `u64`.
        unsafe {
            if now - seen.read_volatile() > REFRESH_NS {
                seen.write_volatile(now);
            }
        }
    } else if FLOWS.insert(&*key, now, 0).is_ok() {
        cpu.count(Counter::Flows);
    }
    Ok(())
}

/// RSTs begin nothing, and those of nftables have no socket. A challenge leaves by the device that it came in by, has
/// no socket either, and is no flow of anybody's.
#[inline(always)]
fn is_a_flow(packet: &Packet, header: &TcpHeader) -> bool {
    if header.flags & TCP_RST != 0 {
        return false;
    }
    if packet.has_socket() {
        return header.flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
    }
    let is_challenge = header.flags == TCP_ACK && header.window == [0; 2] && packet.is_sent_back();
    !is_challenge
}

/// True when a packet that came in answers a flow.
#[inline(always)]
pub fn explain(cpu: Cpu, flow: &FlowKey) -> bool {
    let Some(seen) = FLOWS.get_ptr(flow) else {
        return false;
    };
    // SAFETY: as in `remember`.
    flow.key.protocol == Protocol::Tcp as u8 || cpu.now() - unsafe { seen.read_volatile() } < UDP_AGE_MAX_NS
}
