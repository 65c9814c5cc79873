//! Challenges: a bare ACK whose acknowledgment number is a cookie, and the RST that brings it back.
//!
//! The packet that is to be answered is turned into the answer, a clone of it is sent back by the device that it came
//! in by, and it is restored, so that whoever comes next sees it as it was. The answer has neither TCP options nor IP
//! options nor extension headers, and so is never longer than what came in, but for tiny fragments, which Ethernet pads
//! anyway. Link addresses are swapped, tags stay.
//!
//! What an echo proves is that whoever has the address receives what we send. A scanner's kernel and an innocent live
//! host with no stateful filter before it answer alike, so a forger can make a third party echo that is alive and
//! unfiltered. Against that stand the link address in the cookie for neighbours, the list of those that are never
//! banned, and that user space lets an echo vouch for few hits. A scanner that drops its own RSTs proves nothing.
//!
//! A masquerading router before the scanner is no obstacle, with Linux's conntrack at least: the ACK that answers a SYN
//! belongs to the connection that the SYN began, reaches the scanner and the RST comes back, also where the router drops
//! what is invalid. FIN, NULL and Xmas probes do not get out past a router that does.

use crate::cpu::Cpu;
use crate::packet::{Ipv4, Ipv6, Ports, TCP_ACK, TcpHeader};
use crate::probes::Probe;
use crate::sources::{self, Answer};
use crate::{events, settings};
use aya_ebpf::bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_csum_diff, bpf_l4_csum_replace, bpf_skb_change_tail, bpf_skb_load_bytes,
    bpf_skb_store_bytes,
};
use aya_ebpf::macros::btf_map;
use core::mem::{offset_of, size_of};
use core::ptr;
use glacis_abi::{CookieInput, Counter, DROP, NEXT, ProbeEvent, Protocol, SourceKey};

/// Packets longer than this are not challenged: there is no room to keep them while they are an answer.
const PACKET_BYTES_MAX: usize = 2048;
const TCP_BYTES: usize = size_of::<TcpHeader>() + size_of::<TcpEnd>();
const HOP_LIMIT: u8 = 64;

/// More than the stack has room for. Nothing that a transmission calls uses it.
#[repr(C, align(8))]
struct Workbench {
    cookie: CookieInput,
    pseudo: PseudoHeader,
    v4: Ipv4,
    v6: Ipv6,
    tcp: Tcp,
    link: LinkAddresses,
    reserved: [u8; 4],
    /// The packet as it came in.
    original: [u8; PACKET_BYTES_MAX],
}

#[btf_map]
static WORKBENCH: PerCpuArray<Workbench, 1> = PerCpuArray::new();

/// The two addresses of an Ethernet header.
#[repr(C)]
struct LinkAddresses {
    destination: [u8; 6],
    source: [u8; 6],
}

/// The rest of a TCP header without options.
#[repr(C)]
struct TcpEnd {
    checksum: [u8; 2],
    urgent: [u8; 2],
}

#[repr(C, align(4))]
struct Tcp {
    start: TcpHeader,
    end: TcpEnd,
}

/// What TCP's checksum covers besides the segment (RFC 9293 section 3.1); as IPv6 has it, which for IPv4 adds up to
/// the same, because the zeros before a mapped address count nothing and its ones are left out.
#[repr(C, align(4))]
struct PseudoHeader {
    source: [u8; 16],
    destination: [u8; 16],
    length: [u8; 4],
    protocol: [u8; 4],
}

/// How a challenge went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Well,
    /// Nothing left, and the packet is as it was.
    Not,
    /// The packet could not be restored and must not go on.
    ButBroken,
}

/// Why there was no answer; whether the packet was changed meanwhile is in the order of steps.
struct Failed;

/// Challenges the sender of a packet and returns the packet's verdict. Exported, so that the verifier walks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_challenge(skb: *mut __sk_buff, probe: *const Probe) -> i32 {
    // SAFETY: whoever calls owns it.
    let (Some(cpu), Some(probe)) = (Cpu::this(), unsafe { probe.as_ref() }) else {
        return NEXT;
    };
    let sent = answer(cpu, skb, probe);
    cpu.count(if sent == Sent::Well { Counter::Challenges } else { Counter::ChallengesUnsent });
    if sent == Sent::ButBroken { DROP } else { NEXT }
}

#[inline(always)]
fn answer(cpu: Cpu, skb: *mut __sk_buff, probe: &Probe) -> Sent {
    // SAFETY: the context is valid as long as the program runs.
    let (length, is_gso) = unsafe { ((*skb).len, (*skb).gso_size != 0) };
    let Some(bench) = WORKBENCH.get_ptr_mut(0) else {
        return Sent::Not;
    };
    // SAFETY: the bench is this CPU's own, and nothing that is called from here on uses it.
    let bench = unsafe { &mut *bench };
    let original = bench.original.as_mut_ptr();
    if is_gso || length <= settings::link_header() as u32 || length as usize > PACKET_BYTES_MAX {
        return Sent::Not;
    }
    if load(skb, 0, original, length).is_err() {
        return Sent::Not;
    }
    bench.cookie = cookie_input(cpu, skb, probe);
    let went = transmit(skb, probe, bench, length);
    // SAFETY: that many bytes were just kept there.
    let restored = unsafe { restore(skb, original, length) };
    match (restored, went) {
        (Err(Failed), _) => Sent::ButBroken,
        (Ok(()), Ok(())) => Sent::Well,
        (Ok(()), Err(Failed)) => Sent::Not,
    }
}

/// Makes the packet its own answer and sends a clone.
#[inline(always)]
fn transmit(skb: *mut __sk_buff, probe: &Probe, bench: &mut Workbench, length: u32) -> Result<(), Failed> {
    let is_v4 = probe.key().family == 4;
    let ip_bytes = if is_v4 { size_of::<Ipv4>() } else { size_of::<Ipv6>() } as u32;
    let transport = probe.network_offset + ip_bytes;
    let whole = transport + TCP_BYTES as u32;
    if length != whole {
        // SAFETY: the helper checks what it is given.
        done(unsafe { bpf_skb_change_tail(skb, whole, 0) })?;
    }
    if is_v4 {
        bench.v4 = Ipv4::answer(probe);
        bench.v4.checksum = (!fold(sum(&bench.v4, 0))).to_ne_bytes();
        store(skb, probe.network_offset, &bench.v4)?;
    } else {
        bench.v6 = Ipv6::answer(probe);
        store(skb, probe.network_offset, &bench.v6)?;
    }
    bench.pseudo = PseudoHeader::of(probe);
    let pseudo = sum(&bench.pseudo, 0);
    bench.tcp = Tcp::challenge(probe, cookie_of(&raw const bench.cookie));
    let checksum = !fold(sum(&bench.tcp, pseudo));
    bench.tcp.end.checksum = checksum.to_ne_bytes();
    store(skb, transport, &bench.tcp)?;
    settle_checksum(skb, transport, transport == probe.transport_offset, checksum, fold(pseudo))?;
    swap_link_addresses(skb, bench)?;
    // SAFETY: the helper checks what it is given.
    done(unsafe { bpf_clone_redirect(skb, (*skb).ifindex, 0) })
}

/// A packet of a virtual device may be one whose checksum nobody has computed yet (`CHECKSUM_PARTIAL`): then the field
/// holds the sum of the pseudo header, and whoever needs the rest adds it. No field of the context says so; but a
/// replacement that is not of the pseudo header leaves such a field alone.
#[inline(always)]
fn settle_checksum(
    skb: *mut __sk_buff,
    transport: u32,
    has_stayed: bool,
    whole: u16,
    pseudo: u16,
) -> Result<(), Failed> {
    const ANY_CHANGE: u64 = 0x1234;
    let at = transport + (size_of::<TcpHeader>() + offset_of!(TcpEnd, checksum)) as u32;
    let mut found = [0_u8; 2];
    // SAFETY: the helper checks what it is given.
    done(unsafe { bpf_l4_csum_replace(skb, at, 0, ANY_CHANGE, 4) })?;
    load(skb, at, found.as_mut_ptr(), 2)?;
    if u16::from_ne_bytes(found) != whole {
        return store(skb, at, &whole.to_ne_bytes());
    }
    // The kernel adds the rest where the segment began before, which must be where it begins now.
    if !has_stayed {
        return Err(Failed);
    }
    store(skb, at, &pseudo.to_ne_bytes())
}

/// Puts the packet back.
///
/// # Safety
/// `original` holds `length` bytes, more than a link header.
#[inline(always)]
unsafe fn restore(skb: *mut __sk_buff, original: *mut u8, length: u32) -> Result<(), Failed> {
    let link = settings::link_header() as u32;
    // SAFETY: by the caller; the helpers check lengths.
    unsafe {
        if (*skb).len != length {
            done(bpf_skb_change_tail(skb, length, 0))?;
        }
        // The kernel's sum of a received packet does not cover the link header.
        if link != 0 {
            done(bpf_skb_store_bytes(skb, 0, original.cast(), link, 0))?;
        }
        let rest = length - link;
        if rest == 0 || rest as usize > PACKET_BYTES_MAX - 14 {
            return Err(Failed);
        }
        let from = original.add(link as usize);
        done(bpf_skb_store_bytes(skb, link, from.cast(), rest, u64::from(BPF_F_RECOMPUTE_CSUM)))
    }
}

impl Tcp {
    /// Sequence 0 and window 0: it offers nothing, and asks for a RST.
    #[inline(always)]
    fn challenge(probe: &Probe, cookie: u32) -> Self {
        Self {
            start: TcpHeader {
                ports: Ports { source: probe.key().port, destination: probe.flow.source_port },
                sequence: [0; 4],
                acknowledgment: cookie.to_be_bytes(),
                data_offset: ((TCP_BYTES / 4) as u8) << 4,
                flags: TCP_ACK,
                window: [0; 2],
            },
            end: TcpEnd { checksum: [0; 2], urgent: [0; 2] },
        }
    }
}

impl Ipv4 {
    #[inline(always)]
    fn answer(probe: &Probe) -> Self {
        const DO_NOT_FRAGMENT: [u8; 2] = [0x40, 0];
        Self {
            version_length: 0x45,
            tos: 0,
            total_length: ((size_of::<Self>() + TCP_BYTES) as u16).to_be_bytes(),
            id: [0; 2],
            fragment: DO_NOT_FRAGMENT,
            ttl: HOP_LIMIT,
            protocol: Protocol::Tcp as u8,
            checksum: [0; 2],
            source: v4(&probe.destination),
            destination: v4(probe.source()),
        }
    }
}

impl Ipv6 {
    #[inline(always)]
    fn answer(probe: &Probe) -> Self {
        Self {
            version_class_flow: [0x60, 0, 0, 0],
            payload_length: (TCP_BYTES as u16).to_be_bytes(),
            next_header: Protocol::Tcp as u8,
            hop_limit: HOP_LIMIT,
            source: probe.destination,
            destination: *probe.source(),
        }
    }
}

#[inline(always)]
fn v4(key: &SourceKey) -> [u8; 4] {
    let [.., a, b, c, d] = key.addr;
    [a, b, c, d]
}

impl PseudoHeader {
    #[inline(always)]
    fn of(probe: &Probe) -> Self {
        let mut header = Self {
            source: probe.destination.addr,
            destination: probe.source().addr,
            length: (TCP_BYTES as u32).to_be_bytes(),
            protocol: u32::from(Protocol::Tcp as u8).to_be_bytes(),
        };
        if probe.key().family == 4 {
            [header.source[10], header.source[11]] = [0; 2];
            [header.destination[10], header.destination[11]] = [0; 2];
        }
        header
    }
}

/// The Internet checksum's sum of a structure of whole words, not folded.
#[inline(always)]
fn sum<T>(of: &T, seed: u32) -> u32 {
    let from = ptr::from_ref(of).cast_mut().cast();
    // SAFETY: the helper reads `of`, whose size is a multiple of four.
    unsafe { bpf_csum_diff(ptr::null_mut(), 0, from, size_of::<T>() as u32, seed) as u32 }
}

#[inline(always)]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[inline(always)]
fn swap_link_addresses(skb: *mut __sk_buff, bench: &mut Workbench) -> Result<(), Failed> {
    if settings::link_header() == 0 {
        return Ok(());
    }
    bench.link.destination.copy_from_slice(&bench.original[6..12]);
    bench.link.source.copy_from_slice(&bench.original[..6]);
    let (from, bytes) = ((&raw const bench.link).cast(), size_of::<LinkAddresses>() as u32);
    // SAFETY: the helper reads the addresses and checks the rest. The kernel's sum does not cover them.
    done(unsafe { bpf_skb_store_bytes(skb, 0, from, bytes, 0) })
}

/// The sender's link address; zeros where there is none.
#[inline(always)]
fn link_source(skb: *mut __sk_buff) -> [u8; 6] {
    let mut address = [0; 6];
    if settings::link_header() != 0 {
        // What cannot be read stays zero, for the challenge as for the echo.
        let _ = load(skb, offset_of!(LinkAddresses, source) as u32, address.as_mut_ptr(), 6);
    }
    address
}

#[inline(always)]
fn load(skb: *mut __sk_buff, offset: u32, to: *mut u8, length: u32) -> Result<(), Failed> {
    // SAFETY: the verifier checks that `to` has room for `length` bytes.
    done(unsafe { bpf_skb_load_bytes(skb.cast(), offset, to.cast(), length) })
}

#[inline(always)]
fn store<T>(skb: *mut __sk_buff, offset: u32, from: &T) -> Result<(), Failed> {
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
    // SAFETY: the helper reads `from`, which lives on.
    done(unsafe {
        bpf_skb_store_bytes(skb, offset, ptr::from_ref(from).cast(), size_of::<T>() as u32, flags)
    })
}

#[inline(always)]
fn done(code: i64) -> Result<(), Failed> {
    if code == 0 { Ok(()) } else { Err(Failed) }
}

/// Exported, as [`hear_echo`], and for its name: a private function's carries a hash of where the sources lie.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cookie_of(input: *const CookieInput) -> u32 {
    // SAFETY: whoever calls owns it.
    let Some(input) = (unsafe { input.as_ref() }) else {
        return 0;
    };
    input.cookie(settings::secret())
}

/// Takes a RST without ACK for an echo if it is one: not 0 then. Exported, so that the verifier walks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hear_echo(skb: *mut __sk_buff, reset: *const Probe, sequence: u32) -> i32 {
    // SAFETY: whoever calls owns it.
    let (Some(cpu), Some(reset)) = (Cpu::this(), unsafe { reset.as_ref() }) else {
        return 0;
    };
    let Some(entry) = sources::find(reset.source()) else {
        return 0;
    };
    if !entry.may_echo() {
        cpu.count(Counter::EchoesRefused);
        return 0;
    }
    let mut input = cookie_input(cpu, skb, reset);
    if cookie_of(&raw const input) != sequence {
        input.slot = input.slot.wrapping_sub(1);
        if cookie_of(&raw const input) != sequence {
            entry.note(Answer::Wrong);
            cpu.count(Counter::EchoesWrong);
            return 0;
        }
    }
    entry.note(Answer::Right);
    cpu.count(Counter::Echoes);
    let now = cpu.now();
    if let Some(proof) = sources::prove(reset.source(), now) {
        events::write(
            cpu,
            ProbeEvent {
                key: *reset.key(),
                // SAFETY: the context is valid as long as the program runs.
                ifindex: unsafe { (*skb).ifindex },
                first: proof.first,
                at: now,
                hits: 0,
                echoes: proof.echoes,
                destination: reset.destination,
                kinds: 0,
                kind: ProbeEvent::ECHO,
                flags: ProbeEvent::PROVEN,
                reserved: [0; 4],
            },
        );
    }
    1
}

#[inline(always)]
fn cookie_input(cpu: Cpu, skb: *mut __sk_buff, packet: &Probe) -> CookieInput {
    CookieInput {
        source: *packet.source(),
        destination: packet.destination,
        source_port: packet.flow.source_port,
        destination_port: packet.key().port,
        link_source: link_source(skb),
        reserved: [0; 2],
        slot: CookieInput::slot_at(cpu.now()),
    }
}
