//! Reading a packet: link and network headers.

use crate::settings;
use aya_ebpf::bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_NET};
use aya_ebpf::helpers::generated::bpf_skb_load_bytes_relative;
use core::arch::asm;
use core::mem::{MaybeUninit, size_of};
use core::ptr;
use glacis_abi::SourceKey;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;

/// VLAN tags followed inside the data. The kernel takes the outermost one off before TC.
const VLAN_TAGS_MAX: u32 = 2;
/// Direct reads end here; the verifier wants a constant bound on packet offsets, and headers past it are rare.
const DIRECT_MAX: u32 = 256;
pub const TCP_FIN: u8 = 0x01;
pub const TCP_SYN: u8 = 0x02;
pub const TCP_RST: u8 = 0x04;
pub const TCP_PSH: u8 = 0x08;
pub const TCP_ACK: u8 = 0x10;
pub const TCP_URG: u8 = 0x20;

/// `PACKET_HOST`: to this host's link address, neither broadcast nor multicast nor overheard.
const PACKET_HOST: u32 = 0;

/// The packet ends before the header that is asked for.
pub struct Malformed;

/// Types that any bytes are a valid value of.
///
/// # Safety
/// Implementors are `repr(C)` structures of bytes, without padding. Their size is a multiple of four, unless they are
/// only copied.
pub unsafe trait Header: Copy {}

/// Offsets count from the network header.
pub struct Packet {
    skb: *mut __sk_buff,
    /// Address of the network header in the linear data.
    network: usize,
    end: usize,
}

impl Packet {
    #[inline(always)]
    pub fn new(skb: *mut __sk_buff) -> Self {
        // SAFETY: the kernel hands the program a valid context; the verifier checks every access.
        let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
        Self { skb, network: data + settings::link_header(), end }
    }

    #[inline(always)]
    pub fn context(&self) -> *mut __sk_buff {
        self.skb
    }

    #[inline(always)]
    pub fn is_for_this_host(&self) -> bool {
        // SAFETY: as in `new`.
        unsafe { (*self.skb).pkt_type == PACKET_HOST }
    }

    /// On the way out: true when a socket of this host sends it.
    #[inline(always)]
    pub fn has_socket(&self) -> bool {
        // SAFETY: as in `new`.
        unsafe { !(*self.skb).__bindgen_anon_2.sk.is_null() }
    }

    /// On the way out: true when it came in by the device that it leaves by.
    #[inline(always)]
    pub fn is_sent_back(&self) -> bool {
        // SAFETY: as in `new`.
        unsafe { (*self.skb).ingress_ifindex == (*self.skb).ifindex }
    }

    /// Reads a header: from memory where it lies in the linear part, which costs half of what the helper does,
    /// else by the helper, which reads paged data too.
    #[inline(always)]
    pub fn load<T: Header>(&self, offset: u32) -> Result<T, Malformed> {
        let mut header = MaybeUninit::<T>::uninit();
        let address = self.network + offset as usize;
        if offset <= DIRECT_MAX && address + size_of::<T>() <= self.end {
            let words = header.as_mut_ptr().cast::<u32>();
            for word in 0..size_of::<T>() / size_of::<u32>() {
                // SAFETY: in bounds by the check, as the verifier proves; a `Header` is whole words.
                unsafe { words.add(word).write(load_word(address + word * size_of::<u32>())) }
            }
        } else {
            copy_to(self.skb, offset, &mut header)?;
        }
        // SAFETY: every byte was written, and any bytes are a `T`.
        Ok(unsafe { header.assume_init() })
    }

    /// Reads a header by the helper. For what is rare: a direct read multiplies the paths that the verifier walks.
    #[inline(always)]
    pub fn copy<T: Header>(&self, offset: u32) -> Result<T, Malformed> {
        copy(self.skb, offset)
    }

    /// The network header, and the addresses where the caller wants them; `None` when the packet is neither IPv4 nor
    /// IPv6.
    #[inline(always)]
    pub fn network(
        &self,
        source: &mut SourceKey,
        destination: &mut SourceKey,
    ) -> Result<Option<Network>, Malformed> {
        // SAFETY: as in `new`; the kernel widens a big-endian 16-bit field.
        let mut ethertype = u16::from_be(unsafe { (*self.skb).protocol } as u16);
        let mut offset = 0;
        for _ in 0..VLAN_TAGS_MAX {
            if ethertype != ETH_P_8021Q && ethertype != ETH_P_8021AD {
                break;
            }
            let tag: VlanTag = self.copy(offset)?;
            ethertype = u16::from_be_bytes(tag.ethertype);
            offset += size_of::<VlanTag>() as u32;
        }
        Ok(match ethertype {
            ETH_P_IP => {
                let header: Ipv4 = self.load(offset)?;
                put(source, SourceKey::from_v4(header.source));
                put(destination, SourceKey::from_v4(header.destination));
                Some(Network::v4(&header, offset))
            }
            ETH_P_IPV6 => {
                let header: Ipv6 = self.load(offset)?;
                put(source, header.source);
                put(destination, header.destination);
                Some(Network::v6(&header, offset))
            }
            _ => None,
        })
    }
}

/// As [`Packet::copy`], for where there is only the context.
#[inline(always)]
pub fn copy<T: Header>(skb: *mut __sk_buff, offset: u32) -> Result<T, Malformed> {
    let mut header = MaybeUninit::<T>::uninit();
    copy_to(skb, offset, &mut header)?;
    // SAFETY: every byte was written, and any bytes are a `T`.
    Ok(unsafe { header.assume_init() })
}

#[inline(always)]
fn copy_to<T: Header>(
    skb: *mut __sk_buff,
    offset: u32,
    header: &mut MaybeUninit<T>,
) -> Result<(), Malformed> {
    // SAFETY: the helper writes exactly `size_of::<T>()` bytes or fails.
    let code = unsafe {
        bpf_skb_load_bytes_relative(
            skb.cast(),
            offset,
            header.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            BPF_HDR_START_NET,
        )
    };
    if code == 0 { Ok(()) } else { Err(Malformed) }
}

/// Writes an address word by word. Left to itself, the compiler makes a loop over its bytes of it, and calls that.
#[inline(always)]
pub fn put(to: &mut SourceKey, address: SourceKey) {
    let words = ptr::from_mut(to).cast::<u32>();
    for (n, word) in address.words().into_iter().enumerate() {
        // SAFETY: a `SourceKey` is four aligned words.
        unsafe { words.add(n).write_volatile(word) }
    }
}

/// Reads four bytes at once. Packets lie at any address; the compiler would read such words byte by byte, and the
/// verifier lets processors that read them at once do so.
///
/// # Safety
/// Four bytes of packet data are at `address`.
#[inline(always)]
unsafe fn load_word(address: usize) -> u32 {
    let word: u64;
    // SAFETY: by the caller.
    unsafe {
        asm!(
            "{word} = *(u32 *)({address} + 0)",
            word = out(reg) word,
            address = in(reg) address,
            options(readonly, nostack, preserves_flags)
        );
    }
    word as u32
}

/// What a network header says besides addresses.
pub struct Network {
    /// 4 or 6.
    pub family: u8,
    /// IANA number of what follows; with IPv6, this may be an extension header.
    pub protocol: u8,
    /// The fragment field of IPv4; 0 with IPv6, which has a header for that.
    pub fragment: u16,
    /// Where the header lies, from the outermost one, which tags inside the data come before.
    pub offset: u32,
    /// Where what follows begins.
    pub payload: u32,
    /// Where the packet ends; what a frame is padded with is none of it.
    pub end: u32,
}

impl Network {
    #[inline(always)]
    fn v4(header: &Ipv4, offset: u32) -> Self {
        Self {
            family: 4,
            protocol: header.protocol,
            fragment: u16::from_be_bytes(header.fragment),
            offset,
            payload: offset + u32::from(header.version_length & 15) * 4,
            end: offset + u32::from(u16::from_be_bytes(header.total_length)),
        }
    }

    #[inline(always)]
    fn v6(header: &Ipv6, offset: u32) -> Self {
        let payload = offset + size_of::<Ipv6>() as u32;
        Self {
            family: 6,
            protocol: header.next_header,
            fragment: 0,
            offset,
            payload,
            end: payload + u32::from(u16::from_be_bytes(header.payload_length)),
        }
    }
}

/// What follows a tag's own type: IEEE 802.1Q calls it TCI, then comes the type of what is inside.
#[repr(C)]
#[derive(Clone, Copy)]
struct VlanTag {
    control: [u8; 2],
    ethertype: [u8; 2],
}

/// RFC 791 section 3.1, without options.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    /// Version in the high half, header length in 32-bit words in the low one.
    pub version_length: u8,
    pub tos: u8,
    pub total_length: [u8; 2],
    pub id: [u8; 2],
    /// Three flags, then the fragment's offset in units of 8 bytes.
    pub fragment: [u8; 2],
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: [u8; 2],
    pub source: [u8; 4],
    pub destination: [u8; 4],
}

/// RFC 8200 section 3.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    pub version_class_flow: [u8; 4],
    pub payload_length: [u8; 2],
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: SourceKey,
    pub destination: SourceKey,
}

/// The first four bytes of TCP and UDP alike, in network order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ports {
    pub source: [u8; 2],
    pub destination: [u8; 2],
}

impl Ports {
    #[inline(always)]
    pub fn source(&self) -> u16 {
        u16::from_be_bytes(self.source)
    }
}

/// RFC 9293 section 3.1, up to the window.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TcpHeader {
    pub ports: Ports,
    pub sequence: [u8; 4],
    pub acknowledgment: [u8; 4],
    pub data_offset: u8,
    pub flags: u8,
    pub window: [u8; 2],
}

// SAFETY: all of these are `repr(C)`, of bytes only, and so without padding.
unsafe impl Header for VlanTag {}
// SAFETY: as above.
unsafe impl Header for Ipv4 {}
// SAFETY: as above.
unsafe impl Header for Ipv6 {}
// SAFETY: as above.
unsafe impl Header for Ports {}
// SAFETY: as above.
unsafe impl Header for TcpHeader {}
// SAFETY: as above.
unsafe impl<const N: usize> Header for [u8; N] {}
