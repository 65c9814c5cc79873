//! The elements of small sets, read back.

use super::Connection;
use super::buffer::{Attributes, Buffer};
use super::connection::DumpError;
use super::declare::family as family_number;
use super::elements::Layout;
use super::error::NftError;
use super::read::userdata_text;
use super::types::{Order, Shape};
use super::uapi::{attr, element_flag, message, udata};
use glacis_plan::nft::{Atom, Datatype, Element, Family, Key, KeyPart, Name, Set};
use std::time::Duration;

/// The kernel walks a set anew for every datagram of a dump, so a large set takes quadratic time.
const ELEMENTS_MAX: usize = 65_536;

/// One element as the kernel tells it.
struct Raw {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    flags: u32,
    timeout: Option<Duration>,
    expires: Option<Duration>,
    comment: Option<String>,
}

impl Connection {
    /// Elements of a set of at most 65 536, with timeouts and what is left of them; ranges ascending, others in
    /// the kernel's order. `set` tells key types and flags; values of maps are left out.
    pub fn set_elements(
        &mut self,
        family: Family,
        table: &Name,
        set: &Set,
    ) -> Result<Vec<Element>, NftError> {
        let raw = self.steadily(|connection| connection.raw_elements(family, table, &set.name))?;
        let layout = Layout::of(set);
        let decoded = if layout.interval && !layout.key.is_concatenation() {
            intervals(raw, layout.key.0[0])
        } else {
            raw.into_iter().map(|raw| element(raw, &layout)).collect()
        };
        decoded.ok_or(NftError::Malformed("an element"))
    }

    /// How many elements a set holds, ranges apart from their ends; of a large one that takes the kernel quadratic
    /// time, some 20 ms for 65 536. Those whose time is over are not counted.
    pub fn element_count(&mut self, family: Family, table: &Name, set: &Name) -> Result<usize, NftError> {
        self.steadily(|connection| {
            let mut count = 0;
            connection.each_element(family, table, set, |attributes| {
                let flags = attributes.u32(attr::element::FLAGS).unwrap_or_default();
                count += usize::from(flags & element_flag::INTERVAL_END == 0);
                Ok(())
            })?;
            Ok(count)
        })
    }

    fn raw_elements(&mut self, family: Family, table: &Name, set: &Name) -> Result<Vec<Raw>, DumpError> {
        let mut elements = vec![];
        self.each_element(family, table, set, |attributes| {
            if elements.len() == ELEMENTS_MAX {
                return Err(NftError::TooManyElements { set: set.clone(), max: ELEMENTS_MAX });
            }
            elements.push(raw(attributes));
            Ok(())
        })?;
        Ok(elements)
    }

    fn each_element(
        &mut self,
        family: Family,
        table: &Name,
        set: &Name,
        mut visit: impl FnMut(Attributes<'_>) -> Result<(), NftError>,
    ) -> Result<(), DumpError> {
        let ask = |b: &mut Buffer| {
            b.put_text(attr::elements::TABLE, table.as_str());
            b.put_text(attr::elements::SET, set.as_str());
        };
        self.dump(message::GET_ELEMENT, family_number(family), "elements", ask, |attributes| {
            let list = attributes.nest(attr::elements::ELEMENTS).unwrap_or(Attributes(&[]));
            list.map(|(_, bytes)| Attributes(bytes)).try_for_each(&mut visit)
        })
    }
}

fn raw(attributes: Attributes<'_>) -> Raw {
    let key = |kind| {
        let value = attributes.nest(kind).and_then(|key| key.find(attr::data::VALUE));
        value.map(<[u8]>::to_vec)
    };
    let duration = |kind| attributes.u64(kind).map(Duration::from_millis);
    Raw {
        key: key(attr::element::KEY).unwrap_or_default(),
        key_end: key(attr::element::KEY_END),
        flags: attributes.u32(attr::element::FLAGS).unwrap_or_default(),
        timeout: duration(attr::element::TIMEOUT),
        expires: duration(attr::element::EXPIRATION),
        comment: attributes
            .find(attr::element::USERDATA)
            .and_then(|bytes| userdata_text(bytes, udata::COMMENT)),
    }
}

impl Raw {
    const fn is_end(&self) -> bool {
        self.flags & element_flag::INTERVAL_END != 0
    }

    fn with(self, key: Key) -> Element {
        Element { key, data: None, timeout: self.timeout, expires: self.expires, comment: self.comment }
    }
}

/// Pairs each start with the next end; the last start without one runs to the top.
fn intervals(mut raw: Vec<Raw>, field: Shape) -> Option<Vec<Element>> {
    // Where one range ends and the next starts at the same value, the end comes first.
    raw.sort_by(|a, b| a.key.cmp(&b.key).then(b.is_end().cmp(&a.is_end())));
    let mut elements = vec![];
    let mut open: Option<Raw> = None;
    for next in raw {
        if next.flags & element_flag::CATCHALL != 0 {
            elements.push(next.with(Key::CatchAll));
            continue;
        }
        let end = predecessor(&next.key);
        if let Some(start) = open.take() {
            elements.push(range(start, &end, field)?);
        }
        if !next.is_end() {
            open = Some(next);
        }
    }
    if let Some(start) = open {
        let top = vec![u8::MAX; start.key.len()];
        elements.push(range(start, &top, field)?);
    }
    Some(elements)
}

fn range(start: Raw, high: &[u8], field: Shape) -> Option<Element> {
    let low = atom(&start.key, field, Order::Network)?;
    let part = if start.key == high {
        KeyPart::One(low)
    } else {
        KeyPart::Range(low, atom(high, field, Order::Network)?)
    };
    Some(start.with(Key::Fields(vec![part])))
}

/// The value before; the highest before zero.
fn predecessor(value: &[u8]) -> Vec<u8> {
    let mut previous = value.to_vec();
    for byte in previous.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != u8::MAX {
            break;
        }
    }
    previous
}

fn element(raw: Raw, layout: &Layout) -> Option<Element> {
    if raw.flags & element_flag::CATCHALL != 0 {
        return Some(raw.with(Key::CatchAll));
    }
    let mut parts = vec![];
    let mut offset = 0;
    for field in &layout.key.0 {
        let order = layout.key_order(field.order);
        let low = atom(raw.key.get(offset..offset + field.bytes)?, *field, order)?;
        parts.push(match &raw.key_end {
            Some(end) => match atom(end.get(offset..offset + field.bytes)?, *field, order)? {
                high if high == low => KeyPart::One(low),
                high => KeyPart::Range(low, high),
            },
            None => KeyPart::One(low),
        });
        offset += field.padded();
    }
    Some(raw.with(Key::Fields(parts)))
}

/// A constant from the wire.
fn atom(bytes: &[u8], field: Shape, order: Order) -> Option<Atom> {
    let number = || {
        let mut wide = [0; 4];
        let start = wide.len().checked_sub(bytes.len())?;
        wide[start..].copy_from_slice(bytes);
        if order == Order::Host && cfg!(target_endian = "little") {
            wide[start..].reverse();
        }
        Some(u32::from_be_bytes(wide))
    };
    let byte = || u8::try_from(number()?).ok();
    Some(match field.datatype {
        Datatype::Ipv4Addr => Atom::Ipv4(<[u8; 4]>::try_from(bytes).ok()?.into()),
        Datatype::Ipv6Addr => Atom::Ipv6(<[u8; 16]>::try_from(bytes).ok()?.into()),
        Datatype::EtherAddr => Atom::Ether(bytes.try_into().ok()?),
        Datatype::Ifname => {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            Atom::Ifname(String::from_utf8(bytes[..end].to_vec()).ok()?)
        }
        Datatype::InetProto => Atom::InetProto(byte()?),
        Datatype::InetService => Atom::InetService(u16::try_from(number()?).ok()?),
        Datatype::Mark => Atom::Mark(number()?),
        Datatype::CtState => Atom::CtState(number()?),
        Datatype::CtStatus => Atom::CtStatus(number()?),
        Datatype::IcmpType => Atom::IcmpType(byte()?),
        Datatype::Icmpv6Type => Atom::Icmpv6Type(byte()?),
        Datatype::Dscp => Atom::Dscp(byte()?),
        Datatype::PktType => Atom::PktType(byte()?),
        Datatype::NfProto => Atom::NfProto(byte()?),
        Datatype::TcpFlags => Atom::TcpFlags(byte()?),
        Datatype::Integer(1) => Atom::U8(byte()?),
        Datatype::Integer(2) => Atom::U16(u16::try_from(number()?).ok()?),
        Datatype::Integer(_) | Datatype::HostInteger | Datatype::Ifindex => Atom::U32(number()?),
    })
}
