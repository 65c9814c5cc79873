//! Reading a packet: link and network headers.

use crate::settings;
use aya_ebpf::bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_NET};
use aya_ebpf::helpers::generated::bpf_skb_load_bytes_relative;
use core::mem::{MaybeUninit, size_of};
use glacis_abi::SourceKey;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;

/// VLAN tags followed inside the data. The kernel takes the outermost one off before TC.
const VLAN_TAGS_MAX: u32 = 2;
/// Direct reads end here; the verifier wants a constant bound on packet offsets, and headers past it are rare.
const DIRECT_MAX: u32 = 256;
/// `PACKET_HOST`: to this host's link address, neither broadcast nor multicast nor overheard.
const PACKET_HOST: u32 = 0;

/// The packet ends before the header that is asked for.
pub struct Malformed;

/// Types that any bytes are a valid value of.
///
/// # Safety
/// Implementors are `repr(C)` structures of bytes, without padding.
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
    pub fn ifindex(&self) -> u32 {
        // SAFETY: as in `new`.
        unsafe { (*self.skb).ifindex }
    }

    #[inline(always)]
    pub fn is_for_this_host(&self) -> bool {
        // SAFETY: as in `new`.
        unsafe { (*self.skb).pkt_type == PACKET_HOST }
    }

    /// Reads a header: from memory where it lies in the linear part, which costs half of what the helper does,
    /// else by the helper, which reads paged data too.
    #[inline(always)]
    pub fn load<T: Header>(&self, offset: u32) -> Result<T, Malformed> {
        if offset <= DIRECT_MAX {
            let address = self.network + offset as usize;
            if address + size_of::<T>() <= self.end {
                // SAFETY: in bounds by the check, as the verifier proves; any bytes are a `T`.
                return Ok(unsafe { (address as *const T).read_unaligned() });
            }
        }
        self.copy(offset)
    }

    /// Reads a header by the helper. For what is rare: a direct read multiplies the paths that the verifier walks.
    #[inline(always)]
    pub fn copy<T: Header>(&self, offset: u32) -> Result<T, Malformed> {
        let mut header = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes exactly `size_of::<T>()` bytes or fails.
        let code = unsafe {
            bpf_skb_load_bytes_relative(
                self.skb.cast(),
                offset,
                header.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                BPF_HDR_START_NET,
            )
        };
        // SAFETY: zero means that every byte was written.
        if code == 0 { Ok(unsafe { header.assume_init() }) } else { Err(Malformed) }
    }

    /// The network header; `None` when the packet is neither IPv4 nor IPv6.
    #[inline(always)]
    pub fn network(&self) -> Result<Option<Network>, Malformed> {
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
            ETH_P_IP => Some(Network::V4 { header: self.load(offset)?, offset }),
            ETH_P_IPV6 => Some(Network::V6 { header: self.load(offset)?, offset }),
            _ => None,
        })
    }
}

/// A network header and where it lies.
pub enum Network {
    V4 { header: Ipv4, offset: u32 },
    V6 { header: Ipv6, offset: u32 },
}

impl Network {
    #[inline(always)]
    pub fn source(&self) -> SourceKey {
        match self {
            Self::V4 { header, .. } => SourceKey::from_v4(header.source),
            Self::V6 { header, .. } => SourceKey::from_v6(header.source),
        }
    }

    #[inline(always)]
    pub fn family(&self) -> u8 {
        match self {
            Self::V4 { .. } => 4,
            Self::V6 { .. } => 6,
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
    pub source: [u8; 16],
    pub destination: [u8; 16],
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

    #[inline(always)]
    pub fn destination(&self) -> u16 {
        u16::from_be_bytes(self.destination)
    }
}

/// RFC 9293 section 3.1, up to the flags.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TcpStart {
    pub ports: Ports,
    pub sequence: [u8; 4],
    pub acknowledgment: [u8; 4],
    pub data_offset: u8,
    pub flags: u8,
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
unsafe impl Header for TcpStart {}
// SAFETY: as above.
unsafe impl<const N: usize> Header for [u8; N] {}
