//! Data types on the wire: code, length and byte order of each, and constants in that form.

use super::error::EncodeError;
use glacis_plan::nft::{Atom, Datatype, KeyPart};
use std::ffi::CString;

/// Bytes of registers that an expression may fill.
const REGISTER_BYTES: usize = 64;
/// `IFNAMSIZ`, the final NUL included.
const IFNAME_BYTES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Network,
    Host,
}

/// One field of a key or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// nft's number for the type: informational for the kernel, but what `nft list` prints by.
    pub code: u32,
    pub bytes: usize,
    pub order: Order,
    /// For messages about a value that does not fit.
    pub datatype: Datatype,
}

impl Shape {
    /// Its share of a concatenation: registers come in four bytes.
    pub const fn padded(self) -> usize {
        self.bytes.next_multiple_of(4)
    }
}

/// Shape of a declared type.
pub const fn shape(datatype: Datatype) -> Shape {
    let (code, bytes, order) = match datatype {
        Datatype::NfProto => (2, 1, Order::Network),
        Datatype::Integer(bytes) => (4, bytes as usize, Order::Network),
        Datatype::HostInteger => (4, 4, Order::Host),
        Datatype::Ipv4Addr => (7, 4, Order::Network),
        Datatype::Ipv6Addr => (8, 16, Order::Network),
        Datatype::EtherAddr => (9, 6, Order::Network),
        Datatype::InetProto => (12, 1, Order::Network),
        Datatype::InetService => (13, 2, Order::Network),
        Datatype::IcmpType => (14, 1, Order::Network),
        Datatype::TcpFlags => (15, 1, Order::Network),
        Datatype::Mark => (19, 4, Order::Host),
        Datatype::Ifindex => (20, 4, Order::Host),
        Datatype::CtState => (26, 4, Order::Host),
        Datatype::CtStatus => (28, 4, Order::Host),
        Datatype::Icmpv6Type => (29, 1, Order::Network),
        Datatype::PktType => (31, 1, Order::Network),
        Datatype::Dscp => (36, 1, Order::Network),
        Datatype::Ifname => (41, IFNAME_BYTES, Order::Host),
    };
    Shape { code, bytes, order, datatype }
}

/// The inverse of [`shape`], for reading sets back; `None` for a type that this model has not.
pub fn datatype(code: u32, bytes: usize, order: Order) -> Option<Datatype> {
    const NAMED: [Datatype; 16] = [
        Datatype::NfProto,
        Datatype::Ipv4Addr,
        Datatype::Ipv6Addr,
        Datatype::EtherAddr,
        Datatype::InetProto,
        Datatype::InetService,
        Datatype::IcmpType,
        Datatype::TcpFlags,
        Datatype::Mark,
        Datatype::Ifindex,
        Datatype::CtState,
        Datatype::CtStatus,
        Datatype::Icmpv6Type,
        Datatype::PktType,
        Datatype::Dscp,
        Datatype::Ifname,
    ];
    match (code, bytes, order) {
        (4, 4, Order::Host) => Some(Datatype::HostInteger),
        (4, 1 | 2 | 4, Order::Network) => Some(Datatype::Integer(bytes as u8)),
        _ => NAMED.into_iter().find(|datatype| shape(*datatype).code == code),
    }
}

/// The type that a constant has by itself.
pub const fn datatype_of(atom: &Atom) -> Datatype {
    match atom {
        Atom::Ipv4(_) => Datatype::Ipv4Addr,
        Atom::Ipv6(_) => Datatype::Ipv6Addr,
        Atom::Ether(_) => Datatype::EtherAddr,
        Atom::InetProto(_) => Datatype::InetProto,
        Atom::InetService(_) => Datatype::InetService,
        Atom::Mark(_) => Datatype::Mark,
        Atom::Ifname(_) => Datatype::Ifname,
        Atom::Ifindex(_) => Datatype::Ifindex,
        Atom::CtState(_) => Datatype::CtState,
        Atom::CtStatus(_) => Datatype::CtStatus,
        Atom::IcmpType(_) => Datatype::IcmpType,
        Atom::Icmpv6Type(_) => Datatype::Icmpv6Type,
        Atom::Dscp(_) => Datatype::Dscp,
        Atom::PktType(_) => Datatype::PktType,
        Atom::NfProto(_) => Datatype::NfProto,
        Atom::TcpFlags(_) => Datatype::TcpFlags,
        Atom::U8(_) => Datatype::Integer(1),
        Atom::U16(_) => Datatype::Integer(2),
        Atom::U32(_) => Datatype::Integer(4),
    }
}

/// A key or a value: one field, or several side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type(pub Vec<Shape>);

impl Type {
    pub fn of(datatypes: &[Datatype]) -> Self {
        Self(datatypes.iter().copied().map(shape).collect())
    }

    pub fn is_concatenation(&self) -> bool {
        self.0.len() > 1
    }

    /// Six bits a field, the first field highest.
    pub fn code(&self) -> u32 {
        self.0.iter().fold(0, |code, field| code << 6 | field.code)
    }

    /// A single field keeps its length; concatenated ones are padded.
    pub fn bytes(&self) -> usize {
        match self.0.as_slice() {
            [field] => field.bytes,
            fields => fields.iter().map(|field| field.padded()).sum(),
        }
    }

    /// Concatenations count as network order.
    pub fn order(&self) -> Order {
        match self.0.as_slice() {
            [field] => field.order,
            _ => Order::Network,
        }
    }
}

/// The register that starts this many bytes into the register file: `NFT_REG_1` and on where 16 bytes
/// begin, else `NFT_REG32_00` and on.
pub fn register(offset: usize, bytes: usize) -> Result<u32, EncodeError> {
    if offset + bytes > REGISTER_BYTES {
        return Err(EncodeError::OutOfRegisters);
    }
    Ok(if offset.is_multiple_of(16) { (offset / 16) as u32 + 1 } else { 8 + (offset / 4) as u32 })
}

/// A constant in the form of a field, in the byte order given.
pub fn encode(atom: &Atom, field: Shape, order: Order) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(field.bytes);
    put(&mut out, atom, field, order)?;
    Ok(out)
}

/// Appends a constant in the form of a field, in the byte order given.
pub fn put(out: &mut Vec<u8>, atom: &Atom, field: Shape, order: Order) -> Result<(), EncodeError> {
    let wrong = || EncodeError::WrongType { found: format!("{atom:?}"), wanted: field.datatype };
    let number = match atom {
        Atom::Ipv4(address) if field.code == shape(Datatype::Ipv4Addr).code => {
            out.extend_from_slice(&address.octets());
            return Ok(());
        }
        Atom::Ipv6(address) if field.code == shape(Datatype::Ipv6Addr).code => {
            out.extend_from_slice(&address.octets());
            return Ok(());
        }
        Atom::Ether(address) if field.code == shape(Datatype::EtherAddr).code => {
            out.extend_from_slice(address);
            return Ok(());
        }
        Atom::Ifname(name) if field.bytes == IFNAME_BYTES => {
            if name.len() >= IFNAME_BYTES {
                return Err(EncodeError::LongInterface(name.clone()));
            }
            out.extend_from_slice(name.as_bytes());
            out.resize(out.len() + IFNAME_BYTES - name.len(), 0);
            return Ok(());
        }
        Atom::Ipv4(_) | Atom::Ipv6(_) | Atom::Ether(_) | Atom::Ifname(_) => return Err(wrong()),
        Atom::Ifindex(name) => interface_index(name)?,
        Atom::InetProto(n)
        | Atom::IcmpType(n)
        | Atom::Icmpv6Type(n)
        | Atom::Dscp(n)
        | Atom::PktType(n)
        | Atom::NfProto(n)
        | Atom::TcpFlags(n)
        | Atom::U8(n) => u32::from(*n),
        Atom::InetService(n) | Atom::U16(n) => u32::from(*n),
        Atom::Mark(n) | Atom::CtState(n) | Atom::CtStatus(n) | Atom::U32(n) => *n,
    };
    put_number(out, number, field, order).ok_or_else(wrong)
}

/// A number in the form of a field; `None` when the field is too small for it or holds no number.
pub fn put_number(out: &mut Vec<u8>, number: u32, field: Shape, order: Order) -> Option<()> {
    let bytes = number.to_be_bytes();
    let unused = bytes.len().checked_sub(field.bytes)?;
    if bytes[..unused].iter().any(|byte| *byte != 0) {
        return None;
    }
    match order {
        Order::Host if cfg!(target_endian = "little") => out.extend(bytes[unused..].iter().rev()),
        _ => out.extend_from_slice(&bytes[unused..]),
    }
    Some(())
}

/// Lowest and highest value of one field's part.
pub fn bounds(part: &KeyPart, field: Shape, order: Order) -> Result<(Vec<u8>, Vec<u8>), EncodeError> {
    let (low, high) = match part {
        KeyPart::One(atom) => {
            let value = encode(atom, field, order)?;
            (value.clone(), value)
        }
        KeyPart::Range(low, high) => (encode(low, field, order)?, encode(high, field, order)?),
        KeyPart::Prefix(atom, length) => {
            let value = encode(atom, field, order)?;
            let mask = prefix_mask(usize::from(*length), field.bytes);
            let low = value.iter().zip(&mask).map(|(v, m)| v & m).collect();
            let high = value.iter().zip(&mask).map(|(v, m)| v | !m).collect();
            (low, high)
        }
    };
    if order == Order::Network && low > high { Err(EncodeError::BackwardRange) } else { Ok((low, high)) }
}

/// The first `length` bits set.
pub fn prefix_mask(length: usize, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|i| match length.saturating_sub(i * 8) {
            0 => 0,
            bits @ 1..8 => !(u8::MAX >> bits),
            _ => u8::MAX,
        })
        .collect()
}

fn interface_index(name: &str) -> Result<u32, EncodeError> {
    let missing = || EncodeError::NoInterface(name.to_owned());
    let text = CString::new(name).map_err(|_| missing())?;
    // SAFETY: `text` is a string with a final NUL that outlives the call.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(missing()),
        index => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_fields_length_and_order() {
        assert_eq!(
            encode(&Atom::InetService(80), shape(Datatype::InetService), Order::Network),
            Ok(vec![0, 80])
        );
        assert_eq!(
            encode(&Atom::Mark(1), shape(Datatype::Mark), Order::Host),
            Ok(1_u32.to_ne_bytes().to_vec())
        );
        assert!(encode(&Atom::U16(300), shape(Datatype::Integer(1)), Order::Network).is_err());
        assert!(encode(&Atom::U8(1), shape(Datatype::Ipv6Addr), Order::Network).is_err());
        assert!(encode(&Atom::Ifname("x".repeat(16)), shape(Datatype::Ifname), Order::Host).is_err());
    }

    #[test]
    fn prefixes_mask_whole_and_part_bytes() {
        assert_eq!(prefix_mask(0, 4), [0, 0, 0, 0]);
        assert_eq!(prefix_mask(9, 4), [255, 128, 0, 0]);
        assert_eq!(prefix_mask(32, 4), [255; 4]);
        assert_eq!(prefix_mask(200, 4), [255; 4]);
    }

    #[test]
    fn registers_are_named_by_sixteen_bytes_where_they_can_be() {
        assert_eq!(register(0, 16), Ok(1));
        assert_eq!(register(16, 4), Ok(2));
        assert_eq!(register(4, 4), Ok(9));
        assert_eq!(register(60, 4), Ok(23));
        assert_eq!(register(60, 8), Err(EncodeError::OutOfRegisters));
    }

    #[test]
    fn every_type_reads_back() {
        for datatype_ in [Datatype::Ipv4Addr, Datatype::Ifname, Datatype::Integer(2), Datatype::HostInteger] {
            let s = shape(datatype_);
            assert_eq!(datatype(s.code, s.bytes, s.order), Some(datatype_));
        }
        assert_eq!(datatype(24, 4, Order::Host), None);
    }
}
