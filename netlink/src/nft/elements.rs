//! Elements of sets, streamed into as many messages as they need.
//!
//! A set with one field and `interval` holds the start of each range and, marked as an end, the value after it;
//! a range up to the highest value has no end. A set with several fields holds both keys in one element.

use super::batch::Batch;
use super::buffer::{ATTRIBUTE_BYTES_MAX, Buffer};
use super::declare::put_comment;
use super::error::EncodeError;
use super::types::{Order, Type, bounds, put};
use super::uapi::{NLM_F_CREATE, attr, element_flag, message, udata, verdict_code};
use glacis_plan::nft::{Element, ElementData, Elements, Key, KeyPart, MapData, Name, Set, Verdict};

/// Longest encoding of one element: two keys and a value of 64 bytes, a comment and the headers.
const ELEMENT_BYTES_MAX: usize = 1_024;

/// Where elements go.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub family: u8,
    pub table: &'a Name,
    pub set: &'a str,
    /// The number of a set that is declared in the same batch; anonymous sets are found by it alone.
    pub id: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Add,
    Delete,
}

/// What the elements of a set look like.
#[derive(Debug)]
pub struct Layout {
    pub key: Type,
    pub data: Option<Type>,
    pub interval: bool,
    /// Overlapping and adjacent ranges become one.
    pub merge: bool,
}

impl Layout {
    pub fn of(set: &Set) -> Self {
        let data = match &set.data {
            Some(MapData::Value(types)) => Some(Type::of(types)),
            Some(MapData::Verdict) | None => None,
        };
        let merge = set.flags.auto_merge && set.data.is_none();
        Self { key: Type::of(&set.key), data, interval: set.flags.interval, merge }
    }

    /// Interval sets compare keys byte by byte, so their keys are in network order.
    pub fn key_order(&self, field_order: Order) -> Order {
        if self.interval { Order::Network } else { field_order }
    }
}

/// Bytes that the elements will take, roughly: to size the batch once.
pub fn estimate(elements: &Elements) -> usize {
    match elements {
        Elements::List(list) => list.len() * 64,
        Elements::Ipv4Ranges(list) => list.len() * 44,
        Elements::Ipv6Ranges(list) => list.len() * 68,
        Elements::Runtime => 0,
    }
}

/// Writes the messages that add or delete the elements; none for no elements.
pub fn write(
    batch: &mut Batch,
    target: Target<'_>,
    layout: &Layout,
    change: Change,
    elements: &Elements,
) -> Result<(), EncodeError> {
    let mut stream = Stream { batch, target, change, open: None };
    let written = match elements {
        Elements::Runtime => Ok(()),
        Elements::List(list) if layout.interval && !layout.key.is_concatenation() => {
            stream.intervals(layout, list)
        }
        Elements::List(list) => list.iter().try_for_each(|element| stream.element(layout, element)),
        Elements::Ipv4Ranges(list) => {
            for (low, high) in list {
                let end = u32::from(*high).checked_add(1).map(u32::to_be_bytes);
                stream.range(&low.octets(), end.as_ref().map(<[u8; 4]>::as_slice));
            }
            Ok(())
        }
        Elements::Ipv6Ranges(list) => {
            for (low, high) in list {
                let end = u128::from(*high).checked_add(1).map(u128::to_be_bytes);
                stream.range(&low.octets(), end.as_ref().map(<[u8; 16]>::as_slice));
            }
            Ok(())
        }
    };
    stream.close();
    written
}

struct Stream<'b, 'a> {
    batch: &'b mut Batch,
    target: Target<'a>,
    change: Change,
    /// Where the open message and its list of elements start.
    open: Option<(usize, usize)>,
}

impl Stream<'_, '_> {
    /// Room for one more element, in a new message when the open one is full.
    fn room(&mut self) -> &mut Buffer {
        if let Some((_, list)) = self.open
            && self.batch.buffer().len() - list + ELEMENT_BYTES_MAX > ATTRIBUTE_BYTES_MAX
        {
            self.close();
        }
        if self.open.is_none() {
            let (kind, flags) = match self.change {
                Change::Add => (message::NEW_ELEMENT, NLM_F_CREATE),
                Change::Delete => (message::DEL_ELEMENT, 0),
            };
            let at = self.batch.begin(kind, flags, self.target.family);
            let buffer = self.batch.buffer();
            buffer.put_text(attr::elements::TABLE, self.target.table.as_str());
            buffer.put_text(attr::elements::SET, self.target.set);
            if let Some(id) = self.target.id {
                buffer.put_u32(attr::elements::SET_ID, id);
            }
            self.open = Some((at, buffer.begin_nest(attr::elements::ELEMENTS)));
        }
        self.batch.buffer()
    }

    fn close(&mut self) {
        if let Some((at, list)) = self.open.take() {
            self.batch.buffer().end_nest(list);
            self.batch.buffer().end_message(at);
        }
    }

    /// A range without anything else: start and, unless it runs to the top, end.
    fn range(&mut self, low: &[u8], end: Option<&[u8]>) {
        self.room().nest(attr::LIST_ELEM, |b| put_key(b, attr::element::KEY, low));
        if let Some(end) = end {
            self.end(end);
        }
    }

    fn end(&mut self, key: &[u8]) {
        self.room().nest(attr::LIST_ELEM, |b| {
            put_key(b, attr::element::KEY, key);
            b.put_u32(attr::element::FLAGS, element_flag::INTERVAL_END);
        });
    }

    /// Elements of a set with one field and `interval`, in ascending order.
    fn intervals(&mut self, layout: &Layout, list: &[Element]) -> Result<(), EncodeError> {
        let mut ranges = Vec::with_capacity(list.len());
        for element in list {
            match &element.key {
                Key::CatchAll => self.element(layout, element)?,
                Key::Fields(parts) => {
                    let [part] = parts.as_slice() else {
                        return Err(EncodeError::WrongFieldCount { found: parts.len(), wanted: 1 });
                    };
                    let (low, high) = bounds(part, layout.key.0[0], Order::Network)?;
                    ranges.push((low, high, element));
                }
            }
        }
        ranges.sort_by(|a, b| a.0.cmp(&b.0));
        if layout.merge {
            merge(&mut ranges);
        }
        for (low, high, element) in ranges {
            let buffer = self.room();
            let at = buffer.begin_nest(attr::LIST_ELEM);
            put_key(buffer, attr::element::KEY, &low);
            let rest = put_rest(buffer, layout, element, 0);
            buffer.end_nest(at);
            rest?;
            if let Some(end) = successor(&high) {
                self.end(&end);
            }
        }
        Ok(())
    }

    /// An element that is one element in the kernel as well.
    fn element(&mut self, layout: &Layout, element: &Element) -> Result<(), EncodeError> {
        let buffer = self.room();
        let at = buffer.begin_nest(attr::LIST_ELEM);
        let result = put_element(buffer, layout, element);
        buffer.end_nest(at);
        result
    }
}

fn put_element(buffer: &mut Buffer, layout: &Layout, element: &Element) -> Result<(), EncodeError> {
    let Key::Fields(parts) = &element.key else {
        return put_rest(buffer, layout, element, element_flag::CATCHALL);
    };
    let (low, high) = keys(layout, parts)?;
    put_key(buffer, attr::element::KEY, &low);
    if layout.interval {
        put_key(buffer, attr::element::KEY_END, &high);
    }
    put_rest(buffer, layout, element, 0)
}

/// First and last key of an element, concatenated fields padded to four bytes.
fn keys(layout: &Layout, parts: &[KeyPart]) -> Result<(Vec<u8>, Vec<u8>), EncodeError> {
    let fields = &layout.key.0;
    if parts.len() != fields.len() {
        return Err(EncodeError::WrongFieldCount { found: parts.len(), wanted: fields.len() });
    }
    let (mut low, mut high) = (vec![], vec![]);
    for (part, field) in parts.iter().zip(fields) {
        if !layout.interval && !matches!(part, KeyPart::One(_)) {
            return Err(EncodeError::Unsupported("a range or prefix is in a set without `interval`"));
        }
        let (first, last) = bounds(part, *field, layout.key_order(field.order))?;
        low.extend(first);
        high.extend(last);
        if layout.key.is_concatenation() {
            low.resize(low.len().next_multiple_of(4), 0);
            high.resize(high.len().next_multiple_of(4), 0);
        }
    }
    Ok((low, high))
}

fn put_key(buffer: &mut Buffer, kind: u16, key: &[u8]) {
    buffer.nest(kind, |b| b.put(attr::data::VALUE, key));
}

/// Everything of an element but its key.
fn put_rest(buffer: &mut Buffer, layout: &Layout, element: &Element, flags: u32) -> Result<(), EncodeError> {
    match (&element.data, &layout.data) {
        (None, _) => {}
        (Some(ElementData::Verdict(verdict)), _) => {
            buffer.nest(attr::element::DATA, |b| put_verdict(b, verdict));
        }
        (Some(ElementData::Value(atoms)), Some(data)) => {
            let value = value(atoms, data)?;
            buffer.nest(attr::element::DATA, |b| b.put(attr::data::VALUE, &value));
        }
        (Some(ElementData::Value(_)), None) => {
            return Err(EncodeError::Unsupported("an element has a value and its set has none"));
        }
    }
    if flags != 0 {
        buffer.put_u32(attr::element::FLAGS, flags);
    }
    if let Some(timeout) = element.timeout {
        buffer.put_u64(attr::element::TIMEOUT, timeout.as_millis() as u64);
    }
    if let Some(expires) = element.expires {
        buffer.put_u64(attr::element::EXPIRATION, expires.as_millis() as u64);
    }
    if let Some(comment) = &element.comment {
        put_comment(buffer, attr::element::USERDATA, udata::COMMENT, comment)?;
    }
    Ok(())
}

/// The value of a map's element.
fn value(atoms: &[glacis_plan::nft::Atom], data: &Type) -> Result<Vec<u8>, EncodeError> {
    if atoms.len() != data.0.len() {
        return Err(EncodeError::WrongFieldCount { found: atoms.len(), wanted: data.0.len() });
    }
    let mut out = vec![];
    for (atom, field) in atoms.iter().zip(&data.0) {
        put(&mut out, atom, *field, field.order)?;
        if data.is_concatenation() {
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
    Ok(out)
}

pub fn put_verdict(buffer: &mut Buffer, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (verdict_code::ACCEPT, None),
        Verdict::Drop => (verdict_code::DROP, None),
        Verdict::Continue => (verdict_code::CONTINUE, None),
        Verdict::Return => (verdict_code::RETURN, None),
        Verdict::Jump(chain) => (verdict_code::JUMP, Some(chain)),
        Verdict::Goto(chain) => (verdict_code::GOTO, Some(chain)),
    };
    buffer.nest(attr::data::VERDICT, |b| {
        b.put_u32(attr::verdict::CODE, code as u32);
        if let Some(chain) = chain {
            b.put_text(attr::verdict::CHAIN, chain.as_str());
        }
    });
}

/// The next value; `None` after the highest.
fn successor(value: &[u8]) -> Option<Vec<u8>> {
    let mut next = value.to_vec();
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

/// Joins sorted ranges that overlap or touch; the first element of a group stands for it.
fn merge(ranges: &mut Vec<(Vec<u8>, Vec<u8>, &Element)>) {
    ranges.dedup_by(|next, kept| {
        let touches = successor(&kept.1).is_none_or(|end| next.0 <= end);
        if touches && next.1 > kept.1 {
            kept.1.clone_from(&next.1);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_after_the_highest_is_none() {
        assert_eq!(successor(&[0, 255]), Some(vec![1, 0]));
        assert_eq!(successor(&[255, 255]), None);
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        let element = Element::new(Key::CatchAll);
        let range = |low: u8, high: u8| (vec![low], vec![high], &element);
        let mut ranges = vec![range(1, 5), range(2, 3), range(6, 9), range(11, 255), range(200, 210)];
        merge(&mut ranges);
        let bounds: Vec<_> = ranges.iter().map(|(low, high, _)| (low[0], high[0])).collect();
        assert_eq!(bounds, [(1, 9), (11, 255)]);
    }
}
