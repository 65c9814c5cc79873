//! What a TCP packet is after, by its flags.

use crate::cpu::Cpu;
use crate::extensions::Transport;
use crate::packet::{
    Malformed, Packet, Ports, TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG, TcpHeader,
};
use crate::{Purpose, Request};
use core::mem::offset_of;
use glacis_abi::{Counter, ProbeKind, Settings};

/// A fragment that ends before this has no flags.
const FLAGS_END: u32 = offset_of!(TcpHeader, flags) as u32 + 1;
/// ECE and CWR, which say nothing of what a packet is after, are not among them.
const FLAGS: u8 = TCP_FIN | TCP_SYN | TCP_RST | TCP_PSH | TCP_ACK | TCP_URG;
const XMAS: u8 = TCP_FIN | TCP_PSH | TCP_URG;

/// What the packet asks for; `None` when it is nobody's business.
#[inline(always)]
pub fn request(
    cpu: Cpu,
    packet: &Packet,
    transport: &Transport,
    settings: u32,
) -> Result<Option<Request>, Malformed> {
    if transport.fragment_end != 0 && transport.fragment_end < transport.offset + FLAGS_END {
        if settings & Settings::STEALTH == 0 {
            return Ok(None);
        }
        cpu.count(Counter::StealthLooks);
        let ports: Ports = packet.copy(transport.offset)?;
        return Ok(Some(Request::tcp(ports, Purpose::Probe(ProbeKind::Fragment), transport, true)));
    }
    let header: TcpHeader = packet.load(transport.offset)?;
    let flags = header.flags & FLAGS;
    if flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN {
        cpu.count(Counter::Syns);
        return Ok(Some(Request::tcp(header.ports, Purpose::Probe(ProbeKind::Syn), transport, true)));
    }
    if flags & (TCP_RST | TCP_ACK) == TCP_RST && settings & Settings::CHALLENGE != 0 {
        let purpose = Purpose::Reset { sequence: u32::from_be_bytes(header.sequence) };
        return Ok(Some(Request::tcp(header.ports, purpose, transport, false)));
    }
    if settings & Settings::STEALTH == 0 {
        return Ok(None);
    }
    cpu.count(Counter::StealthLooks);
    // A bare ACK with window 0 is what a challenge is: two hosts that challenge must not do so in turn.
    let is_answerable = flags & TCP_ACK == 0 || header.window != [0; 2];
    Ok(Some(Request::tcp(header.ports, purpose(flags), transport, is_answerable)))
}

/// Of flags that do not ask for a connection.
#[inline(always)]
fn purpose(flags: u8) -> Purpose {
    if flags & TCP_RST != 0 || flags & TCP_SYN != 0 {
        return Purpose::Answer;
    }
    Purpose::Probe(match flags {
        TCP_FIN => ProbeKind::Fin,
        0 => ProbeKind::Null,
        XMAS => ProbeKind::Xmas,
        _ if flags & TCP_ACK == 0 => ProbeKind::OddFlags,
        _ if flags & TCP_FIN != 0 => ProbeKind::Maimon,
        _ => ProbeKind::Ack,
    })
}
